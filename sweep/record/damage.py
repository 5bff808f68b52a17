"""What can be read of a record of which parts are damaged: the good rows, and sentences on all others.

Readers for people use this. What writes the record reads it through `Store`, which refuses what is damaged, after
`sweep.resume.repair` has put back what can be put back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.record.codec import salvage
from sweep.record.schema import DECISIONS, EPOCHS, STATES, TRIALS
from sweep.record.store import TRIAL_ID, Store
from trainables.common.validation import shown

_NEEDED = {
    "trials": (
        *("trial_id", "phase", "dataset", "augmentation", "variant", "lr", "weight_decay", "batch_size", "seed"),
        *("state", "epochs_run", "epochs_budget"),
    ),
    "epochs": ("trial_id", "epoch"),
    "decisions": ("trial_id", "epoch", "verdict"),
}
"""Columns without which a row says nothing of its trial."""

_LARGEST = 2**53
"""No count is larger, and above it a float no longer tells one whole number from the next."""

Rule = tuple[str, str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]
"""A column, what must hold of its values, and a function that says of each whether it does; null where it may be."""


def _within(low: float, high: float) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    # A comparison with NaN is false.
    return lambda column: pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))


def _one_of(*names: str) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda column: pc.is_in(column, pa.array([*names, None], pa.string()))


def _matches(pattern: str) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    def holds(column: pa.ChunkedArray) -> pa.ChunkedArray:
        # Each name once: millions of epochs are of some thousand trials.
        names = column.unique()
        return pc.is_in(column, names.filter(pc.match_substring_regex(names, f"^(?:{pattern})$")))

    return holds


_ERRORS = tuple(
    (name, "a fraction in [0, 1]", _within(0, 1))
    for name in ("val_error", "test_error", "test_top5_error", "train_error", "averaged_error")
)
_IDS: Rule = ("trial_id", "letters, digits, dots, hyphens and underscores", _matches(TRIAL_ID))
_NAME = r"[^\x00-\x1f\x7f/|]{1,200}"

_RULES: dict[str, tuple[Rule, ...]] = {
    "trials": (
        _IDS,
        ("phase", "search or confirm", _one_of("search", "confirm")),
        ("state", f"one of {', '.join(STATES)}", _one_of(*STATES)),
        *((name, "a name on one line", _matches(_NAME)) for name in ("dataset", "augmentation", "variant")),
        ("lr", "above 0", _within(5e-324, 1e300)),
        ("weight_decay", "at least 0", _within(0, 1e300)),
        *((name, "at least 1", _within(1, _LARGEST)) for name in ("batch_size", "epochs_budget")),
        *((name, "at least 0", _within(0, _LARGEST)) for name in ("seed", "epochs_run", "num_parameters")),
        *_ERRORS[:3],
    ),
    "epochs": (_IDS, ("epoch", "at least 1", _within(1, _LARGEST)), *_ERRORS),
    "decisions": (_IDS, ("epoch", "at least 1", _within(1, _LARGEST)), ("verdict", "text", _matches("[^\x00-\x1f]*"))),
}
_MUST_BE_KNOWN = {
    "trials": (
        *("trial_id", "phase", "dataset", "augmentation", "variant", "lr", "seed"),
        *("state", "epochs_run", "epochs_budget"),
    ),
    "epochs": ("trial_id", "epoch"),
    "decisions": ("trial_id", "epoch", "verdict"),
}


@final
@dataclass(frozen=True, kw_only=True)
class Salvaged:
    """The good rows of a record."""

    trials: pa.Table
    """In order of `trial_id`, each once."""
    epochs: pa.Table
    """In order of `trial_id`, here a dictionary, and `epoch`, each once; those of the columns that were asked for."""
    damages: tuple[str, ...]
    """A sentence for each fault: where it is, what it is, and what is missing for it. None of a whole record."""
    trials_are_lost: bool
    """Whether there is a table of trials of which nothing can be read, or none beside epochs that are there."""


def salvage_record(store: Store, columns: Sequence[str] = EPOCHS.names) -> Salvaged:
    """Return what can be read of a run's record.

    Args:
        store: the run's.
        columns: of the epochs, which are most of a record, those to return beside `trial_id` and `epoch`; of the others
            only the checksums are looked at.

    Raises:
        ValueError: the place cannot be read at all.
    """
    # Trials before epochs: a run that is alive writes them the other way round, and no epoch seems to be missing.
    is_there = store.holds("trials.parquet")
    trials, damages = _salvage(store, "trials.parquet", "trials", TRIALS) if is_there else (TRIALS.empty_table(), [])
    lost = bool(damages) and not len(trials)
    epochs, found = _salvage_epochs(store, [name for name in EPOCHS.names if name in {"trial_id", "epoch", *columns}])
    damages += found
    if store.holds("decisions.parquet"):
        damages += _salvage(store, "decisions.parquet", "decisions", DECISIONS)[1]
    single = _each_once(trials, ["trial_id"])
    if len(single) < len(trials):
        more = len(trials) - len(single)
        damages.append(
            f"{store.folder('trials.parquet')} must hold each trial once, got {more} more rows; the last counts."
        )
    if not is_there and len(epochs):
        lost = True
        damages.append(f"{store.folder('trials.parquet')} must lie beside {len(epochs)} rows of epochs, got none.")
    damages += _gaps(store, single, epochs)
    return Salvaged(trials=single, epochs=epochs, damages=tuple(damages), trials_are_lost=lost)


def missing_epochs(trials: pa.Table, epochs: pa.Table) -> dict[str, int]:
    """Return how many of the epochs that `epochs_run` counts a trial lacks, by its id, where it lacks some."""
    return _missing(trials, _each_once(epochs.select(["trial_id", "epoch"]), ["trial_id", "epoch"]))


def _missing(trials: pa.Table, once: pa.Table) -> dict[str, int]:
    """As `missing_epochs`, of epochs that are there once each."""
    counted = dict(zip(trials["trial_id"].to_pylist(), trials["epochs_run"].to_pylist(), strict=True))
    names, of_row = _numbered(once["trial_id"])
    told = np.array([counted.get(name, 0) for name in names], np.int64)
    held = np.bincount(of_row[once["epoch"].to_numpy() <= told[of_row]], minlength=len(names))
    have = dict(zip(names, held.tolist(), strict=True))
    return {name: run - have.get(name, 0) for name, run in counted.items() if run > have.get(name, 0)}


def _gaps(store: Store, trials: pa.Table, epochs: pa.Table) -> list[str]:
    missing = _missing(trials, epochs)
    if not missing:
        return []
    first = next(iter(missing))
    run = dict(zip(trials["trial_id"].to_pylist(), trials["epochs_run"].to_pylist(), strict=True))
    counted = sum(run.values())
    return [
        f"{store.folder('epochs')} must hold the {counted} epochs that trials.parquet counts, got "
        f"{sum(missing.values())} fewer: they are missing of {len(missing)} of {len(run)} trials, "
        f"{missing[first]} of {run[first]} of {first} among them."
    ]


def _salvage_epochs(store: Store, wanted: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Return the good rows of all parts of the epochs, each once, and what is wrong with the parts."""

    def read(name: str) -> tuple[pa.Table, list[str]]:
        table, damages = _salvage(store, name, "epochs", EPOCHS, wanted)
        return _with_short_names(table), damages

    parts = store.each_part(read)
    none = _with_short_names(EPOCHS.empty_table().select(wanted))
    epochs = _each_once(pa.concat_tables([table for table, _ in parts] or [none]), ["trial_id", "epoch"])
    return epochs, [sentence for _, damages in parts for sentence in damages]


