"""When an execution of a run has to end, and what still fits before it.

`--time-limit` sets a deadline, and so does SIGTERM, which Slurm and Kubernetes send some time before SIGKILL. A trial
stops after the last epoch that fits, with its checkpoint; a trial of which no epoch fits does not begin. What is left
is for `--resume`.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, final

from ray.tune.search import Searcher

CLOSING_S, CLOSING_SHARE, LONGEST_CLOSING_S = 10.0, 0.05, 30.0
"""What ending the trials, writing the record and shutting Ray down may take, hence how long before the deadline trials
end: a twentieth of the time, but at least and at most so many seconds."""

AFTER_SIGTERM_S = 30.0
"""How long after SIGTERM a process must expect SIGKILL: the usual grace of Slurm and Kubernetes."""

MARGIN = 1.2
"""How much longer than the longest so far the next epoch may take."""


@final
class Deadline:
    """The end of this execution; there is none until `end_within` sets one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without one.

        Args:
            clock: seconds from any start.
        """
        self._clock = clock
        self._training_ends = math.inf
        self._epoch_s: dict[str, float] = {}
        self._has_stopped = self._is_last_epoch = False

    def end_within(self, seconds: float) -> None:
        """Set the end, from now on; one that is set and comes earlier stays."""
        closing = min(max(CLOSING_S, CLOSING_SHARE * seconds), LONGEST_CLOSING_S)
        self._training_ends = min(self._training_ends, self._clock() + seconds - closing)

    def end_after_epoch(self) -> None:
        """Let each trial finish the epoch that it is in, as far as the time between SIGTERM and SIGKILL allows."""
        self._has_stopped = self._is_last_epoch = True
        self.end_within(AFTER_SIGTERM_S)

    @property
    def training_ends_at(self) -> datetime:
        """When trials end at the latest; there must be an end."""
        return datetime.now() + timedelta(seconds=self._training_ends - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether trials must end now, in the middle of an epoch too."""
        return self._clock() >= self._training_ends

    @property
    def is_near(self) -> bool:
        """Whether a trial was stopped, or not begun, for lack of time: what ends now without being done is pending."""
        return self._has_stopped or self.is_over

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take from rows of `trials` how long an epoch of each cell takes."""
        for row in rows:
            if row["epochs_run"]:
                self._note(_cell(row), (row["duration_s"] or row["train_s"]) / row["epochs_run"])

    def stops(self, cell: str, report: Mapping[str, Any]) -> bool:
        """Return whether a trial stops after an epoch, since the next one would not end in time.

        Args:
            cell: the trial's.
            report: what its `EpochReport` holds.
        """
        self._note(cell, report["epoch_s"])
        if report["state"] != "running" or (self._fits(cell) and not self._is_last_epoch):
            return False
        self._has_stopped = True
        return True

    def refuses(self, cell: str) -> bool:
        """Return whether a trial of a cell is not begun, since not one epoch of it would end in time."""
        if self._fits(cell):
            return False
        self._has_stopped = True
        return True

    def _note(self, cell: str, seconds: float) -> None:
        self._epoch_s[cell] = max(seconds, self._epoch_s.get(cell, 0.0))

    def _fits(self, cell: str) -> bool:
        # Of a cell that has not trained yet, what is known of the others is the best guess.
        longest = self._epoch_s.get(cell, max(self._epoch_s.values(), default=0.0))
        return self._clock() + MARGIN * longest < self._training_ends


@final
class PunctualSearcher(Searcher):  # type: ignore[misc]
    """Passes all that happens to another searcher, and ends the search once the next trial no longer fits."""

    def __init__(self, inner: Searcher, deadline: Deadline) -> None:
        super().__init__(metric=inner.metric, mode=inner.mode)
        self._inner, self._deadline = inner, deadline

    def suggest(self, trial_id: str) -> Any:
        """Return the inner searcher's next trial, if one of its epochs fits."""
        if self._deadline.is_near:
            return Searcher.FINISHED
        suggested = self._inner.suggest(trial_id)
        if isinstance(suggested, Mapping) and self._deadline.refuses(suggested["cell"]):
            return Searcher.FINISHED
        return suggested

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass it on."""
        self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass it on."""
        self._inner.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Pass it on."""
        self._inner.save(checkpoint_path)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}/{row['augmentation']}/{row['variant']}"
