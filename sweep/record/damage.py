"""Which values a run could have written, and what can be read of a run some of whose files are damaged.

Readers for people use this. What writes a run reads it through `Store`, which refuses a damaged file, after
`sweep.resume.repair` has put back what can be put back.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.record.params import is_params
from sweep.record.schema import DECISIONS, EPOCHS, STATES, TRIALS, Phase
from sweep.record.store import TRIAL_ID, Store, each_once
from trainables.common.validation import quote

_SCHEMAS = {"trials": TRIALS, "epochs": EPOCHS, "decisions": DECISIONS}

_LARGEST = 2**53
"""No count is larger, and above it a float no longer tells one whole number from the next."""

Rule = tuple[str, str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]
"""A column, what must hold of its values, and a function that says of each whether it does; null where it may be."""


def _within(low: float, high: float = _LARGEST) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    # A comparison with NaN is false.
    return lambda column: pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))


def _each(holds: Callable[[str], object]) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    # Each text once: millions of epochs are of some thousand trials.
    def good(column: pa.ChunkedArray) -> list[str]:
        return [text for text in column.unique().to_pylist() if text is not None and holds(text)]

    return lambda column: pc.is_in(column, pa.array(good(column), pa.string()))


_COUNT_FROM_1 = ("at least 1", _within(1))
_ERRORS = tuple(
    (name, "a fraction in [0, 1]", _within(0, 1))
    for name in ("val_error", "test_error", "test_top5_error", "train_error", "averaged_error")
)
_IDS: Rule = ("trial_id", "letters, digits, dots, hyphens and underscores", _each(re.compile(TRIAL_ID).fullmatch))
_NAME = re.compile(r"[^\x00-\x1f\x7f/|]{1,200}")

_RULES: dict[str, tuple[Rule, ...]] = {
    "trials": (
        _IDS,
        ("phase", "search or confirm", _each(get_args(Phase).__contains__)),
        ("state", f"one of {', '.join(STATES)}", _each(STATES.__contains__)),
        *((name, "a name on one line", _each(_NAME.fullmatch)) for name in ("dataset", "augmentation", "variant")),
        ("lr", "above 0", _within(5e-324, 1e300)),
        ("params", "values by name in JSON", _each(is_params)),
        ("epochs_budget", *_COUNT_FROM_1),
        *((name, "at least 0", _within(0)) for name in ("seed", "epochs_run", "num_parameters")),
        *_ERRORS[:3],
    ),
    "epochs": (_IDS, ("epoch", *_COUNT_FROM_1), *_ERRORS),
    "decisions": (_IDS, ("epoch", *_COUNT_FROM_1), ("verdict", "text", _each(re.compile("[^\x00-\x1f]*").fullmatch))),
}
_MAY_BE_NULL = {"num_parameters", *(name for name, _, _ in _ERRORS)}


@final
@dataclass(frozen=True, kw_only=True)
class Salvaged:
    """The rows of a run's whole files."""

    trials: pa.Table
    """In order of `trial_id`, each once."""
    epochs: pa.Table
    """In order of `trial_id`, here a dictionary, and `epoch`, each once; those of the columns that were asked for."""
    damages: tuple[str, ...]
    """A sentence for each fault: the file, what is wrong with it, and what is missing. None of a whole run."""
    trials_are_lost: bool
    """Whether no row of trials can be read, though there are some, or rows of epochs."""


def salvage_record(store: Store, columns: Sequence[str] = EPOCHS.names) -> Salvaged:
    """Return the rows of a run's whole files, and what is wrong with the others.

    Args:
        store: the run's.
        columns: of the epochs, which are most of a run's data, those to read beside `trial_id` and `epoch`.

    Raises:
        ValueError: the place cannot be read at all.
    """
    # Trials before epochs: a run that is alive writes them the other way round, and no epoch seems to be missing.
    trials, damages = read_rows(store, "trials.parquet", "trials")
    is_damaged = bool(damages)
    wanted = [name for name in EPOCHS.names if name in {"trial_id", "epoch", *columns}]

    def read(name: str) -> tuple[pa.Table, list[str]]:
        rows, faults = read_rows(store, name, "epochs", wanted)
        return _with_short_ids(rows), faults

    none = _with_short_ids(EPOCHS.empty_table().select(wanted))
    parts = store.each_part(read)
    epochs = each_once(pa.concat_tables([none, *(rows for rows, _ in parts)]))
    damages += [fault for _, faults in parts for fault in faults]
    damages += read_rows(store, "decisions.parquet", "decisions")[1]
    lost = not len(trials) and (is_damaged or len(epochs) > 0)
    if lost and not is_damaged:
        damages.append(f"{store.folder('trials.parquet')} must lie beside {len(epochs)} rows of epochs, got none.")
    damages += _gaps(store, trials, epochs)
    return Salvaged(trials=trials.sort_by("trial_id"), epochs=epochs, damages=tuple(damages), trials_are_lost=lost)


