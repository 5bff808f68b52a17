"""How a run stands, from study.json and the record's rows alone: errors, trials by state, what is left.

Loads neither torch nor Ray, so that another process can look at a run at once.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Self, final

from search_spaces import Scalar
from search_spaces.dimensions import in_words
from sweep.record.params import describe, read_params
from sweep.record.schema import FINAL_STATES, ErrorColumn, TrialRow, cell_of
from sweep.record.selection import criterion_column, rank_of
from sweep.study.study import Study

WAITING = "waiting"
"""The word for `pending`, whose first letter would be like no other's but says less to a reader."""

WORDS = (WAITING, "running", "stopped", "diverged", "completed", "failed")
"""States in words; their first letters differ."""

_SHOWN_FIRST = ("running", WAITING, "completed", "stopped", "diverged", "failed")
"""Of several trials in one place: what says most of what is still to come."""

_NORMAL_95 = 1.96

Row = TrialRow


@final
@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a run is to do, as far as its progress needs it."""

    run: str
    study: str
    cells: tuple[str, ...]
    """Data set, augmentation and variant of each, joined by a slash, in the study's order."""
    labels: tuple[str, ...]
    """The cells' names, without what all of them share."""
    column: ErrorColumn
    """The error that the search goes by, of `trials` and `epochs`."""
    heads: tuple[str, ...]
    """Headings of a row's places: the values of a grid's first dimension, else the numbers of a cell's points."""
    dimension: str | None
    """The hyperparameter whose values are the headings; None where points are shown in their order."""
    named: str | None
    """The hyperparameter whose value is told of a cell's best trial: the learning rate if any cell searches it."""
    points: tuple[int, ...]
    """Trials of each cell's search."""
    places: tuple[tuple[int, ...], ...]
    """By cell, the trials of its search in each place of its row."""
    epochs: int
    """Of each trial, or of the longest where they are searched."""
    planned: int
    """Trials of both phases."""
    may_stop: bool
    """Whether trials may end early, so that less may be left than is counted."""

    @classmethod
    def of(cls, study: Study, run: str, planned: int) -> Self:
        """Return what a study is to do.

        Args:
            study: what is run.
            run: the run's name.
            planned: trials of both phases.
        """
        cells = list(product(study.datasets, study.augmentations, study.variants))
        varies = [index for index in range(2) if len({cell[index] for cell in cells}) > 1]
        points = tuple(study.points_of(variant) for _, _, variant in cells)
        dimension, values = _columns(study)
        if dimension is None:
            heads = tuple(map(str, range(1, max(points) + 1)))
            places = tuple(tuple(int(index < count) for index in range(max(points))) for count in points)
        else:
            heads = tuple(map(in_words, values))
            places = tuple(_points_at(study, variant, dimension, values) for _, _, variant in cells)
        return cls(
            run=run,
            study=study.name,
            cells=tuple("/".join(cell) for cell in cells),
            labels=tuple("/".join([*(cell[index] for index in varies), cell[2]]) for cell in cells),
            column=criterion_column(study.protocol),
            heads=heads,
            dimension=dimension,
            named=dimension or ("lr" if "lr" in study.searched else next(iter(study.searched), None)),
            points=points,
            places=places,
            epochs=study.most_epochs,
            planned=planned,
            may_stop=study.early_stopping != "none",
        )

    @property
    def confirming(self) -> int:
        """Trials of each cell's second phase, the most that any has."""
        return math.ceil(max(0, self.planned - sum(self.points)) / len(self.cells))


def _columns(study: Study) -> tuple[str | None, tuple[Scalar, ...]]:
    """Return a grid's first dimension, the learning rate if it is searched, where all cells list the same values."""
    spaces = [study.space_of(variant) for variant in study.variants]
    if study.search != "grid" or not all(spaces):
        return None, ()
    name = "lr" if "lr" in spaces[0] else next(iter(spaces[0]))
    dimensions = [space.get(name) for space in spaces]
    if any(dimension is None or dimension.condition for dimension in dimensions):
        return None, ()
    listed = {dimension.listed() for dimension in dimensions if dimension is not None}
    return (name, listed.pop() or ()) if len(listed) == 1 else (None, ())


