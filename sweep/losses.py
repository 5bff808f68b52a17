"""A trial that loses its node is begun again elsewhere; one whose code fails is not.

A node is lost when its machine dies or is taken back, as spot instances are. That says nothing of the trial, so it is
not a failure, however often it happens. An exception of the trial's own code would come again, and so would the death
of a process alone, of too little memory most likely: those trials have failed.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweep.driver import NodeLostError, is_node_death


def is_loss(error: BaseException) -> bool:
    """Return whether an error, as Ray Tune got it from a trial, is the loss of a node."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, NodeLostError) or is_node_death(cause)


def lost_its_node(trial: Trial) -> bool:
    """Return whether a trial that Ray Tune found in error lost its node."""
    # Tune keeps the error beside the trial's other files; get_error() would look in the run's storage, too early.
    file = trial.pickled_error_file
    if not file or not Path(file).is_file():
        return False
    try:
        error = pickle.loads(Path(file).read_bytes())  # noqa: S301 - this process has just written it
    except Exception:  # an exception of a user's own that cannot be unpickled is none of Ray's
        return False
    return isinstance(error, BaseException) and is_loss(error)


@final
class LossScheduler(TrialScheduler):  # type: ignore[misc]
    """Passes all that happens to another scheduler, except the losses of nodes: those trials go on."""

    def __init__(self, inner: TrialScheduler, lose: Callable[[str], None]) -> None:
        """Wrap a scheduler.

        Args:
            inner: decides all else.
            lose: called with the `trial_id` of each trial that lost its node, before the searcher hears of its end.
        """
        super().__init__()
        self._inner, self._lose = inner, lose

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take the metric."""
        return bool(self._inner.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on, unless the trial is begun again."""
        if lost_its_node(trial):
            self._lose(trial.config["trial_id"])
        else:
            self._inner.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass it on."""
        return self._inner.on_trial_result(tune_controller, trial, result)  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Pass it on."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Pass it on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Pass it on."""
        return self._inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Return the inner scheduler's."""
        return str(self._inner.debug_string())
