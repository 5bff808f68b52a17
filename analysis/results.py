"""From rows of trials to one result per cell, or per cell and learning rate or seed."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal, final

from analysis.inference import half_width
from search_spaces import Scalar
from sweep.record.params import read_params
from sweep.record.schema import FINAL_STATES, State, TrialRow
from sweep.record.selection import Candidate, candidates, rank_configurations
from sweep.study.study import Study

By = Literal["variant", "lr", "seed"]
COUNTED_STATES: tuple[State, ...] = ("completed", "stopped", "diverged", "failed")
UNFINISHED_STATES: tuple[State, ...] = ("running", "pending")

Trial = TrialRow
"""A row of the record's `trials`."""

Cell = tuple[str, str, str]
"""Data set, augmentation, variant."""


def cell_of(trial: Trial) -> Cell:
    """Return the cell that a trial is of."""
    return trial["dataset"], trial["augmentation"], trial["variant"]


@final
@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """One row of a comparison table. Errors are fractions in [0, 1]."""

    dataset: str
    augmentation: str
    variant: str
    lr: float | None
    """Learning rate of the chosen configuration; None where no trial of the search was completed."""
    params: Mapping[str, Scalar]
    """What was searched, by name, of the chosen configuration; empty where there is none."""
    tried: Mapping[str, frozenset[Scalar]]
    """By the name of each hyperparameter, the values that the row's trials of the search have."""
    seed: int | None
    """Seed, where rows are by seed."""
    errors: tuple[float, ...]
    """Test errors of the chosen configuration in order of their seeds, of completed trials, after their last
    epoch: under `holdout` those of the phase `confirm`, under `paper` those of the search."""
    trials: tuple[Trial, ...] = ()
    """The trials that have these errors."""
    validation_error: float | None
    """What the choice was made by under `holdout`, the mean over the seeds of the search; None under `paper`."""
    lost_seeds: int
    """Trials beside those of `errors` that ended otherwise than completed: the mean is over the lucky ones."""
    chosen: tuple[str, ...]
    """`trial_id` of each trial of the search that the choice fell on."""
    epochs: int
    """Epochs of a full-length trial."""
    num_parameters: int | None
    states: Mapping[str, int]
    """Trials in each state, of both phases."""

    @property
    def cell(self) -> Cell:
        """What the row is of."""
        return self.dataset, self.augmentation, self.variant

    @property
    def num_seeds(self) -> int:
        """Trials that `error` is the mean of."""
        return len(self.errors)

    @property
    def error(self) -> float | None:
        """The mean of `errors`; None where there are none."""
        return statistics.fmean(self.errors) if self.errors else None

    @property
    def error_sd(self) -> float | None:
        """Standard deviation over the seeds; None with fewer than two."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None

    @cached_property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean, by Student's t; None with fewer than two seeds."""
        return half_width(self.errors)


def summarise(trials: Iterable[Trial], study: Study, by: By = "variant") -> list[VariantResult]:
    """Return a result per cell, in the study's order, also for a cell whose trials have not begun.

    Args:
        trials: rows of the record's `trials`.
        study: what study.json holds under `study`.
        by: what makes a row; by learning rate or seed, a cell has a row for each one that a trial has.
    """
    of_cell: dict[Cell, list[Trial]] = {
        cell: [] for cell in product(study.datasets, study.augmentations, study.variants)
    }
    for trial in trials:
        of_cell.setdefault(cell_of(trial), []).append(trial)
    results = []
    for cell, rows in of_cell.items():
        for value, part in _parts(rows, by):
            # A seed of the confirmation has no search of its own: what it retrained was chosen for the whole cell.
            choice_is_the_cells = by == "seed" and study.protocol == "holdout"
            choice = _choose(rows if choice_is_the_cells else part, study)
            results.append(_result(cell, value, part, choice, study, by))
    return results


def several_places(results: Iterable[VariantResult]) -> bool:
    """Return whether results are of several data sets or augmentations, which must then be named."""
    return len({result.cell[:2] for result in results}) > 1


def _parts(rows: list[Trial], by: By) -> Iterator[tuple[Any, list[Trial]]]:
    if by == "variant":
        yield None, rows
        return
    for value in sorted({row[by] for row in rows}, reverse=by == "lr"):
        yield value, [row for row in rows if row[by] == value]


def _choose(trials: Sequence[Trial], study: Study) -> list[Candidate]:
    """Return the candidates of the best configuration, none where no trial of the search was completed.

    Of several configurations that were confirmed it is still the one that is first on validation: the lowest of their
    test errors would be an error that the test images had a say in.
    """
    protocol = study.protocol
    ranked = rank_configurations(candidates(trials, protocol), seeds=study.search_seeds)
    return ranked[0] if ranked else []


def _result(
    cell: Cell, value: Any, trials: list[Trial], choice: list[Candidate], study: Study, by: By
) -> VariantResult:
    dataset, augmentation, variant = cell
    reported = _reported(trials, choice, study.protocol)
    measured = [row for row in reported if row["state"] == "completed" and row["test_error"] is not None]
    errors = [error for row in measured if (error := row["test_error"]) is not None]
    own = {trial["trial_id"] for trial in trials}
    seen = [candidate.error for candidate in choice if candidate.trial_id in own]
    parameters = [trial["num_parameters"] for trial in trials if trial["num_parameters"] is not None]
    states = Counter(trial["state"] for trial in trials)
    return VariantResult(
        dataset=dataset,
        augmentation=augmentation,
        variant=variant,
        lr=value if by == "lr" else _rate(trials, choice),
        params=read_params(choice[0].params) if choice else {},
        tried=_tried(trial for trial in trials if trial["phase"] == "search"),
        seed=value if by == "seed" else None,
        errors=tuple(errors),
        trials=tuple(measured),
        validation_error=statistics.fmean(seen) if seen and study.protocol == "holdout" else None,
        lost_seeds=sum(row["state"] in FINAL_STATES - {"completed"} for row in reported),
        chosen=tuple(candidate.trial_id for candidate in choice),
        epochs=_epochs(trials, choice, study),
        num_parameters=parameters[0] if parameters else None,
        states={state: states[state] for state in (*COUNTED_STATES, *UNFINISHED_STATES)},
    )


def _rate(trials: Iterable[Trial], choice: Sequence[Candidate]) -> float | None:
    of_choice = {trial["lr"] for trial in trials if choice and trial["params"] == choice[0].params}
    rate = read_params(choice[0].params).get("lr") if choice else None
    return float(rate) if isinstance(rate, int | float) else next(iter(of_choice), None)


def _tried(trials: Iterable[Trial]) -> dict[str, frozenset[Scalar]]:
    tried: dict[str, set[Scalar]] = {}
    for text in {trial["params"] for trial in trials}:
        for name, value in read_params(text).items():
            tried.setdefault(name, set()).add(value)
    return {name: frozenset(values) for name, values in tried.items()}


def _epochs(trials: Iterable[Trial], choice: Sequence[Candidate], study: Study) -> int:
    budgets = {trial["epochs_budget"] for trial in trials if choice and trial["params"] == choice[0].params}
    return study.epochs or max(budgets, default=study.base.epochs)


def _reported(trials: Iterable[Trial], choice: Sequence[Candidate], protocol: str) -> list[Trial]:
    """Return the trials of the chosen configuration whose test errors a table may show, in order of their seeds."""
    if not choice:
        return []
    phase = "confirm" if protocol == "holdout" else "search"
    rows = [row for row in trials if row["phase"] == phase and row["params"] == choice[0].params]
    return sorted(rows, key=lambda row: row["seed"])
