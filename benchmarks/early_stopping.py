"""What early stopping saves and what it costs, on recorded full-length curves.

    python -m benchmarks.early_stopping record   # trains the grid of benchmarks/curves.py; SWEEP_DATA names CIFAR-10
    python -m benchmarks.early_stopping replay   # prints the table

`record` may be cut off and called again: it trains what is missing. `replay` runs each seed's trials as a study of its
own against a simulated clock, some at once, through the rules that a sweep uses, and prints a line for each policy.
Under `halving` all trials of a cell wait at a rung until the last has come, and the best of them go on.

- saved: epochs not trained, of all trials at full length; a branch at a rung counts with its share of an epoch. Dead
  starts that end by themselves are saved under every policy but `none`.
- changed: cells in which another learning rate was chosen than without early stopping; in the worst order in brackets.
- lost: cells that no trial completed.
- regret: the error of what was chosen less that of the best, in points, over cells and seeds; the worst in brackets.

A cell chooses the completed trial with the lowest error after the last epoch. Every number but the worst is a mean over
`ORDERS` orders in which a cell's learning rates come; errors are those of images held out of the training split.
"""

import argparse
import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import final

from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from tabulate import tabulate

from benchmarks.curves import BASE, BRANCHES, DECAYS, LEARNING_RATES, Curve, read_curves, record_grid
from sweep.search.halving import CellASHA, CellHalving
from sweep.study.rungs import halving_rungs, rungs_of

FILE = Path(__file__).parent / "data" / "early_stopping.jsonl"
ORDERS = 50
EPOCHS = BASE.epochs
AFTER_DROPS = tuple(rungs_of(BASE))
HALVING = halving_rungs(BASE)


class Judge(ABC):
    """Whether trials go on. Subclasses are final."""

    @abstractmethod
    def begin(self, curve: Curve) -> None:
        """Hear of a trial that starts."""

    @abstractmethod
    def goes_on(self, curve: Curve, epoch: int, error: float) -> bool:
        """Judge a trial after an epoch that is not its last."""

    @abstractmethod
    def end(self, curve: Curve, *, completed: bool) -> None:
        """Hear of a trial that ended."""


@final
class Nobody(Judge):
    """Lets every trial go on."""

    def begin(self, curve: Curve) -> None:
        """Do nothing."""

    def goes_on(self, curve: Curve, epoch: int, error: float) -> bool:  # noqa: ARG002
        """Say yes."""
        return True

    def end(self, curve: Curve, *, completed: bool) -> None:
        """Do nothing."""


@final
class PerCell(Judge):
    """The sweep's own rule."""

    def __init__(self, rungs: Sequence[int], keep_one_in: int) -> None:
        self._rungs, self._keep_one_in = rungs, keep_one_in
        self._cells: dict[str, CellASHA] = {}

    def begin(self, curve: Curve) -> None:
        """Count the trial in its cell."""
        self._cells.setdefault(curve.variant, CellASHA(self._rungs, self._keep_one_in)).add(name(curve))

    def goes_on(self, curve: Curve, epoch: int, error: float) -> bool:
        """Ask the trial's cell."""
        decision = self._cells[curve.variant].decide(name(curve), epoch, error)
        return decision is None or decision.verdict == "continue"

    def end(self, curve: Curve, *, completed: bool) -> None:
        """Tell the trial's cell."""
        self._cells[curve.variant].end(name(curve), completed=completed)


@final
class OnePool(Judge):
    """Ray's ASHA over the trials of all cells."""

    def __init__(self, first_rung: int, reduction_factor: int) -> None:
        self._ray = ASHAScheduler(
            time_attr="epoch",
            metric="error",
            mode="min",
            max_t=EPOCHS + 1,
            grace_period=first_rung,
            reduction_factor=reduction_factor,
        )

    def begin(self, curve: Curve) -> None:
        """Tell Ray."""
        self._ray.on_trial_add(None, _RayTrial(name(curve)))

    def goes_on(self, curve: Curve, epoch: int, error: float) -> bool:
        """Ask Ray."""
        verdict = self._ray.on_trial_result(None, _RayTrial(name(curve)), {"epoch": epoch, "error": error})
        return bool(verdict != TrialScheduler.STOP)

    def end(self, curve: Curve, *, completed: bool) -> None:
        """Do nothing: Ray's rule does not ask who is left."""


