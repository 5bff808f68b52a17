"""Successive halving within one cell: at which epochs a trial is judged, and whether it goes on. No Ray here.

`CellASHA` judges each trial when it arrives (Li et al., 2020); `CellHalving` lets trials wait for each other (Jamieson
and Talwalkar, 2016), so that its verdicts do not hang on who comes first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from sweep.study.rungs import REDUCTION_FACTOR

Verdict = Literal["continue", "stop", "pause"]
"""`pause`: the trial is put aside until others have come as far; a later decision says what becomes of it."""


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided about one trial at one rung, and by which numbers."""

    trial_id: str
    epoch: int
    """The rung: the epoch after which the trial was judged."""
    error: float
    """The error that the trial was judged by, a fraction in [0, 1] or NaN."""
    cutoff: float
    """The highest error that went on by its rank when the verdict was given; infinite where only NaN had arrived."""
    num_results: int
    """Trials that had arrived at the rung, this one included."""
    verdict: Verdict
    """`continue` with an error above the cutoff: no other trial of the cell was left that could complete."""


@final
class CellASHA:
    """The rungs of one cell and who has arrived at them.

    A trial arrives at a rung with its error after that epoch. It goes on if it is among the best n // keep_one_in of
    the n trials that have arrived so far, itself included, or the best one where that is none. Who ties with the last
    of them goes on too. NaN is worse than any error and never goes on by its rank. A decision is final: what arrives
    later changes no earlier one.

    Whatever its rank, a trial goes on unless another trial of the cell has completed or can still complete, which is
    one that was added, has not ended and was not told to stop. So a cell whose trials do not end by themselves has a
    full-length one, whatever the order of arrivals.
    """

    def __init__(self, rungs: Sequence[int], keep_one_in: int = REDUCTION_FACTOR) -> None:
        self._keep_one_in = keep_one_in
        self._errors: dict[int, list[float]] = {rung: [] for rung in rungs}
        self._decided: dict[tuple[str, int], Decision] = {}
        self._alive: set[str] = set()
        self._has_completed = False

    def add(self, trial_id: str) -> None:
        """Count a trial among those that can still complete."""
        self._alive.add(trial_id)

    def end(self, trial_id: str, *, completed: bool) -> list[Decision]:
        """Count a trial that ended no longer among those that can still complete; no other one waits for that."""
        self._alive.discard(trial_id)
        self._has_completed = self._has_completed or completed
        return []

    def restore(self, decision: Decision) -> None:
        """Put a trial on the rung where it was judged before the run was resumed."""
        if decision.epoch in self._errors:
            self._errors[decision.epoch].append(decision.error)
            self._decided[decision.trial_id, decision.epoch] = decision

    def decide(self, trial_id: str, epoch: int, error: float) -> Decision | None:
        """Return whether a trial goes on after an epoch; None where that epoch is no rung.

        Asked again about the same trial and epoch, the answer is the first one.
        """
        if epoch not in self._errors:
            return None
        if (trial_id, epoch) not in self._decided:
            self._decided[trial_id, epoch] = self._judge(trial_id, epoch, error)
        return self._decided[trial_id, epoch]

    def arrive(self, trial_id: str, epoch: int, error: float) -> list[Decision]:
        """Return what `decide` does, as `CellHalving.arrive` does."""
        decision = self.decide(trial_id, epoch, error)
        return [] if decision is None else [decision]

    def _judge(self, trial_id: str, epoch: int, error: float) -> Decision:
        arrived = self._errors[epoch]
        arrived.append(error)
        best = sorted(value for value in arrived if not math.isnan(value))
        places = max(1, len(arrived) // self._keep_one_in)
        # With fewer errors than places, all of them go on.
        cutoff = best[min(places, len(best)) - 1] if best else math.inf
        others_left = self._has_completed or bool(self._alive - {trial_id})
        # Not the other way round: a comparison with NaN is false.
        goes_on = error <= cutoff or not others_left
        if not goes_on:
            self._alive.discard(trial_id)
        return Decision(
            trial_id=trial_id,
            epoch=epoch,
            error=error,
            cutoff=cutoff,
            num_results=len(arrived),
            verdict="continue" if goes_on else "stop",
        )


@final
class CellHalving:
    """The rungs of a cell at which trials wait for each other, in brackets: successive halving.

    A bracket is so many of the cell's trials, by their numbers, that one is left after the last rung: 0 to 3, 4 to 7
    and so on where the better half goes on from each of two. Once each that is left of a bracket has arrived at a rung
    or ended by itself, the best go on: the bracket's size divided by the reduction factor for each rung so far, one at
    the least, and those that tie with the last of them; NaN is the worst. So what goes on hangs on the errors alone,
    not on the order in which trials come, and a search that learns from its trials waits for one bracket at a time.
    """

    def __init__(self, rungs: Sequence[int], keep_one_in: int, trials: int) -> None:
        """Begin with nobody on the rungs.

        Args:
            rungs: the epochs after which trials are judged, in order.
            keep_one_in: one trial in this many goes on from each rung.
            trials: of the cell in all; the last bracket may be smaller.
        """
        self._rungs, self._keep_one_in, self._trials = tuple(rungs), keep_one_in, trials
        self._size = min(keep_one_in ** len(rungs), trials)
        self._arrived: dict[tuple[int, int], tuple[str, float]] = {}
        self._ended: set[int] = set()
        self._decided: dict[tuple[int, int], Decision] = {}

    def add(self, trial_id: str) -> None:
        """Do nothing: a bracket's trials are known by their numbers."""

    def restore(self, decision: Decision) -> None:
        """Keep what was decided before the run was resumed."""
        self._decided[_number(decision.trial_id), decision.epoch] = decision

    def arrive(self, trial_id: str, epoch: int, error: float) -> list[Decision]:
        """Return what is decided now that a trial has come to a rung: about it, that it waits at the least.

        Of a trial that was judged there before, that verdict is returned alone; nothing is at an epoch that is no rung.
        """
        if epoch not in self._rungs:
            return []
        number = _number(trial_id)
        if (number, epoch) in self._decided:
            return [self._decided[number, epoch]]
        self._arrived[number, epoch] = (trial_id, error)
        decisions = self._judge(number)
        num_results = sum(self._arrived.get((member, epoch)) is not None for member in self._bracket(number))
        wait = Decision(
            trial_id=trial_id, epoch=epoch, error=error, cutoff=math.inf, num_results=num_results, verdict="pause"
        )
        return decisions or [wait]

    def end(self, trial_id: str, *, completed: bool = False) -> list[Decision]:  # noqa: ARG002 - as CellASHA's
        """Return what is decided now that a trial has ended, for any reason, and need not be waited for."""
        number = _number(trial_id)
        if number in self._ended:
            return []
        self._ended.add(number)
        for rung in self._rungs:
            self._arrived.pop((number, rung), None)
        return self._judge(number)

    def _bracket(self, number: int) -> range:
        first = number // self._size * self._size
        return range(first, min(first + self._size, self._trials))

    def _judge(self, number: int) -> list[Decision]:
        """Judge the bracket of a trial at the first rung that is not settled, if all have come that will."""
        bracket = self._bracket(number)
        left = set(bracket)
        for passed, rung in enumerate(self._rungs, start=1):
            settled = [self._decided[member, rung] for member in left if (member, rung) in self._decided]
            if settled:
                left -= {_number(decision.trial_id) for decision in settled if decision.verdict == "stop"}
                continue
            arrived = {
                member: self._arrived[member, rung] for member in sorted(left) if (member, rung) in self._arrived
            }
            if not arrived or any(member not in self._ended and member not in arrived for member in left):
                return []
            return self._rank(arrived, rung, max(1, len(bracket) // self._keep_one_in**passed))
        return []

    def _rank(self, arrived: Mapping[int, tuple[str, float]], rung: int, places: int) -> list[Decision]:
        errors = {member: math.inf if math.isnan(error) else error for member, (_, error) in arrived.items()}
        cutoff = sorted(errors.values())[min(places, len(errors)) - 1]
        for member, (trial_id, error) in arrived.items():
            self._decided[member, rung] = Decision(
                trial_id=trial_id,
                epoch=rung,
                error=error,
                cutoff=cutoff,
                num_results=len(arrived),
                verdict="continue" if errors[member] <= cutoff else "stop",
            )
        return [self._decided[member, rung] for member in arrived]


def _number(trial_id: str) -> int:
    """Return a trial's number within its cell, with which its id ends."""
    return int(trial_id.rpartition("_")[2])
