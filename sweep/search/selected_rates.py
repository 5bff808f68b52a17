"""The learning rate that an earlier run selected for a variant, for a study that is not to search it again."""

from dataclasses import replace

from search_spaces import Choice
from sweep.record.schema import cell_of
from sweep.record.selection import candidates, rank_configurations
from sweep.record.store import Store
from sweep.study.study import Study


def with_selected_rates(study: Study, location: str) -> Study:
    """Return the study with the learning rate that the run at `location` selected, in place of those to search.

    The paper trained on CIFAR-100 at the rate that it had selected on CIFAR-10: the earlier run may have another data
    set and augmentation, but must have the variant.

    Args:
        study: of the run that is about to begin.
        location: the earlier run's folder or URI.

    Raises:
        ValueError: there is no run, or it has not selected one rate for the study's variants.
    """
    try:
        store = Store(location)
        earlier = store.read_run().study
        rows = store.trial_rows()
    except ValueError as error:
        raise ValueError(f"rates_from: {error}") from error
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
            f"rates_from must be a run with a completed trial of {missing[0]}, got {store.location}, which has none."
        )
    if len(set(selected.values())) > 1:
        rates = ", ".join(f"{lr:g} ({cell})" for cell, lr in selected.items())
        raise ValueError(
            f"rates_from must be a run that selected one rate for all of the study's variants, got {store.location} "
            f"with {rates}; name one by --variants, or the rate by --learning-rates."
        )
    rate = Choice((next(iter(selected.values())),))
    spaces = {variant: space.without(["lr"]) for variant, space in study.spaces.items()}
    return replace(study, space=study.space.with_dimensions({"lr": rate}), spaces=spaces)