@final
@dataclass(frozen=True)
class _RayTrial:
    """As much of Ray's Trial as its ASHA reads."""

    trial_id: str


@final
@dataclass(frozen=True, kw_only=True)
class Policy:
    """One way to stop early."""

    name: str
    judge: Callable[[], Judge]
    judged_by: str = "last"
    """Which of a curve's errors is shown to the judge."""
    rungs: tuple[int, ...] = ()
    """Where a branch is trained, or trials wait; empty for policies without either."""
    share: float = 0.0
    """Of an epoch, that a branch takes."""
    ends_dead_starts: bool = True
    keep_one_in: int = 0
    """Where trials wait at the rungs for each other, one in this many goes on; neither judge nor clock is asked."""


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a policy made of one cell of one seed in one order."""

    cost: float
    """Epochs trained, branches included."""
    budget: int
    """Epochs of all its trials at full length."""
    chosen: float | None
    """Learning rate; None where no trial completed."""
    best: float
    """Learning rate that is chosen without early stopping."""
    regret: float | None
    """Error of the chosen less that of the best, as a fraction."""


def policies() -> list[Policy]:
    """Return the policies to compare."""
    found = [
        Policy(name="none", judge=Nobody, ends_dead_starts=False),
        Policy(name="dead starts end", judge=Nobody),
        Policy(name="Ray's ASHA over all cells, from epoch 1, eta 4", judge=lambda: OnePool(1, 4)),
        Policy(name="Ray's ASHA over all cells, from epoch 9, eta 4", judge=lambda: OnePool(AFTER_DROPS[0], 4)),
    ]
    branches = {branch.name(share): share for branch in BRANCHES for share in branch.shares}
    ways = {"last": 0.0, **{f"averaged {decay:g}": 0.0 for decay in DECAYS}, **branches}
    for judged_by, share in ways.items():
        found += [_per_cell(judged_by, rungs, 4, share) for rungs in ((1, 4), (4,), (8,))]
        found += [_waiting(judged_by, (rung,), 4, share) for rung in (2, 4)]
    found += [_waiting(judged_by, HALVING, 2, 0.0) for judged_by, share in ways.items() if not share]
    found += [_per_cell("last", (1, 2, 4, 8), 2, 0.0), _per_cell("last", (4, 6, 8), 4, 0.0)]
    for rungs in ((AFTER_DROPS[0],), AFTER_DROPS):
        found += [_per_cell("last", rungs, keep_one_in, 0.0) for keep_one_in in (2, 4)]
    return found


def _per_cell(judged_by: str, rungs: tuple[int, ...], keep_one_in: int, share: float) -> Policy:
    return Policy(
        name=f"per cell after {', '.join(map(str, rungs))}, eta {keep_one_in}: {judged_by}",
        judge=lambda: PerCell(rungs, keep_one_in),
        judged_by=judged_by,
        rungs=rungs if share else (),
        share=share,
    )


def _waiting(judged_by: str, rungs: tuple[int, ...], keep_one_in: int, share: float) -> Policy:
    return Policy(
        name=f"halving after {', '.join(map(str, rungs))}, eta {keep_one_in}: {judged_by}",
        judge=Nobody,
        judged_by=judged_by,
        rungs=rungs,
        share=share,
        keep_one_in=keep_one_in,
    )


def name(curve: Curve) -> str:
    """Return what tells a curve from the others."""
    return f"{curve.variant} {curve.lr:g} {curve.seed}"


def simulate(curves: Sequence[Curve], policy: Policy, slots: int) -> dict[str, tuple[int, float]]:
    """Run trials in order, `slots` at once; return the epochs that each had and those that its branches took."""
    judge = policy.judge()
    waiting = list(reversed(curves))
    running: list[tuple[float, int, int, Curve]] = []
    ran: dict[str, tuple[int, float]] = {}

    def seconds(curve: Curve, epoch: int) -> float:
        # A dead start that is not ended trains on as it did.
        of_epoch = curve.seconds[min(epoch, curve.epochs) - 1]
        return of_epoch * (1 + policy.share * (epoch in policy.rungs))

    def start(now: float) -> None:
        curve = waiting.pop()
        judge.begin(curve)
        heapq.heappush(running, (now + seconds(curve, 1), len(curves) - len(waiting), 1, curve))

    while waiting and len(running) < slots:
        start(0.0)
    while running:
        now, place, epoch, curve = heapq.heappop(running)
        last = EPOCHS if not (curve.reason and policy.ends_dead_starts) else curve.epochs
        goes_on = epoch < last
        if goes_on and epoch <= curve.epochs:
            error = curve.errors[policy.judged_by][epoch - 1]
            # Where it was not measured there is no rung.
            goes_on = error is None or judge.goes_on(curve, epoch, error)
        if goes_on:
            heapq.heappush(running, (now + seconds(curve, epoch + 1), place, epoch + 1, curve))
            continue
        judge.end(curve, completed=epoch == EPOCHS and not curve.reason)
        ran[name(curve)] = epoch, policy.share * sum(rung <= epoch for rung in policy.rungs)
        if waiting:
            start(now)
    return ran


def wait(cell: Sequence[Curve], policy: Policy) -> dict[str, tuple[int, float]]:
    """Let a cell's trials come to each rung in order, by the sweep's own rule; times do not matter to it."""
    halving = CellHalving(policy.rungs, policy.keep_one_in, len(cell))
    left = {f"{curve.variant}_{number:04d}": curve for number, curve in enumerate(cell)}
    ran = {}
    for passed, rung in enumerate(policy.rungs, start=1):
        stopped = set()
        for trial_id, curve in left.items():
            error = _error(curve, policy.judged_by, rung) if curve.epochs > rung else None
            decisions = halving.end(trial_id) if error is None else halving.arrive(trial_id, rung, error)
            stopped |= {decision.trial_id for decision in decisions if decision.verdict == "stop"}
        ended = {trial_id: curve for trial_id, curve in left.items() if trial_id in stopped or curve.epochs <= rung}
        for trial_id, curve in ended.items():
            ran[name(curve)] = min(curve.epochs, rung), policy.share * (passed - (curve.epochs < rung))
            del left[trial_id]
    return ran | {name(curve): (curve.epochs, policy.share * len(policy.rungs)) for curve in left.values()}


def choose(curves: Iterable[Curve]) -> Curve | None:
    """Return the completed curve with the lowest last error; of equals that of the smaller learning rate."""
    return min((curve for curve in curves if not curve.reason), key=lambda c: (_final(c), c.lr), default=None)


def outcomes(cells: Sequence[Sequence[Curve]], policy: Policy, slots: int, order: int) -> list[Outcome]:
    """Run one seed's cells as a study; return an outcome for each."""
    shuffled = [random.Random(f"{order} {number}").sample(cell, len(cell)) for number, cell in enumerate(cells)]  # noqa: S311
    # Dealt over the cells in turn, as the sweep's searcher does.
    dealt = [curve for curves in zip(*shuffled, strict=True) for curve in curves]
    if policy.keep_one_in:
        ran = {key: epochs for cell in shuffled for key, epochs in wait(cell, policy).items()}
    else:
        ran = simulate(dealt, policy, slots)
    found = []
    for cell in cells:
        best = choose(cell)
        assert best is not None, "cells without a completed curve were left out"
        chosen = choose(curve for curve in cell if ran[name(curve)][0] == EPOCHS)
        found.append(
            Outcome(
                cost=sum(sum(ran[name(curve)]) for curve in cell),
                budget=EPOCHS * len(cell),
                chosen=chosen.lr if chosen else None,
                best=best.lr,
                regret=_final(chosen) - _final(best) if chosen else None,
            )
        )
    return found


