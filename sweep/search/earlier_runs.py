"""What a study takes from an earlier run: the learning rate that it selected, or what its trials tell the search."""

from dataclasses import replace

from search_spaces import Choice, Scalar
from sweep.record.params import read_params
from sweep.record.schema import TrialRow, cell_of
from sweep.record.selection import candidates, rank_configurations
from sweep.record.store import Store
from sweep.study.prior_trials import PriorTrial, WarmStart
from sweep.study.study import Study, params_of
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of, with_values


def with_selected_rates(study: Study, location: str) -> Study:
    """Return the study with the learning rate that the run at `location` selected, in place of those to search.

    The paper trained on CIFAR-100 at the rate that it had selected on CIFAR-10: the earlier run may have another data
    set and augmentation, but must have the variant.

    Raises:
        ValueError: there is no run, or it has not selected one rate for the study's variants.
    """
    location, earlier, rows = _read("rates_from", location)
    selected: dict[str, float] = {}
    for cell in dict.fromkeys(cell_of(row) for row in rows if row["variant"] in study.variants):
        found = candidates([row for row in rows if cell_of(row) == cell], earlier.protocol)
        ranked = rank_configurations(found, seeds=earlier.search_seeds)
        if ranked:
            trial_id = ranked[0][0].trial_id
            selected[cell] = next(row["lr"] for row in rows if row["trial_id"] == trial_id)
    missing = [variant for variant in study.variants if not any(cell.endswith(f"/{variant}") for cell in selected)]
    if missing:
        raise ValueError(
            f"rates_from must be a run with a completed trial of {missing[0]}, got {location}, which has none."
        )
    if len(set(selected.values())) > 1:
        rates = ", ".join(f"{lr:g} ({cell})" for cell, lr in selected.items())
        raise ValueError(
            f"rates_from must be a run that selected one rate for all of the study's variants, got {location} "
            f"with {rates}; name one by --variants, or the rate by --learning-rates."
        )
    rate = Choice((next(iter(selected.values())),))
    spaces = {variant: space.without(["lr"]) for variant, space in study.spaces.items()}
    return replace(study, space=study.space.with_dimensions({"lr": rate}), spaces=spaces)


def warm_started(study: Study, location: str) -> Study:
    """Return the study with what the run at `location` tells it.

    A completed trial counts where the study has its cell, each hyperparameter that either of both studies searches lies
    in what is searched or is that cell's own, as do weight decay and batch size always, and it has the error that the
    study's protocol minimises: under `holdout` never a test error.

    Raises:
        ValueError: there is no run, it tells nothing, or the study's search would not listen.
    """
    # Refused where the search would not listen, before anything is read.
    replace(study, warm_start=WarmStart(run=location, points=(), skipped=0))
    location, its_study, rows = _read("warm_start", location)
    earlier = {cell.cell: cell for cell in its_study.cells()}
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
            f"its protocol {study.protocol}, got {location}, of whose {len(rows)} trials {elsewhere + outside} "
            f"completed: {elsewhere} in other cells, {outside} outside the ranges."
        )
    return replace(study, warm_start=WarmStart(run=location, points=tuple(points), skipped=elsewhere + outside))


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


def _read(option: str, location: str) -> tuple[str, Study, list[TrialRow]]:
    """Return an earlier run's location, its study and its rows of `trials`; errors begin with the option's name."""
    try:
        store = Store(location)
        return store.location, store.read_run().study, store.trial_rows()
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
