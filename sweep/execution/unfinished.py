"""The trials of a run that have not ended, found without looking at all that have."""

from collections.abc import Sequence
from typing import final

from ray.tune.experiment import Trial

_ENDED = (Trial.TERMINATED, Trial.ERROR)


@final
class LiveTrials:
    """Follows a list of trials that only grows, as Ray Tune's does.

    One that ended does not begin again: what lost its node, or was put aside, comes as another of Tune's trials.

    Tune asks its callbacks and schedulers at each report; to look at all trials each time is nothing for a hundred and
    takes longer than the rest of a report for ten thousand.
    """

    def __init__(self) -> None:
        """Begin with no trial."""
        self._seen = 0
        self._live: list[Trial] = []

    def of(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return those that have not ended, in their order.

        Args:
            trials: all, those of the last call first.
        """
        self._live += trials[self._seen :]
        self._seen = len(trials)
        self._live = [trial for trial in self._live if trial.status not in _ENDED]
        return self._live