def summarise(runs: Sequence[Sequence[Outcome]]) -> dict[str, str]:
    """Return a line of the table from the outcomes of all cells and seeds, one list for each order."""
    every = [outcome for run in runs for outcome in run]
    regrets = [outcome.regret for outcome in every if outcome.regret is not None]
    changed = [sum(outcome.chosen not in (outcome.best, None) for outcome in run) for run in runs]
    lost = [sum(outcome.chosen is None for outcome in run) for run in runs]
    saved = 1 - sum(outcome.cost for outcome in every) / sum(outcome.budget for outcome in every)
    return {
        "saved %": f"{100 * saved:.1f}",
        "changed": f"{fmean(changed):.1f} ({max(changed)})",
        "lost": f"{fmean(lost):.1f}",
        "regret": f"{100 * fmean(regrets):.2f} ({100 * max(regrets):.2f})",
    }


def whole_cells(curves: Iterable[Curve]) -> dict[int, list[list[Curve]]]:
    """Return the curves of each cell by seed, where every learning rate is there and one trial at least completed."""
    groups: dict[int, dict[str, list[Curve]]] = {}
    for curve in sorted(curves, key=lambda curve: (curve.seed, curve.variant, curve.lr)):
        groups.setdefault(curve.seed, {}).setdefault(curve.variant, []).append(curve)
    return {
        seed: [cell for cell in cells.values() if len(cell) == len(LEARNING_RATES) and choose(cell) is not None]
        for seed, cells in groups.items()
    }


