"""From rows of trials to one result per cell, or per cell and learning rate or seed."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from analysis.select import best_configuration

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


def summarise(
    trials: Iterable[Mapping[str, Any]], order: Iterable[str] = (), by: By = "variant"
) -> list[VariantResult]:
    """Return a result per cell, in the study's order of variants; `by` splits it by learning rate or seed.

    Args:
        trials: rows of the record's `trials`.
        order: names of variants as the study has them; others follow.
        by: what makes a row.
    """
    rank = {name: number for number, name in enumerate(order)}
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for trial in trials:
        cell = (trial["dataset"], trial["augmentation"], trial["variant"])
        groups.setdefault(cell if by == "variant" else (*cell, trial[by]), []).append(trial)

    def position(key: tuple[Any, ...]) -> tuple[Any, ...]:
        dataset, augmentation, variant, *rest = key
        return dataset, augmentation, rank.get(variant, len(rank)), variant, [-value for value in rest]

    return [_result(key, groups[key], by) for key in sorted(groups, key=position)]


def _result(key: tuple[Any, ...], trials: list[Mapping[str, Any]], by: By) -> VariantResult:
    dataset, augmentation, variant = key[:3]
    chosen = best_configuration([trial for trial in trials if trial["state"] == "completed"])
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
        epochs=max(trial["epochs_budget"] for trial in trials),
        num_parameters=parameters[0] if parameters else None,
        states={state: states[state] for state in (*COUNTED_STATES, "running", "pending")},
    )
