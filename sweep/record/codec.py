"""The record's tables as the bytes of Parquet files with a checksum: a file is whole, or damaged as a whole."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.common.validation import one_line, quote

_CHECKSUM_BYTES = 4


def encode(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a Parquet file of this schema, with a checksum."""
    return serialise(pa.Table.from_pylist(list(rows), schema=schema))


def serialise(table: pa.Table) -> bytes:
    """Return a table as a Parquet file with a checksum."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return with_checksum(sink.getvalue().to_pybytes())


def with_checksum(raw: bytes) -> bytes:
    """Return a Parquet file with a CRC-32 of all of its bytes before its footer, where no reader looks.

    Parquet's own checksums cover pages alone, and some flipped bits of a footer end the process inside pyarrow.
    """
    start = _footer(raw)
    return raw[:start] + _checksum(raw[:start], raw[start:]) + raw[start:]


def decode(raw: bytes, schema: pa.Schema, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table of a whole file.

    Args:
        raw: the file.
        schema: the columns and types that it must have.
        path: names the file in messages.
        columns: the columns to return, in this order; None for all.

    Raises:
        ValueError: the file is damaged, was not written by `encode`, or holds another table.
    """
    start = _footer(raw)
    end = max(0, start - _CHECKSUM_BYTES)
    if raw[end:start] != _checksum(raw[:end], raw[start:]):
        raise ValueError(f"{path} cannot be read: its checksum is missing or does not match its contents.")
    try:
        # Not pq.read_table, which starts threads for these few rows and loads half a second of code: one that was
        # still waiting when Python ended has aborted a process that had said all it had to say.
        parquet = pq.ParquetFile(pa.BufferReader(raw))
        held = parquet.schema_arrow
        # Of trials further columns follow, one for each hyperparameter, for other readers.
        if pa.schema(list(held)[: len(schema)]).equals(schema):
            return parquet.read(columns=columns, use_threads=False).select(columns or schema.names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read: it is no Parquet file ({one_line(error)}).") from error
    names = ", ".join(sorted({field.name for field in set(schema) - set(held)})) or "the order of its columns"
    raise ValueError(f"{path} cannot be read: it holds another table, which differs in {quote(names)}.")


def _checksum(before: bytes, footer: bytes) -> bytes:
    return zlib.crc32(footer, zlib.crc32(before)).to_bytes(_CHECKSUM_BYTES, "little")


def _footer(raw: bytes) -> int:
    """Return where a file's footer begins; 0 where that is before the file."""
    return max(0, len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"))
