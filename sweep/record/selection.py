"""Choosing hyperparameters within a cell.

What makes the choice is given candidates, and a candidate holds one error: the validation error under the protocol
`holdout`, the test error under `paper`, which holds no images out and chooses as the paper seems to have done. Of a
row only the columns that the protocol may see are looked at, `visible_columns`.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

from sweep.record.params import in_order
from sweep.record.schema import ErrorColumn, TrialRow

_CRITERION: dict[str, ErrorColumn] = {"holdout": "val_error", "paper": "test_error"}


@final
@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A completed trial of the search, as far as a choice may know it."""

    trial_id: str
    params: str
    """The configuration, as the row has it."""
    seed: int
    error: float
    """What is minimised, a fraction in [0, 1]."""


def visible_columns(protocol: str) -> tuple[str, ...]:
    """Return the columns of `trials` that a choice under this protocol may see."""
    return ("trial_id", "phase", "state", "seed", "params", _CRITERION[protocol])


def criterion_column(protocol: str) -> ErrorColumn:
    """Return the column of `trials` and `epochs` whose lowest error a choice under this protocol looks for."""
    return _CRITERION[protocol]


def candidates(trials: Iterable[TrialRow], protocol: str) -> list[Candidate]:
    """Return the completed trials of the search among the trials of a cell.

    One without an error is none.

    Args:
        trials: rows of `trials`; columns beyond `visible_columns` are not looked at.
        protocol: the study's.
    """
    error, rows = _CRITERION[protocol], cast("Iterable[Mapping[str, Any]]", trials)
    seen = ({name: row[name] for name in visible_columns(protocol)} for row in rows)
    return [
        Candidate(trial_id=row["trial_id"], params=row["params"], seed=row["seed"], error=float(row[error]))
        for row in seen
        if row["phase"] == "search" and row["state"] == "completed" and row[error] is not None
    ]


def rank_configurations(candidates: Sequence[Candidate], *, seeds: int | None = None) -> list[list[Candidate]]:
    """Return the candidates of each configuration in order of their seeds; the lowest mean error comes first.

    Of equals the smaller learning rate comes first. A configuration at which some seeds did not complete comes after
    all whole ones: it would be judged by the seeds that were lucky.

    Args:
        candidates: of one cell.
        seeds: how many a whole configuration has, the study's number; a sampler may have tried one more often, which is
            no merit. None takes the most that any configuration has.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.params, []).append(candidate)

    def order(params: str) -> tuple[Any, ...]:
        group = groups[params]
        whole = len(group) if seeds is None else min(len(group), seeds)
        return (-whole, statistics.fmean(candidate.error for candidate in group), rank_of(params))

    return [sorted(groups[key], key=lambda candidate: candidate.seed) for key in sorted(groups, key=order)]


def rank_of(params: str) -> tuple[Any, ...]:
    """Return by what configurations of equal errors are in order: the learning rate first, then by name."""
    # Numbers before texts, and what is none before both: Python compares no two kinds.
    return tuple(
        (name, value is not None, isinstance(value, str), 0 if value is None else value)
        for name, value in in_order(params)
    )
