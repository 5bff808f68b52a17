"""Successive halving within one cell: at which epochs a trial is judged, and whether it goes on. No Ray here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from trainables.config import TrialConfig

REDUCTION_FACTOR = 4
"""One trial in this many goes on from each rung, unless the user says otherwise: ASHA's eta."""

Verdict = Literal["go on", "stop"]


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided about one trial at one rung, and by which numbers."""

    trial_id: str
    epoch: int
    """The rung: the epoch after which the trial was judged."""
    error: float
    """The trial's error after that epoch, a fraction in [0, 1] or NaN."""
    cut: float
    """The highest error that went on by its rank when this trial arrived; infinite where only NaN had arrived."""
    arrivals: int
    """Trials that had arrived at the rung, this one included."""
    verdict: Verdict
    """`go on` with an error above the cut: no other trial of the cell was left that could complete."""


def rungs_of(config: TrialConfig, first_rung: int | None = None, reduction_factor: int = REDUCTION_FACTOR) -> list[int]:
    """Return the epochs after which trials are judged, in order; the last epoch is none of them.

    Args:
        config: a trial of the study.
        first_rung: the first of them; the next ones are `reduction_factor` times as late each. None judges one epoch
            after each drop of the learning rate: before the first, small rates look better than they end.
        reduction_factor: ASHA's eta.
    """
    if first_rung is None:
        return sorted({drop + 1 for drop in config.drop_epochs if drop + 1 < config.epochs})
    rungs = []
    while first_rung < config.epochs:
        rungs.append(first_rung)
        first_rung *= reduction_factor
    return rungs


@final
class CellASHA:
    """The rungs of one cell and who has arrived at them.

    A trial arrives at a rung with its error after that epoch. It goes on if it is among the best n // eta of the n
    trials that have arrived so far, itself included, or the best one where that is none. Who ties with the last of them
    goes on too. NaN is worse than any error and never goes on by its rank. A decision is final: what arrives later
    changes no earlier one.

    Whatever its rank, a trial goes on unless another trial of the cell has completed or can still complete, which is
    one that was added, has not ended and was not told to stop. So a cell whose trials do not end by themselves has a
    full-length one, whatever the order of arrivals.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int = REDUCTION_FACTOR) -> None:
        """Begin with nobody on the rungs."""
        self._reduction_factor = reduction_factor
        self._errors: dict[int, list[float]] = {rung: [] for rung in rungs}
        self._decided: dict[tuple[str, int], Decision] = {}
        self._alive: set[str] = set()
        self._has_completed = False

    def add(self, trial_id: str) -> None:
        """Count a trial among those that can still complete."""
        self._alive.add(trial_id)

    def end(self, trial_id: str, *, completed: bool) -> None:
        """Count a trial no longer among those that can still complete, whyever it ended."""
        self._alive.discard(trial_id)
        self._has_completed = self._has_completed or completed

    def arrive(self, epoch: int, error: float) -> None:
        """Put an error on a rung without a decision: that of a trial which ended before the run was resumed."""
        if epoch in self._errors:
            self._errors[epoch].append(error)

    def decide(self, trial_id: str, epoch: int, error: float) -> Decision | None:
        """Return whether a trial goes on after an epoch; None where that epoch is no rung.

        Asked again about the same trial and epoch, the answer is the first one.
        """
        if epoch not in self._errors:
            return None
        if (trial_id, epoch) not in self._decided:
            self._decided[trial_id, epoch] = self._judge(trial_id, epoch, error)
        return self._decided[trial_id, epoch]

    def _judge(self, trial_id: str, epoch: int, error: float) -> Decision:
        arrived = self._errors[epoch]
        arrived.append(error)
        best = sorted(value for value in arrived if not math.isnan(value))
        places = max(1, len(arrived) // self._reduction_factor)
        # With fewer errors than places, all of them go on.
        cut = best[min(places, len(best)) - 1] if best else math.inf
        others_left = self._has_completed or bool(self._alive - {trial_id})
        # Not the other way round: a comparison with NaN is false.
        goes_on = error <= cut or not others_left
        if not goes_on:
            self._alive.discard(trial_id)
        return Decision(
            trial_id=trial_id,
            epoch=epoch,
            error=error,
            cut=cut,
            arrivals=len(arrived),
            verdict="go on" if goes_on else "stop",
        )
