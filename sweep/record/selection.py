"""Choosing hyperparameters within a cell.

What makes the choice is given candidates, and a candidate holds one error: the validation error under the protocol
`holdout`, the test error under `paper`, which holds no images out and chooses as the paper seems to have done. Rows
are cut to the columns that the protocol may see before they come here, `visible_columns`.
"""

import math
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


def search_seeds(study: Mapping[str, Any]) -> int:
    """Return how many trials each configuration has in the search.

    Args:
        study: what study.json holds under `study`.
    """
    return 1 if study["protocol"] == "holdout" else study["seeds"] or 1


def reads_test_errors(study: Mapping[str, Any]) -> bool:
    """Return whether a study measures test errors at all: not under `holdout` where nothing is confirmed.

    Args:
        study: what study.json holds under `study`.
    """
    return study["protocol"] != "holdout" or study.get("seeds") != 0


def points_per_cell(study: Mapping[str, Any]) -> int:
    """Return how many trials the search has in each cell.

    Args:
        study: what study.json holds under `study`.
    """
    if study["search"] != "grid":
        return int(study["trials_per_cell"])
    listed = [study[name] for name in ("learning_rates", "weight_decays", "batch_sizes")]
    return math.prod(len(values["values"]) for values in listed if values) * search_seeds(study)


def candidates(trials: Iterable[Mapping[str, Any]], protocol: str) -> list[Candidate]:
    """Return the completed trials of the search among the trials of a cell.

    One without an error is none.

    Args:
        trials: rows of `trials`; columns beyond `visible_columns` are not looked at.
        protocol: the study's.
    """
    found = []
    for row in trials:
        seen = {name: row[name] for name in visible_columns(protocol)}
        if seen["phase"] == "search" and seen["state"] == "completed":
            error = seen[_CRITERION[protocol]]
            if error is None:  # a damaged record may have lost it
                continue
            found.append(
                Candidate(
                    trial_id=seen["trial_id"],
                    configuration=tuple(seen[name] for name in HYPERPARAMETERS),
                    seed=seen["seed"],
                    error=error,
                )
            )
    return found


def rank_configurations(candidates: Sequence[Candidate], *, seeds: int | None = None) -> list[list[Candidate]]:
    """Return the candidates of each configuration in order of their seeds; the lowest mean error comes first.

    Of equals the smaller learning rate comes first. A configuration at which some seeds did not complete comes after
    all whole ones: it would be judged by the seeds that were lucky.

    Args:
        candidates: of one cell.
        seeds: how many a whole configuration has, the study's number; a sampler may have tried one more often, which is
            no merit. None takes the most that any configuration has.
    """
    groups: dict[tuple[float, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.configuration, []).append(candidate)

    def order(configuration: tuple[float, ...]) -> tuple[int, float, tuple[float, ...]]:
        group = groups[configuration]
        whole = len(group) if seeds is None else min(len(group), seeds)
        return (
            -whole,
            statistics.fmean(candidate.error for candidate in group),
            tuple(map(_comparable, configuration)),
        )

    return [sorted(groups[key], key=lambda candidate: candidate.seed) for key in sorted(groups, key=order)]


def _comparable(value: float | None) -> float:
    # A damaged record may lack a value that all of its trials share.
    return -1.0 if value is None else value