def replay(file: Path, slots: Sequence[int]) -> None:
    """Print the curves' last errors and a line for each policy, with columns for each number of trials at once."""
    curves = read_curves(file)
    seeds = whole_cells(curves)
    count = sum(map(len, seeds.values()))
    print(f"{len(curves)} curves of {EPOCHS} epochs; {count} whole cells over {len(seeds)} seeds\n")
    print(tabulate(_finals(seeds), headers="keys", tablefmt="github"))
    rows = []
    for policy in policies():
        row = {"policy": policy.name}
        for at_once in slots:
            runs = [
                [outcome for cells in seeds.values() for outcome in outcomes(cells, policy, at_once, order)]
                for order in range(ORDERS)
            ]
            row |= {f"{key}, {at_once} at once": text for key, text in summarise(runs).items()}
        rows.append(row)
    print(f"\nOf {count} cells:\n")
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def _finals(seeds: dict[int, list[list[Curve]]]) -> list[dict[str, str]]:
    return [
        {"variant": cell[0].variant, "seed": str(seed)}
        | {
            f"lr {curve.lr:g}": f"dead after {curve.epochs}" if curve.reason else f"{100 * _final(curve):.2f}"
            for curve in cell
        }
        for seed, cells in seeds.items()
        for cell in cells
    ]


def _final(curve: Curve) -> float:
    return _error(curve, "last", curve.epochs)


def _error(curve: Curve, judged_by: str, epoch: int) -> float:
    error = curve.errors[judged_by][epoch - 1]
    assert error is not None, "measured after this epoch"
    return error


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.early_stopping", description=__doc__)
    parser.add_argument("part", choices=("record", "replay"))
    parser.add_argument("--file", type=Path, default=FILE, help="where the curves are")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each, that record at once")
    parser.add_argument("--slots", type=int, nargs="+", default=[2, 16], help="trials at once in the replay")
    options = parser.parse_args()
    if options.part == "record":
        record_grid(options.file, options.processes)
    else:
        replay(options.file, options.slots)


if __name__ == "__main__":
    main()
