"""The learning rate that an earlier run selected for a variant, for a study that is not to search it again."""

from dataclasses import replace

from search_spaces import Choice
from sweep.record.document import check_document
from sweep.record.selection import HYPERPARAMETERS, candidates, rank_configurations, search_seeds
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
        document = store.read_study()
        check_document(document, f"{store.location}/study.json")
        earlier = document["study"]
        rows = store.read_trials().to_pylist()
    except ValueError as error:
        raise ValueError(f"rates_from: {error}") from error
    selected: dict[tuple[str, str, str], float] = {}
    for variant in study.variants:
        cells = sorted({(row["dataset"], row["augmentation"]) for row in rows if row["variant"] == variant})
        for dataset, augmentation in cells:
            cell = (dataset, augmentation, variant)
            of_cell = [row for row in rows if (row["dataset"], row["augmentation"], row["variant"]) == cell]
            ranked = rank_configurations(candidates(of_cell, earlier["protocol"]), seeds=search_seeds(earlier))
            if ranked:
                selected[cell] = ranked[0][0].configuration[HYPERPARAMETERS.index("lr")]
    missing = [variant for variant in study.variants if not any(cell[2] == variant for cell in selected)]
    if missing:
        raise ValueError(
            f"rates_from must be a run with a completed trial of {missing[0]}, got {store.location}, which has none."
        )
    if len(set(selected.values())) > 1:
        rates = ", ".join(f"{lr:g} ({'/'.join(cell)})" for cell, lr in selected.items())
        raise ValueError(
            f"rates_from must be a run that selected one rate for all of the study's variants, got {store.location} "
            f"with {rates}; name one by --variants, or the rate by --learning-rates."
        )
    return replace(study, learning_rates=Choice((next(iter(selected.values())),)))
