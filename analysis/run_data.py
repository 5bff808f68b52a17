"""The record of a run, read for a table and its findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import pyarrow as pa
import pyarrow.compute as pc

from analysis.results import By, Cell, Trial, VariantResult, cell_of, several_places, summarise
from sweep.record.damage import Salvaged, salvage_record
from sweep.record.document import RunDocument
from sweep.record.schema import EpochRow
from sweep.record.selection import criterion_column
from sweep.record.store import Store
from sweep.study.study import Study


@final
@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The record of a run as the checks look at it."""

    document: RunDocument
    """Contents of the run's study.json."""
    trials: Sequence[Trial]
    """Rows of the record's `trials`."""
    epochs: Sequence[EpochRow] = ()
    """Rows of the record's `epochs`, at which a trial was stopped."""
    damages: Sequence[str] = ()
    """A sentence for each fault of the record's files: what can be said is said of the good rows alone."""
    reported: Sequence[EpochRow] = ()
    """Where the table of trials is lost, the last row of `epochs` of each trial: all that is known of them."""

    @property
    def study(self) -> Study:
        """What study.json holds under `study`."""
        return self.document.study

    @cached_property
    def results(self) -> list[VariantResult]:
        """A result per cell."""
        return summarise(self.trials, self.study)

    def results_by(self, by: By) -> list[VariantResult]:
        """Return the results that a table by variant, learning rate or seed shows."""
        return self.results if by == "variant" else summarise(self.trials, self.study, by)

    def names(self, results: Sequence[VariantResult]) -> str:
        """Return the variants of some results in words, with data set and augmentation where there are several."""
        if len(results) == len(self.results) > 1:
            return f"all {len(results)} rows"
        return ", ".join(map(self.label, results))

    def label(self, result: VariantResult) -> str:
        """Return a cell's name, as short as the run allows."""
        return "/".join(result.cell) if several_places(self.results) else result.variant

    def searched(self, result: VariantResult) -> list[Trial]:
        """Return the trials of the search in a result's cell."""
        return self._searched.get(result.cell, [])

    @cached_property
    def _searched(self) -> dict[Cell, list[Trial]]:
        cells: dict[Cell, list[Trial]] = {}
        for row in self.trials:
            if row["phase"] == "search":
                cells.setdefault(cell_of(row), []).append(row)
        return cells


def read_evidence(store: Store) -> Evidence:
    """Return the good rows of a run's record, its epochs only where something is read from them: they are most of it.

    Raises:
        ValueError: there is no run, or no table can be made of it.
    """
    return evidence_of(store, *read_record(store))


def read_record(store: Store) -> tuple[RunDocument, Salvaged]:
    """Return a run's study.json and the good rows of its record, of the epochs the columns with errors.

    Raises:
        ValueError: there is no run, or no table can be made of it.
    """
    return store.read_run(), salvage_record(store, ["val_error", "test_error"])


def evidence_of(store: Store, document: RunDocument, record: Salvaged) -> Evidence:
    """Return what `read_record` read as the checks look at it."""
    trials, damages = _of_known_data(record.trials.to_pylist(), document, list(record.damages))
    column = criterion_column(document.study.protocol)
    without = [
        row for row in trials if row["state"] == "completed" and row["phase"] == "search" and row[column] is None
    ]
    if without:
        damages.append(
            f"{store.folder('trials.parquet')} must hold the {column} of each completed trial of the search, got "
            f"{len(without)} without, which no choice can fall on."
        )
    reported = _last_rows(record.epochs) if record.trials_are_lost else []
    epochs = record.epochs.select(["trial_id", "epoch", column])
    # A trial is compared with others at the epoch after which it was stopped, and nowhere else.
    ends = {row["epochs_run"] for row in trials if row["state"] == "stopped"}
    epochs = epochs.filter(pc.is_in(epochs["epoch"], pa.array(sorted(ends), pa.int64())))
    return Evidence(document=document, trials=trials, epochs=epochs.to_pylist(), damages=damages, reported=reported)


def _of_known_data(trials: list[Trial], document: RunDocument, damages: list[str]) -> tuple[list[Trial], list[str]]:
    unknown = [row for row in trials if row["dataset"] not in document.data]
    if not unknown:
        return trials, damages
    names = ", ".join(sorted({row["dataset"] for row in unknown}))
    said = f"study.json must describe each trial's data, got none of {names}; {len(unknown)} trials are left out."
    return [row for row in trials if row["dataset"] in document.data], [*damages, said]


def _last_rows(epochs: pa.Table) -> list[EpochRow]:
    last: dict[str, EpochRow] = {}
    for row in epochs.select(["trial_id", "epoch", "val_error", "test_error"]).to_pylist():
        last[row["trial_id"]] = row
    return list(last.values())
