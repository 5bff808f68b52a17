"""A trial's hyperparameters as canonical JSON, and as columns that other tools can filter by."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import pyarrow as pa

from search_spaces import Scalar
from search_spaces.dimensions import in_words
from sweep.record.schema import TRIALS


def write_params(params: Mapping[str, Scalar]) -> str:
    """Return hyperparameters as text that is the same for the same values."""
    return json.dumps(dict(params), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@lru_cache(maxsize=100_000)
def read_params(text: str) -> Mapping[str, Scalar]:
    """Return what `write_params` wrote, by name.

    Raises:
        ValueError: it is no such text.
    """
    params = json.loads(text)
    if not isinstance(params, dict):
        raise ValueError(f"params must be values by name, got {text[:100]!r}.")
    return MappingProxyType(params)


def is_params(text: str) -> bool:
    """Return whether a text is one that `write_params` could have written."""
    try:
        params = read_params(text)
        is_canonical = write_params(params) == text
    except (ValueError, RecursionError):
        return False
    return is_canonical and all(value is None or isinstance(value, str | int | float) for value in params.values())


def column_name(name: str) -> str:
    """Return the name of the column that holds a hyperparameter in trials.parquet, which no other column has."""
    if name == "lr":
        return name
    plain = name.replace(".", "_")
    return f"param_{plain}" if plain in TRIALS.names else plain


def label(name: str) -> str:
    """Return a hyperparameter's name as a heading: `lr` is the learning rate."""
    return "learning rate" if name == "lr" else name.rpartition(".")[2].replace("_", " ")


def describe(text: str, separator: str = " ", *, long: bool = False) -> str:
    """Return a configuration in words, such as `lr 0.05 dropout 0.1`, the learning rate first.

    Args:
        text: what `write_params` wrote.
        separator: stands between two of them.
        long: whether `lr` is written out.
    """
    return separator.join(
        f"{label(name) if long or name != 'lr' else name} {in_words(value)}" for name, value in in_order(text)
    )


def in_order(text: str) -> list[tuple[str, Scalar]]:
    """Return what `write_params` wrote with the learning rate first, then by name."""
    return sorted(read_params(text).items(), key=lambda item: (item[0] != "lr", item[0]))


def names_in(texts: Iterable[str]) -> list[str]:
    """Return the names of all hyperparameters that trials have, sorted."""
    return sorted({name for text in set(texts) for name in read_params(text)})


def with_param_columns(trials: pa.Table) -> pa.Table:
    """Return a table of trials with a column for each hyperparameter that any of them has; `lr` is there already.

    Where a trial has no such hyperparameter the column is null. Values of several kinds become JSON text, as do whole
    numbers that no column holds.
    """
    texts = trials["params"].to_pylist()
    for name in names_in(text for text in texts if text is not None):
        if name == "lr":
            continue
        values = [read_params(text).get(name) if text is not None else None for text in texts]
        kinds = {type(value) for value in values if value is not None}
        is_large = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
        if kinds == {int, float} and not is_large:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1 or is_large:
            values = [None if value is None else json.dumps(value) for value in values]
        trials = trials.append_column(column_name(name), pa.array(values, None if kinds else pa.string()))
    return trials
