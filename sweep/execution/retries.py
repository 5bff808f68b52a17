"""What a trial that failed comes to: begun again elsewhere, once more by itself, or failed for good."""

import pickle
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.execution.failures import fault_of
from sweep.execution.pending import LiveTrials
from sweep.record.schema import Fault
from sweep.search.searcher import TrialSearcher


@final
@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one attempt at a trial failed."""

    fault: Fault
    reason: str
    """In a line."""
    signature: str
    """The error's type and place: the same for two trials that fail alike."""
    traceback: str
    """As Python printed it; empty where a process ended without a word."""
    is_tried_again: bool


def failure_of(trial: Trial) -> Failure:
    """Return how a trial failed that Ray Tune found in error."""
    # Tune keeps both beside the trial's other files; get_error() would look in the run's storage, too early.
    fault: Fault = "code"
    if (error := _unpickled(trial.pickled_error_file)) is not None:
        fault = fault_of(error)
    text = Path(trial.error_file).read_text() if trial.error_file and Path(trial.error_file).is_file() else ""
    if not trial.pickled_error_file and _KILLED_FOR_MEMORY.search(text):
        # Tune keeps of this error of Ray's the text alone; one of a trial's code has the error beside it.
        fault = "out of memory"
    is_alone = trial.config.get("alone", False)
    reason, signature = _in_a_line(fault, text, is_alone=is_alone)
    return Failure(
        fault=fault,
        reason=reason,
        signature=signature,
        traceback=text,
        is_tried_again=fault == "node lost"
        or (fault in ("out of memory", "process died", "shared GPU") and not is_alone),
    )


@final
class LossScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes all that happens to another scheduler, except failures after which a trial is restarted."""

    def __init__(self, inner: TrialScheduler, searcher: TrialSearcher, cut_off: Container[str] = frozenset()) -> None:
        """Wrap a scheduler.

        Args:
            inner: decides all else.
            searcher: told of each failure before Ray Tune tells it that the trial has ended.
            cut_off: Ray's ids of the trials that were stopped with the run: no other trial may be judged as if they
                were done.
        """
        super().__init__()
        self._inner, self._searcher, self._cut_off = inner, searcher, cut_off
        self._live = LiveTrials()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on, unless the trial is restarted."""
        failure = failure_of(trial)
        if failure.is_tried_again:
            self._searcher.lost(trial.config["trial_id"], alone=failure.fault != "node lost")
        else:
            self._searcher.failed(trial.config["trial_id"], failure.signature)
            self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass it on."""
        return self._inner.on_trial_result(tune_controller, trial, result)  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Pass it on, unless the trial was stopped with the run."""
        if trial.trial_id not in self._cut_off:
            self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the first trial that waits, as each of the inner schedulers would after a look at all that ended."""
        live = self._live.of(tune_controller.get_trials())
        return next((trial for trial in live if trial.status == Trial.PENDING), None)


def _unpickled(file: str | None) -> BaseException | None:
    if not file or not Path(file).is_file():
        return None
    try:
        error = pickle.loads(Path(file).read_bytes())  # noqa: S301 - this process has just written it
    except Exception:  # an exception of a user's own that cannot be unpickled is none of Ray's
        return None
    return error if isinstance(error, BaseException) else None


_KILLED_FOR_MEMORY = re.compile(
    r"killed due to the node running low on memory.*?was ([\d.]+GB used / [\d.]+GB) limit", re.S
)


def _in_a_line(fault: Fault, text: str, *, is_alone: bool) -> tuple[str, str]:
    if fault == "process died":
        where = "alone on its device" if is_alone else "beside others"
        return f"its process ended without a word while it ran {where}, for want of memory most likely", fault
    if fault == "out of memory" and (killed := _KILLED_FOR_MEMORY.search(text)):
        return f"out of memory: Ray ended its process, since the node's memory was full, {killed[1]}", fault
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no traceback was left", ""
    # The innermost place that is neither Ray's nor a library's: where its writer has to look.
    places = re.findall(r'^ *File "([^"]+)", line (\d+)', text, flags=re.MULTILINE)
    own = [(file, line) for file, line in places if "site-packages" not in file and not file.startswith("<")]
    place = f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own and fault == "code" else ""
    return lines[-1] + place, lines[-1].partition(":")[0] + place
