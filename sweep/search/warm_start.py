"""What an earlier run tells a study's search before its first point."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sweep.record.selection import HYPERPARAMETERS, candidates
from sweep.record.store import Store
from sweep.study.prior_trials import EarlierPoint, WarmStart
from sweep.study.study import Study
from trainables.config import TrialConfig


def warm_started(study: Study, location: str) -> Study:
    """Return the study with what the run at `location` tells it.

    A completed trial counts where the study has its cell, each of its hyperparameters lies in what is searched or is
    that cell's own, and it has the error that the study's protocol minimises: under `holdout` never a test error.

    Args:
        study: the study of the run that is about to begin.
        location: the earlier run's folder or URI.

    Raises:
        ValueError: there is no run, it tells nothing, or the study's search would not listen.
    """
    # Refused where the search would not listen, before anything is read.
    replace(study, warm_start=WarmStart(run=location, points=(), skipped=0))
    try:
        store = Store(location)
        store.read_study()
        rows = store.read_trials().to_pylist()
    except ValueError as error:
        raise ValueError(f"warm_start: {error}") from error
    cells = {cell.cell: cell for cell in study.cells()}
    points: list[EarlierPoint] = []
    elsewhere = outside = 0
    for row in rows:
        for candidate in candidates([row], study.protocol):
            values: dict[str, Any] = dict(zip(HYPERPARAMETERS, candidate.configuration, strict=True))
            cell = f"{row['dataset']}/{row['augmentation']}/{row['variant']}"
            if cell not in cells:
                elsewhere += 1
            elif not _fits(study, cells[cell], values):
                outside += 1
            else:
                points.append(EarlierPoint(cell=cell, error=candidate.error, **values))
    if not points:
        raise ValueError(
            f"warm_start must be a run with completed trials in this study's cells and ranges that have the error of "
            f"its protocol {study.protocol}, got {store.location}, of whose {len(rows)} trials {elsewhere + outside} "
            f"completed: {elsewhere} in other cells, {outside} outside the ranges."
        )
    return replace(study, warm_start=WarmStart(run=store.location, points=tuple(points), skipped=elsewhere + outside))


def _fits(study: Study, cell: TrialConfig, values: Mapping[str, Any]) -> bool:
    return all(
        values[name] in study.dimensions[name] if name in study.dimensions else values[name] == getattr(cell, name)
        for name in HYPERPARAMETERS
    )
