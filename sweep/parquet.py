"""The record's tables as the bytes of Parquet files: whole ones, and what can be saved of damaged ones."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.records import ADDED

_LARGEST_PAGE = 2**26
"""Bytes that a column of a small file may claim to unpack to: a few altered bytes could ask for all the memory."""

_RATIO = 2000
"""Times its own size that a column may unpack to: snappy's limit is 64, and equal values are written once."""


def encode(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a Parquet file of this schema, each page with its checksum."""
    return serialise(pa.Table.from_pylist(rows, schema=schema))


def serialise(table: pa.Table) -> bytes:
    """Return a table as a Parquet file, each page with its checksum."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode(raw: bytes, schema: pa.Schema, path: str) -> pa.Table:
    """Return the table of a whole file in today's schema.

    Args:
        raw: the file.
        schema: of today; columns that came later than the file are null.
        path: names the file in messages.

    Raises:
        ValueError: the file is damaged, lacks a column, or has one of another type.
    """
    parquet = _open(raw, path)
    return _columns(parquet, schema, schema.names, path)


def salvage(raw: bytes, schema: pa.Schema, path: str, needed: Sequence[str]) -> tuple[pa.Table, str | None]:
    """Return what can be read of a file, and a sentence on what cannot, None where it is whole.

    A damaged column is null in every row. There are no rows where a column is damaged without which a row says nothing.

    Args:
        raw: the file.
        schema: of today.
        path: names the file in messages.
        needed: the columns that a row cannot do without.
    """
    try:
        return decode(raw, schema, path), None
    except ValueError as error:
        reason = str(error)
    try:
        parquet = _open(raw, path)
    except ValueError:
        return schema.empty_table(), f"{reason} None of its rows can be read."
    count = parquet.metadata.num_rows
    found: dict[str, pa.ChunkedArray] = {}
    for name in schema.names:
        try:
            column = _columns(parquet, schema, [name], path)[name]
        except ValueError:
            continue
        if len(column) == count:
            found[name] = column
    lost = [name for name in schema.names if name not in found]
    if not lost or set(needed) & set(lost):
        said = f"{reason} None of its {count} rows can be read"
        return schema.empty_table(), f"{said}: {', '.join(lost)} {'is' if len(lost) == 1 else 'are'} damaged."
    columns = [found[name] if name in found else pa.nulls(count, schema.field(name).type) for name in schema.names]
    return pa.table(columns, schema=schema), f"{reason} Its {count} rows are read without {', '.join(lost)}."


def _open(raw: bytes, path: str) -> pq.ParquetFile:
    try:
        # Not pq.read_table, which starts threads for these few rows and loads half a second of code: one that was
        # still waiting when Python ended has aborted a process that had said all it had to say.
        parquet = pq.ParquetFile(
            pa.BufferReader(raw),
            page_checksum_verification=True,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
        )
        _check_size(parquet.metadata, len(raw))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return parquet


def _check_size(metadata: pq.FileMetaData, size: int) -> None:
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            claimed = metadata.row_group(group).column(number).total_uncompressed_size
            if not 0 <= claimed <= max(_LARGEST_PAGE, _RATIO * size):
                raise ValueError(f"a column claims to unpack to {claimed} bytes")


def _columns(parquet: pq.ParquetFile, schema: pa.Schema, names: Sequence[str], path: str) -> pa.Table:
    """Return some of the schema's columns, in this order and of its types."""
    try:
        present = parquet.schema_arrow.names
        written = (parquet.schema_arrow.metadata or {}).get(b"schema_version", b"")
        table = parquet.read(columns=[name for name in names if name in present], use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    for name, since in ADDED.items():
        is_older = written.isdigit() and int(written) < since
        if is_older and name in names and name not in present:
            table = table.append_column(name, pa.nulls(parquet.metadata.num_rows, schema.field(name).type))
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} must have a column {missing[0]}, got {_listed(present)}.")
    try:
        wanted = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
        return table.select(names).cast(wanted)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} must have columns of the record's types, got others ({line(error)}).") from error


def line(error: Exception) -> str:
    """Return an error's text on one line that is not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} must be a whole Parquet file, got one that cannot be read ({line(error)}).")


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= 600 else f"{text[:597]}..."
