"""The record of a run, read for a table and its findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from analysis.aggregate import By, Trial, VariantResult, summarise
from sweep.selection import criterion_column
from sweep.store import Store


@final
@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The record of a run as the checks look at it."""

    document: Mapping[str, Any]
    """Contents of the run's study.json."""
    trials: Sequence[Trial]
    """Rows of the record's `trials`."""
    epochs: Sequence[Mapping[str, Any]] = ()
    """Rows of the record's `epochs`, where a trial was stopped or the best epoch decides."""

    @property
    def study(self) -> Mapping[str, Any]:
        """What study.json holds under `study`."""
        return self.document["study"]  # type: ignore[no-any-return]

    @cached_property
    def results(self) -> list[VariantResult]:
        """A result per cell."""
        return self.results_by("variant")

    def results_by(self, by: By) -> list[VariantResult]:
        """Return the results that a table by variant, learning rate or seed shows."""
        return summarise(self.trials, self.study, by, self.epochs)

    def names(self, results: Sequence[VariantResult]) -> str:
        """Return the variants of some results in words, with data set and augmentation where there are several."""
        if len(results) == len(self.results) > 1:
            return f"all {len(results)} rows"
        several = len({(result.dataset, result.augmentation) for result in self.results}) > 1
        return ", ".join(
            f"{result.dataset}/{result.augmentation}/{result.variant}" if several else result.variant
            for result in results
        )

    def searched(self, result: VariantResult) -> list[Trial]:
        """Return the trials of the search in a result's cell."""
        return self._searched.get((result.dataset, result.augmentation, result.variant), [])

    @cached_property
    def _searched(self) -> dict[tuple[str, str, str], list[Trial]]:
        cells: dict[tuple[str, str, str], list[Trial]] = {}
        for row in self.trials:
            if row["phase"] == "search":
                cells.setdefault((row["dataset"], row["augmentation"], row["variant"]), []).append(row)
        return cells


def read_evidence(store: Store) -> Evidence:
    """Return a run's record, its epochs only where something is read from them: they are most of it.

    Raises:
        ValueError: there is no run, or its record cannot be read.
    """
    document, trials = store.read_study(), store.read_trials().to_pylist()
    by_epoch = document["study"].get("criterion", "last") != "last"
    if not by_epoch and all(row["state"] != "stopped" for row in trials):
        return Evidence(document=document, trials=trials)
    columns = ["trial_id", "epoch", criterion_column(document["study"]["protocol"])]
    return Evidence(document=document, trials=trials, epochs=store.read_epochs().select(columns).to_pylist())