def _with_short_names(epochs: pa.Table) -> pa.Table:
    """Return epochs with each `trial_id` kept once and a number for it in each row, most of which it would take."""
    names = epochs["trial_id"].dictionary_encode()
    return epochs.set_column(epochs.schema.get_field_index("trial_id"), "trial_id", names)


def _salvage(
    store: Store, name: str, kind: str, schema: pa.Schema, wanted: Sequence[str] | None = None
) -> tuple[pa.Table, list[str]]:
    """Return a file's good rows, of some columns or of all, and what is wrong with it and with the others."""
    path = store.folder(name)
    try:
        raw = store.read_file(name)
    except ValueError as error:
        return schema.empty_table().select(wanted or schema.names), [str(error)]
    table, damage = salvage(raw, schema, path, _NEEDED[kind], wanted)
    rows, damages = check_rows(table, kind, path)
    if wanted is not None:
        rows = rows.select(wanted)
    return rows, [damage, *damages] if damage is not None else damages


def check_rows(table: pa.Table, kind: str, path: str) -> tuple[pa.Table, list[str]]:
    """Return the rows whose values a run could have written, and a sentence for each column with others.

    Args:
        table: of the record's schema.
        kind: `trials`, `epochs` or `decisions`.
        path: names the file in the sentences.
    """
    damages: list[str] = []
    good: pa.ChunkedArray | None = None
    for column, must, holds in _RULES[kind]:
        if column not in table.column_names:  # the rules on errors are those of two tables
            continue
        values = table[column]
        # Of a null no rule says anything but whether it may be.
        fits = holds(values)
        if values.null_count:
            fits = pc.if_else(pc.is_null(values), column not in _MUST_BE_KNOWN[kind], fits)
        if pc.all(fits, min_count=0).as_py():
            continue
        wrong = pc.invert(fits) if good is None else pc.and_(good, pc.invert(fits))
        count = pc.sum(wrong).as_py() or 0
        if count:
            place = pc.index(wrong, True).as_py()
            got: Any = values[place].as_py()
            damages.append(
                f"{path} must hold rows whose {column} is {must}, got {shown(got)} in row {place}; "
                f"{count} of its {len(table)} rows {'is' if count == 1 else 'are'} left out for it."
            )
        good = fits if good is None else pc.and_(good, fits)
    return table.filter(good) if damages else table, damages


def _each_once(table: pa.Table, keys: list[str]) -> pa.Table:
    """Return the last row of each key, in order of the keys."""
    columns = [
        table[key].to_numpy() if pa.types.is_integer(table.schema.field(key).type) else _numbered(table[key])[1]
        for key in keys
    ]
    order = np.lexsort(columns[::-1])  # by the first key first; rows of the same key stay in their order
    is_last = np.ones(len(table), bool)
    is_last[:-1] = np.logical_or.reduce([np.diff(column[order]) != 0 for column in columns])
    rows = order[is_last]
    del columns, order  # together as large as a table of millions of rows, of which a second one is made now
    is_so_already = len(rows) == len(table) and bool((np.diff(rows) == 1).all())
    return table if is_so_already else table.take(pa.array(rows))


def _numbered(names: pa.ChunkedArray) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the names that there are, in their order, and for each row the place of its own among them."""
    encoded = names.dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return [], np.empty(0, np.int64)
    found = np.array(encoded.chunk(0).dictionary.to_pylist(), object)
    order = np.argsort(found)
    places = np.empty(len(found), np.int32)
    places[order] = np.arange(len(found), dtype=np.int32)
    rows = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
    return found[order].tolist(), places[rows]