def _points_at(study: Study, variant: str, name: str, values: Sequence[Scalar]) -> tuple[int, ...]:
    space = study.space_of(variant)
    if any(dimension.condition for dimension in space.values()):
        at = Counter(point[name] for point in space.points())
        return tuple(at[value] * study.search_seeds for value in values)
    return (study.points_of(variant) // len(values),) * len(values)


@final
@dataclass
class Place:
    """Trials that are shown in one place: those of a value, of a second phase, or of a whole search."""

    planned: int = 0
    states: Counter[str] = field(default_factory=Counter)
    """Of the trials that have a row, in `WORDS`."""
    epochs: int = 0
    budget: int = 0
    """Epochs of the trials that have a row, if none ends early."""
    errors: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    """By configuration: each seed's error, and whether its trial was completed."""
    is_best: bool = False

    @property
    def waiting(self) -> int:
        """Trials that wait, with those that have not begun."""
        return self.states[WAITING] + max(0, self.planned - self.states.total())

    @property
    def trials(self) -> int:
        """Trials that there are or will be."""
        return max(self.planned, self.states.total())

    @property
    def ended(self) -> int:
        """Trials in a final state."""
        return sum(count for state, count in self.states.items() if state in FINAL_STATES)

    @property
    def state(self) -> str:
        """The state in `WORDS` that stands for all of them."""
        return next(
            (state for state in _SHOWN_FIRST if self.states[state] or (state == WAITING and self.waiting)), WAITING
        )

    @property
    def share(self) -> float:
        """Which part of its epochs was trained, in [0, 1]: below 1 at the end too, where trials ended early."""
        whole = self.budget * self.trials / max(1, self.states.total())
        return min(1.0, self.epochs / whole) if whole else 0.0

    def best(self, *, completed: bool) -> tuple[float, str] | None:
        """Return the lowest mean over seeds of any configuration, and which.

        Args:
            completed: look at completed trials only, as the choice does.
        """
        found = [
            (statistics.fmean(seen), configuration)
            for configuration, errors in self.errors.items()
            if (seen := [error for error, is_completed in errors if is_completed or not completed])
        ]
        return min(found, key=lambda each: (each[0], rank_of(each[1])), default=None)

    def add(self, row: Row, error: float | None) -> None:
        """Count a trial in."""
        state = WAITING if row["state"] == "pending" else row["state"]
        self.states[state] += 1
        self.epochs += row["epochs_run"]
        self.budget += row["epochs_budget"]
        if error is not None:
            self.errors.setdefault(row["params"], []).append((error, state == "completed"))


@final
@dataclass(kw_only=True)
class CellStanding:
    """How a cell stands."""

    label: str
    places: list[Place]
    """As many as the scope's `heads`; empty where they were not asked for."""
    search: Place
    confirm: Place | None

    @property
    def is_over(self) -> bool:
        """Whether every trial of its search has ended."""
        return self.search.ended == self.search.trials

    @property
    def best(self) -> tuple[float, str] | None:
        """The lowest error of its search and its configuration: of completed trials once all have ended."""
        return (self.search.best(completed=True) if self.is_over else None) or self.search.best(completed=False)


def arrange(scope: Scope, rows: Iterable[Row], *, places: bool = True) -> list[CellStanding]:
    """Return how each cell stands, in the study's order. Rows of other cells are passed over.

    Args:
        scope: what the run is to do.
        rows: of `trials`.
        places: whether each of the scope's places is looked at by itself.
    """
    of_cell: dict[str, list[Row]] = {cell: [] for cell in scope.cells}
    for row in rows:
        found = of_cell.get(cell_of(row))
        if found is not None:
            found.append(row)
    columns = {head: index for index, head in enumerate(scope.heads)}
    standings = []
    for cell, label, points, planned in zip(scope.cells, scope.labels, scope.points, scope.places, strict=True):
        standing = CellStanding(
            label=label,
            places=[Place(count) for count in planned] if places else [],
            search=Place(points),
            confirm=Place(scope.confirming) if scope.confirming else None,
        )
        number = 0
        # A point's number is in its trial's name, which is as long as its cell's other ones.
        for row in sorted(of_cell[cell], key=lambda row: row["trial_id"]) if not scope.dimension else of_cell[cell]:
            error = _error(scope, row)
            if row["phase"] == "confirm":
                if standing.confirm is not None:
                    standing.confirm.add(row, error)
                continue
            standing.search.add(row, error)
            index = columns.get(in_words(read_params(row["params"])[scope.dimension])) if scope.dimension else number
            number += 1
            if index is not None and index < len(standing.places):
                standing.places[index].add(row, error)
        confirm = standing.confirm
        if confirm is not None and not confirm.states and standing.is_over and not standing.search.states["completed"]:
            # There is nothing to confirm in a cell of which no trial was completed.
            confirm.planned = 0
        best = standing.best
        for place in standing.places:
            place.is_best = best is not None and best[1] in place.errors
        standings.append(standing)
    return standings


def _error(scope: Scope, row: Row) -> float | None:
    if row["state"] in ("diverged", "failed"):
        return None
    error = row["test_error" if row["phase"] == "confirm" else scope.column]
    return None if error is None else float(error)


def count_states(scope: Scope, rows: Iterable[Row]) -> dict[str, int]:
    """Return how many trials are in each state of `WORDS`; what has not begun waits."""
    counts = Counter(WAITING if row["state"] == "pending" else row["state"] for row in rows)
    counts[WAITING] += max(0, scope.planned - counts.total())
    return {word: counts[word] for word in WORDS}


def epochs_per_s(rows: Iterable[Row]) -> float:
    """Return how many epochs a second the running trials train together, each at its own mean so far.

    One that has trained none yet counts as the others do on average; 0 where none has.
    """
    running = [row for row in rows if row["state"] == "running"]
    speeds = [row["epochs_run"] / row["duration_s"] for row in running if row["epochs_run"] and row["duration_s"]]
    return statistics.fmean(speeds) * len(running) if speeds else 0.0


@final
@dataclass(frozen=True, kw_only=True)
class Left:
    """How long a run may yet take."""

    seconds: float
    plus_minus: float | None
    """Half of a 95 % interval, s; None where too little has run to say."""


def estimate_left(scope: Scope, rows: Sequence[Row], *, at_once: int | None = None) -> Left | None:
    """Return how long the rest may take; None where nothing tells.

    An epoch of a cell takes what its epochs took so far, one of a cell that has trained none what the others' took on
    average. The interval is that of those means, from the spread of trials within a cell and of cells: it knows nothing
    of nodes that come and go.

    Args:
        scope: what the run is to do.
        rows: of `trials`.
        at_once: trials that run at once; None: as many as run now.
    """
    running = [row for row in rows if row["state"] == "running"]
    at_once = len(running) if at_once is None else at_once
    left, speeds = _epochs_left(scope, rows), _epoch_seconds(rows)
    if at_once < 1 or not speeds:
        return None
    means = {cell: statistics.fmean(values) for cell, values in speeds.items()}
    overall = statistics.fmean(means.values())
    between = statistics.stdev(means.values()) if len(means) > 1 else None
    # Trials of a cell differ by about as much in proportion in every cell: one trial's cell borrows the others' spread.
    spreads = [statistics.stdev(values) / means[cell] for cell, values in speeds.items() if len(values) > 1]
    within = statistics.fmean(spreads) if spreads else None
    work, variance, is_known = 0.0, 0.0, True
    for cell, epochs in left.items():
        mean = means.get(cell, overall)
        work += epochs * mean
        spread = between if cell not in means else None if within is None else within * mean / len(speeds[cell]) ** 0.5
        if spread is None:
            is_known = is_known and not epochs
        else:
            variance += (epochs * spread) ** 2
    own = ((row["epochs_budget"] - row["epochs_run"]) * means.get(cell_of(row), overall) for row in running)
    plus_minus = _NORMAL_95 * math.sqrt(variance) / at_once if is_known else None
    return Left(seconds=max(work / at_once, *own, 0.0), plus_minus=plus_minus)


def _epoch_seconds(rows: Iterable[Row]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["epochs_run"] and row["duration_s"]:
            found.setdefault(cell_of(row), []).append(row["duration_s"] / row["epochs_run"])
    return found


def _epochs_left(scope: Scope, rows: Iterable[Row]) -> dict[str, float]:
    left = dict.fromkeys(scope.cells, 0.0)
    begun: Counter[tuple[str, str]] = Counter()
    lost: Counter[str] = Counter()
    for row in rows:
        cell = cell_of(row)
        begun[cell, row["phase"]] += 1
        lost[cell] += row["phase"] == "search" and row["state"] in FINAL_STATES - {"completed"}
        if row["state"] not in FINAL_STATES:
            left[cell] = left.get(cell, 0.0) + row["epochs_budget"] - row["epochs_run"]
    for cell, points in zip(scope.cells, scope.points, strict=True):
        confirming = scope.confirming if lost[cell] < points else 0
        unbegun = max(0, points - begun[cell, "search"]) + max(0, confirming - begun[cell, "confirm"])
        left[cell] += unbegun * scope.epochs
    return left


def duration(seconds: float, like: float | None = None) -> str:
    """Return a time in words, such as 40 s, 12 min or 3.5 h; in the unit in which a time `like` this one would be."""
    minutes, unit = seconds / 60, (seconds if like is None else like) / 60
    return f"{seconds:.0f} s" if unit < 2 else f"{minutes:.0f} min" if unit < 120 else f"{minutes / 60:.1f} h"


def eta_in_words(scope: Scope, left: Left | None) -> str:
    """Return how long the rest may take, such as `ETA 10 to 14 min`; empty where nothing tells."""
    if left is None:
        return ""
    less = ", less if trials stop early" if scope.may_stop else ""
    if left.plus_minus is None:
        return f"ETA about {duration(left.seconds)}{less}"
    most_s = left.seconds + left.plus_minus
    low, high = duration(max(0.0, left.seconds - left.plus_minus), most_s), duration(most_s)
    return f"ETA {high if low == high else f'{low.split()[0]} to {high}'}{less}"


def outcome_in_words(row: Row) -> str:
    """Return which trial this is and how it ended, such as `model-c lr 0.1 seed 0: completed, error 8.40 %`."""
    kind, error = ("error", row["test_error"]) if row["val_error"] is None else ("validation error", row["val_error"])
    failed = row["state"] in ("failed", "diverged")
    outcome = row["reason"] if failed or error is None else f"{kind} {100 * error:.2f} %"
    phase = "confirm " if row["phase"] == "confirm" else ""
    return f"{phase}{trial_in_words(row)}: {row['state']}, {outcome}"


def trial_in_words(row: Row) -> str:
    """Return a trial's variant, configuration and seed."""
    return " ".join(part for part in (row["variant"], describe(row["params"]), f"seed {row['seed']}") if part)


def progress_parts(scope: Scope, rows: Sequence[Row], *others: str) -> list[str]:
    """Return how many trials have ended, the others' words, the speed and the time left, as far as they are known."""
    ended = sum(row["state"] in FINAL_STATES for row in rows)
    speed = epochs_per_s(rows)
    parts = [
        f"{ended:,} of {scope.planned:,} trials ended",
        *others,
        f"{speed:.3g} epochs/s" if speed else "",
        eta_in_words(scope, estimate_left(scope, rows)),
    ]
    return [part for part in parts if part]


def progress_line(scope: Scope, rows: Sequence[Row]) -> str:
    """Return in one line how far the run is."""
    return ", ".join(progress_parts(scope, rows, f"{sum(row['state'] == 'running' for row in rows):,} running"))
