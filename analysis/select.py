"""Choosing hyperparameters within a cell.

Where the protocol holds out validation images, the choice is made on their error and never sees a test error. The
`paper` protocol holds out none: there the choice is made on the test error, as the paper seems to have done, and
tables say so.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Trial = TypeVar("Trial", bound=Mapping[str, Any])


def best_configuration(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials, one per seed, of the learning rate with the lowest mean error; of equals the smaller rate.

    Args:
        trials: completed trials of one cell.
    """
    by_rate: dict[float, list[Trial]] = {}
    for trial in trials:
        by_rate.setdefault(trial["lr"], []).append(trial)
    if not by_rate:
        return []
    # A rate at which some seeds did not complete would be judged by the seeds that were lucky.
    most = max(len(group) for group in by_rate.values())
    whole = {rate: group for rate, group in by_rate.items() if len(group) == most}
    return whole[min(whole, key=lambda rate: (statistics.fmean(map(_criterion, whole[rate])), rate))]


def _criterion(trial: Mapping[str, Any]) -> float:
    error = trial["test_error"] if trial["val_error"] is None else trial["val_error"]
    assert isinstance(error, float), "a completed trial has an error"
    return error
