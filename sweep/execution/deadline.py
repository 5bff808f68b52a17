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

from sweep.record.schema import TrialRow, cell_of

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
        self._reported: dict[str, int] = {}
        self.epochs = 0
        """Epochs trained in this execution."""

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
    def is_ending(self) -> bool:
        """Whether every trial ends now, or after the epoch that it is in."""
        return self._is_last_epoch or self.is_over

    @property
    def is_near(self) -> bool:
        """Whether a trial was stopped, or not begun, for lack of time: what ends now without being done is pending."""
        return self._has_stopped or self.is_over

    def learn(self, rows: Iterable[TrialRow]) -> None:
        """Take from rows of `trials` what is done, and how long an epoch of each cell takes."""
        for row in rows:
            self._reported[row["trial_id"]] = row["epochs_run"] or 0
            if row["epochs_run"]:
                self._note(cell_of(row), (row["duration_s"] or row["train_s"]) / row["epochs_run"])

    def stops(self, trial: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
        """Return whether a trial stops after an epoch, since the next one would not end in time.

        Args:
            trial: `trial_id` and `cell`, as the searchers give them.
            report: what its `EpochReport` holds.
        """
        # A trial that resumes reports its earlier epochs once more.
        if report["epoch"] > self._reported.get(trial["trial_id"], 0):
            self._reported[trial["trial_id"]] = report["epoch"]
            self.epochs += 1
        self._note(trial["cell"], report["epoch_s"])
        return report["state"] == "running" and not self.fits(trial["cell"])

    def fits(self, cell: str) -> bool:
        """Return whether a trial of a cell has the time for an epoch; one that has not is unfinished from then on."""
        # Of a cell that has not trained yet, what is known of the others is the best guess.
        longest = self._epoch_s.get(cell, max(self._epoch_s.values(), default=0.0))
        if not self._is_last_epoch and self._clock() + MARGIN * longest < self._training_ends:
            return True
        self._has_stopped = True
        return False

    def _note(self, cell: str, seconds: float) -> None:
        self._epoch_s[cell] = max(seconds, self._epoch_s.get(cell, 0.0))
