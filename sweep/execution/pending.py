"""Trials that have not ended, found quickly, and a word to the user where they wait for room on the cluster."""

import time
from collections.abc import Callable, Sequence
from typing import Any, final

from ray.tune import Callback
from ray.tune.experiment import Trial

SAID_AFTER_S = 30.0
"""A trial's process takes some seconds to come up where there is room; this long it waits for more than that."""

SAID_AGAIN_AFTER_S = 300.0
"""How soon it is said again while the numbers stay."""

_ENDED = (Trial.TERMINATED, Trial.ERROR)


@final
class LiveTrials:
    """Follows a list of trials that only grows, as Ray Tune's does.

    One that ended does not begin again: what lost its node, or was put aside, comes as another of Tune's trials.

    Tune asks its callbacks and schedulers at each report; to look at all trials each time is nothing for a hundred and
    takes longer than the rest of a report for ten thousand.
    """

    def __init__(self) -> None:
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


@final
class Waiting(Callback):  # type: ignore[misc]
    """Watches how many trials run and how many wait."""

    def __init__(self, say: Callable[[int, int], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no trial.

        Args:
            say: called with the number of trials that wait and of those that run.
            clock: seconds from any start.
        """
        self._say, self._clock = say, clock
        self._since: float | None = None
        self._said: tuple[int, int] | None = None
        self._said_at = 0.0
        self._live = LiveTrials()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: see Recorder."""
        return {}

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:  # noqa: ARG002 - Tune's
        """Look at all trials that have not ended."""
        live = self._live.of(trials)
        waiting = sum(trial.status == Trial.PENDING for trial in live)
        if not waiting:
            self._since = self._said = None
            return
        now = self._clock()
        if self._since is None:
            self._since = now
        counts = waiting, sum(trial.status == Trial.RUNNING for trial in live)
        is_due = counts != self._said or now - self._said_at >= SAID_AGAIN_AFTER_S
        if now - self._since >= SAID_AFTER_S and is_due:
            self._said, self._said_at = counts, now
            self._say(*counts)
