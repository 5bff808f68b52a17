"""From rows of trials to one result per cell, or per cell and learning rate or seed."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, final

from sweep.selection import candidates, rank_configurations, search_seeds

By = Literal["variant", "lr", "seed"]
COUNTED_STATES = ("completed", "stopped", "diverged", "failed")


@final
@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """One row of a comparison table. Errors are fractions in [0, 1], over completed trials only."""

    dataset: str
    augmentation: str
    variant: str
    lr: float | None
    """Learning rate of the best error; None where no trial was completed."""
    seed: int | None
    """Seed, where rows are by seed."""
    error: float | None
    """Test error of the chosen learning rate, the mean over its seeds; None where no trial was completed."""
    error_sd: float | None
    """Standard deviation over the seeds; None with fewer than two."""
    num_seeds: int
    """Completed trials that `error` is the mean of."""
    epochs: int
    """Epochs of a full-length trial."""
    num_parameters: int | None
    states: Mapping[str, int]
    """Trials in each state."""


def summarise(trials: Iterable[Mapping[str, Any]], study: Mapping[str, Any], by: By = "variant") -> list[VariantResult]:
    """Return a result per cell, in the study's order, also for a cell whose trials have not begun.

    Args:
        trials: rows of the record's `trials`.
        study: what study.json holds under `study`.
        by: what makes a row; by learning rate or seed, a cell has a row for each one that a trial has.
    """
    cells = list(product(study["datasets"], study["augmentations"], study["variants"]))
    of_cell: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {cell: [] for cell in cells}
    for trial in trials:
        of_cell.setdefault((trial["dataset"], trial["augmentation"], trial["variant"]), []).append(trial)
    if by == "variant":
        return [_result(cell, rows, study, by) for cell, rows in of_cell.items()]
    results = []
    for cell, rows in of_cell.items():
        values = sorted({row[by] for row in rows}, reverse=by == "lr")
        results += [_result((*cell, value), [row for row in rows if row[by] == value], study, by) for value in values]
    return results


def _result(key: tuple[Any, ...], trials: list[Mapping[str, Any]], study: Mapping[str, Any], by: By) -> VariantResult:
    dataset, augmentation, variant = key[:3]
    ranked = rank_configurations(candidates(trials, study["protocol"]), seeds=search_seeds(study))
    by_id = {trial["trial_id"]: trial for trial in trials}
    chosen = [by_id[candidate.trial_id] for candidate in ranked[0]] if ranked else []
    errors = [trial["test_error"] for trial in chosen if trial["test_error"] is not None]
    parameters = [trial["num_parameters"] for trial in trials if trial["num_parameters"] is not None]
    states = Counter(trial["state"] for trial in trials)
    return VariantResult(
        dataset=dataset,
        augmentation=augmentation,
        variant=variant,
        lr=key[3] if by == "lr" else chosen[0]["lr"] if chosen else None,
        seed=key[3] if by == "seed" else None,
        error=statistics.fmean(errors) if errors else None,
        error_sd=statistics.stdev(errors) if len(errors) > 1 else None,
        num_seeds=len(errors),
        epochs=study["base"]["epochs"],
        num_parameters=parameters[0] if parameters else None,
        states={state: states[state] for state in (*COUNTED_STATES, "running", "pending")},
    )
