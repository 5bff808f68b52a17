"""All that shows a run, or passes it on to other tools, behind one listener."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from sweep.execution.listener import Listener
from sweep.monitor.lines import Progress
from sweep.monitor.optuna_journal import Journal
from sweep.monitor.prometheus import RunMetrics
from sweep.monitor.screen import Trials
from sweep.monitor.trackers import Trackers
from sweep.record.schema import EpochRow, TrialRow
from trainables.config import TrialConfig


@final
@dataclass(frozen=True, kw_only=True)
class Followers(Listener):
    """Tells each of them what concerns it."""

    trials: Trials
    """What the grid is drawn from."""
    progress: Progress
    metrics: RunMetrics
    journal: Journal | None
    trackers: Trackers
    confirm: Callable[[Mapping[str, TrialConfig]], int]
    """Says what is confirmed, and returns how many trials the run has."""

    def changed(self, row: TrialRow) -> None:
        """Pass the row on."""
        if self.journal is not None:
            self.journal.update(row)
        self.metrics.update(row)
        self.trackers.change(row)
        self.trials.update(row)

    def reported(self, row: TrialRow, epoch: EpochRow) -> None:
        """Pass the epoch on."""
        self.trackers.epoch(row, epoch)

    def ended(self, row: TrialRow) -> None:
        """Print the outcome."""
        self.progress.trial_ended(row)

    def restarted(self, row: TrialRow) -> None:
        """Print why."""
        self.progress.trial_lost(row)

    def waiting(self, waiting: int, running: int) -> None:
        """Print how many wait."""
        self.progress.trials_wait(waiting, running)

    def confirming(self, wanted: Mapping[str, TrialConfig]) -> None:
        """Print what is confirmed, and plan for it."""
        self.metrics.plan(self.confirm(wanted))

    def troubled(self, error: OSError | None) -> None:
        """Print what is wrong with the storage."""
        self.progress.record_troubled(error)

    def flushed(self) -> None:
        """Let the journal write, too."""
        if self.journal is not None:
            self.journal.flush()
