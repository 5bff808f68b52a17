"""What an earlier run tells a study's search before its first point."""

from dataclasses import replace

from search_spaces import Scalar
from sweep.record.params import read_params
from sweep.record.schema import TrialRow, cell_of
from sweep.record.selection import candidates
from sweep.record.store import Store
from sweep.study.prior_trials import PriorTrial, WarmStart
from sweep.study.study import Study, params_of
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of, with_values


def warm_started(study: Study, location: str) -> Study:
    """Return the study with what the run at `location` tells it.

    A completed trial counts where the study has its cell, each hyperparameter that either of both studies searches lies
    in what is searched or is that cell's own, as do weight decay and batch size always, and it has the error that the
    study's protocol minimises: under `holdout` never a test error.

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
        earlier = {cell.cell: cell for cell in store.read_run().study.cells()}
        rows = store.trial_rows()
    except ValueError as error:
        raise ValueError(f"warm_start: {error}") from error
    cells = {cell.cell: cell for cell in study.cells()}
    points: list[PriorTrial] = []
    elsewhere = outside = 0
    for row in rows:
        for candidate in candidates([row], study.protocol):
            cell, its_cell = cells.get(cell_of(row)), earlier.get(cell_of(row))
            if cell is None or its_cell is None:
                elsewhere += 1
            elif (params := _fitting(study, cell, row, its_cell)) is None:
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


def _fitting(study: Study, cell: TrialConfig, row: TrialRow, its_cell: TrialConfig) -> dict[str, Scalar] | None:
    """Return what a trial of an earlier run tells of a cell's space; None where it lies outside it.

    Args:
        study: what is searched now.
        cell: of this study.
        row: of the earlier run.
        its_cell: the same cell of the earlier study, whose values the trial had where they were not searched.
    """
    space = study.space_of(cell.variant)
    searched = read_params(row["params"])
    try:
        had = with_values(its_cell, {"lr": row["lr"], **searched})
        if any(value_of(had, name) != value_of(cell, name) for name in {*searched, *_ALWAYS} if name not in space):
            return None
        params = params_of(had, space)
    except (KeyError, ValueError):  # one of the two knows no hyperparameter of that name, or not this value
        return None
    return params if all(value in space[name] for name, value in params.items()) else None


_ALWAYS = ("lr", "weight_decay", "batch_size")
"""Hyperparameters without which no error can be compared with another."""
