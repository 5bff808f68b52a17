"""Choosing hyperparameters within a cell.

What makes the choice is given candidates, and a candidate holds one error: the validation error under the protocol
`holdout`, the test error under `paper`, which holds no images out and chooses as the paper seems to have done. Rows
are cut to the columns that the protocol may see before they come here, `visible_columns`.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

HYPERPARAMETERS = ("lr", "weight_decay", "batch_size")
"""Columns of `trials` that tell one configuration of a cell from another."""

_CRITERION = {"holdout": "val_error", "paper": "test_error"}


@final
@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A completed trial of the search, as far as a choice may know it."""

    trial_id: str
    configuration: tuple[float, ...]
    """Values of `HYPERPARAMETERS`."""
    seed: int
    error: float
    """What is minimised, a fraction in [0, 1]."""


def visible_columns(protocol: str) -> tuple[str, ...]:
    """Return the columns of `trials` that a choice under this protocol may see."""
    return ("trial_id", "phase", "state", "seed", *HYPERPARAMETERS, _CRITERION[protocol])


def criterion_column(protocol: str) -> str:
    """Return the column of `trials` and `epochs` whose lowest error a choice under this protocol looks for."""
    return _CRITERION[protocol]


def candidates(
    trials: Iterable[Mapping[str, Any]], protocol: str, best_epochs: Mapping[str, float] | None = None
) -> list[Candidate]:
    """Return the completed trials of the search among the trials of a cell.

    Args:
        trials: rows of `trials`; columns beyond `visible_columns` are not looked at.
        protocol: the study's.
        best_epochs: lowest error of any epoch by trial_id, where that one decides instead of the last epoch's.
    """
    found = []
    for row in trials:
        seen = {name: row[name] for name in visible_columns(protocol)}
        if seen["phase"] == "search" and seen["state"] == "completed":
            error = seen[_CRITERION[protocol]]
            found.append(
                Candidate(
                    trial_id=seen["trial_id"],
                    configuration=tuple(seen[name] for name in HYPERPARAMETERS),
                    seed=seen["seed"],
                    error=error if best_epochs is None else best_epochs[seen["trial_id"]],
                )
            )
    return found


def rank_configurations(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the candidates of each configuration in order of their seeds; the lowest mean error comes first.

    Of equals the smaller learning rate comes first. A configuration at which some seeds did not complete comes after
    all whole ones: it would be judged by the seeds that were lucky.
    """
    groups: dict[tuple[float, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.configuration, []).append(candidate)

    def order(configuration: tuple[float, ...]) -> tuple[int, float, tuple[float, ...]]:
        group = groups[configuration]
        return (-len(group), statistics.fmean(candidate.error for candidate in group), configuration)

    return [sorted(groups[key], key=lambda candidate: candidate.seed) for key in sorted(groups, key=order)]