def _with_short_ids(epochs: pa.Table) -> pa.Table:
    """Return epochs with each `trial_id` kept once and its number in each row: half of the memory."""
    return epochs.set_column(epochs.column_names.index("trial_id"), "trial_id", epochs["trial_id"].dictionary_encode())


def read_rows(store: Store, name: str, kind: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, list[str]]:
    """Return the rows of a file that a run could have written, none of a damaged one, and a sentence for each fault.

    Args:
        store: the run's.
        name: the file's, in the run's folder.
        kind: `trials`, `epochs` or `decisions`.
        columns: those to read; None for all.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        table = store.read_table(name, _SCHEMAS[kind], columns)
    except ValueError as error:
        return _SCHEMAS[kind].empty_table().select(columns or _SCHEMAS[kind].names), [str(error)]
    return check_rows(table, kind, store.folder(name))


def missing_epochs(trials: pa.Table, epochs: pa.Table) -> dict[str, int]:
    """Return how many of the epochs that `epochs_run` counts a trial lacks, by its id, where it lacks some.

    Args:
        trials: rows of trials, each once.
        epochs: rows of epochs, each once.
    """
    runs = trials["epochs_run"].to_numpy()
    places = pc.index_in(epochs["trial_id"], trials["trial_id"].combine_chunks())
    known = pa.table({"place": places, "epoch": epochs["epoch"]}).drop_null()
    place, epoch = known["place"].to_numpy(), known["epoch"].to_numpy()
    lacks = runs - np.bincount(place[epoch <= runs[place]], minlength=len(runs))
    return {name: lack for name, lack in zip(trials["trial_id"].to_pylist(), lacks.tolist(), strict=True) if lack > 0}


def _gaps(store: Store, trials: pa.Table, epochs: pa.Table) -> list[str]:
    missing = missing_epochs(trials, epochs)
    if not missing:
        return []
    first = next(iter(missing))
    runs = dict(zip(trials["trial_id"].to_pylist(), trials["epochs_run"].to_pylist(), strict=True))
    return [
        f"{store.folder('epochs')} must hold the {sum(runs.values())} epochs that trials.parquet counts, got "
        f"{sum(missing.values())} fewer: they are missing of {len(missing)} of {len(runs)} trials, "
        f"{missing[first]} of {runs[first]} of {first} among them."
    ]


def check_rows(table: pa.Table, kind: str, path: str) -> tuple[pa.Table, list[str]]:
    """Return the rows whose values a run could have written, and a sentence for each column with others.

    Args:
        table: of the record's schema.
        kind: `trials`, `epochs` or `decisions`.
        path: names the file in the sentences.
    """
    more = len(table) - pc.count_distinct(table["trial_id"], mode="all").as_py() if kind == "trials" else 0
    if more:
        return table.slice(0, 0), [f"{path} must hold each trial once, got {more} of its {len(table)} rows again."]
    damages: list[str] = []
    good = np.ones(len(table), bool)
    for column, must, holds in _RULES[kind]:
        if column not in table.column_names:  # the rules on errors are those of two tables
            continue
        values = table[column]
        # Of a null no rule says anything but whether it may be.
        fits = pc.if_else(pc.is_null(values), column in _MAY_BE_NULL, holds(values)).to_numpy()
        wrong = good & ~fits
        if wrong.any():
            place, count = int(wrong.argmax()), int(wrong.sum())
            damages.append(
                f"{path} must hold rows whose {column} is {must}, got {quote(values[place].as_py())} in row {place}; "
                f"{count} of its {len(table)} rows {'is' if count == 1 else 'are'} left out for it."
            )
            good &= fits
    return table.filter(pa.array(good)) if damages else table, damages
