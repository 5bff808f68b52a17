"""What happens while trials run, for those who show it or pass it on."""

from collections.abc import Mapping

from sweep.record.schema import EpochRow, TrialRow
from trainables.config import TrialConfig


class Listener:
    """Hears of everything and does nothing; subclasses do something about what they care for, quickly."""

    def changed(self, row: TrialRow) -> None:
        """Take a trial's row when it begins, after each epoch, and when it ends."""

    def reported(self, row: TrialRow, epoch: EpochRow) -> None:
        """Take an epoch that a trial has just trained."""

    def ended(self, row: TrialRow) -> None:
        """Take the row of a trial that is in a final state now."""

    def restarted(self, row: TrialRow) -> None:
        """Take the row of a trial that is restarted: it lost its node, or its `fault` may be its neighbours' doing."""

    def waiting(self, waiting: int, running: int) -> None:
        """Take how many trials wait for room on the cluster, and how many run, where some have waited for long."""

    def confirming(self, wanted: Mapping[str, TrialConfig]) -> None:
        """Take the trials of the second phase, by trial_id, before they begin."""

    def troubled(self, error: OSError | None) -> None:
        """Take why the record cannot be written, and None once it can be again."""

    def flushed(self) -> None:
        """Hear that the record has been written."""
