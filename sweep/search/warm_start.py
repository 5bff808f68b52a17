"""What an earlier run tells a study's search before its first point."""

from dataclasses import replace

from search_spaces import Scalar
from sweep.record.params import read_params
from sweep.record.schema import TrialRow, cell_of
from sweep.record.selection import candidates
from sweep.record.store import Store
from sweep.study.prior_trials import PriorTrial, WarmStart
from sweep.study.study import Study
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of


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
        store.read_run()
        rows = store.trial_rows()
    except ValueError as error:
        raise ValueError(f"warm_start: {error}") from error
    cells = {cell.cell: cell for cell in study.cells()}
    points: list[PriorTrial] = []
    elsewhere = outside = 0
    for row in rows:
        for candidate in candidates([row], study.protocol):
            cell = cells.get(cell_of(row))
            if cell is None:
                elsewhere += 1
            elif (params := _fitting(study, cell, row)) is None:
                outside += 1
            else:
                points.append(PriorTrial(cell=cell.cell, error=candidate.error, params=params))
    if not points:
        raise ValueError(
            f"warm_start must be a run with completed trials in this study's cells and ranges that have the error of "
            f"its protocol {study.protocol}, got {store.location}, of whose {len(rows)} trials {elsewhere + outside} "
            f"completed: {elsewhere} in other cells, {outside} outside the ranges."
        )
    return replace(study, warm_start=WarmStart(run=store.location, points=tuple(points), skipped=elsewhere + outside))


def _fitting(study: Study, cell: TrialConfig, row: TrialRow) -> dict[str, Scalar] | None:
    """Return what a trial of an earlier run tells of a cell's space; None where it lies outside it."""
    space = study.space_of(cell.variant)
    had = {"lr": row["lr"], **read_params(row["params"])}
    if any(value != value_of(cell, name) for name, value in had.items() if name not in space):
        return None
    params: dict[str, Scalar] = {}
    for name, dimension in space.items():
        if space.is_active(name, params):
            value = had.get(name, value_of(cell, name))
            if value not in dimension:
                return None
            params[name] = value
    return params
