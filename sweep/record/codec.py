"""The record's tables as the bytes of Parquet files: whole ones, and what can be saved of damaged ones."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.common.validation import line

_LARGEST_PAGE = 2**26
"""Bytes that a column of a small file may claim to unpack to: a few altered bytes could ask for all the memory."""

_MARK = bytes.fromhex("8d53f1e0c26a97b4")
"""Before and after the checksums: eight bytes that no file holds by chance."""

_RATIO = 100
"""Times the file's size that a column may unpack to: snappy's own limit is 64."""


def encode(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Return rows as a Parquet file of this schema, each page with its checksum."""
    return serialise(pa.Table.from_pylist(list(rows), schema=schema))


def serialise(table: pa.Table) -> bytes:
    """Return a table as a Parquet file, each page, each column and the footer with its checksum."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return with_checksums(sink.getvalue().to_pybytes())


def with_checksums(raw: bytes) -> bytes:
    """Return a Parquet file with checksums of its columns and its footer.

    Parquet has some of pages alone. A changed footer or page header is taken for what it says, and some changes end the
    whole process. So those of columns and footer stand in a gap before the footer, which no other reader looks at.
    """
    start = _footer(raw)
    sums = [zlib.crc32(raw[low:high]) for low, high in _chunks(pq.read_metadata(pa.BufferReader(raw)))]
    sums.append(zlib.crc32(raw[start:]))
    return b"".join((raw[:start], _MARK, struct.pack(f"<{len(sums)}I", *sums), _MARK, raw[start:]))


def decode(raw: bytes, schema: pa.Schema, path: str, wanted: Sequence[str] | None = None) -> pa.Table:
    """Return the table of a whole file.

    Args:
        raw: the file.
        schema: the record's.
        path: names the file in messages.
        wanted: the columns to return; None for all.

    Raises:
        ValueError: the file is damaged, lacks a column, or has one of another type.
    """
    parquet, damaged = _open(raw, path)
    if damaged:
        raise _damaged(path, ValueError(f"{_words(damaged)} changed since it was written"))
    return _columns(parquet, schema, schema.names if wanted is None else wanted, path)


def salvage(
    raw: bytes, schema: pa.Schema, path: str, needed: Sequence[str], wanted: Sequence[str] | None = None
) -> tuple[pa.Table, str | None]:
    """Return what can be read of a file, and a sentence on what cannot, None where it is whole.

    A damaged column is null in every row. There are no rows where a column is damaged without which a row says nothing.

    Args:
        raw: the file.
        schema: the record's.
        path: names the file in messages.
        needed: the columns that a row cannot do without.
        wanted: the columns that are wanted, in the schema's order; None for all. Of a whole file only these are read.
            Of any other all are returned, since what stands in one may speak against a row.
    """
    try:
        return decode(raw, schema, path, wanted), None
    except ValueError as error:
        reason = str(error)
    try:
        parquet, damaged = _open(raw, path)
    except ValueError:
        return schema.empty_table(), f"{reason} None of its rows can be read."
    count = parquet.metadata.num_rows
    found: dict[str, pa.ChunkedArray] = {}
    for name in schema.names:
        if name in damaged:
            continue
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


def _open(raw: bytes, path: str) -> tuple[pq.ParquetFile, set[str]]:
    """Return a file whose footer is whole, and the names of its columns that are not."""
    sums = _checksums(raw, path)
    try:
        # Not pq.read_table, which starts threads for these few rows and loads half a second of code: one that was
        # still waiting when Python ended has aborted a process that had said all it had to say.
        parquet = pq.ParquetFile(
            pa.BufferReader(raw),
            page_checksum_verification=True,
            thrift_string_size_limit=2**24,
            thrift_container_size_limit=2**20,
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    metadata = parquet.metadata
    _check_size(metadata, len(raw), path)
    places = _chunks(metadata)
    if len(places) != len(sums):
        raise _damaged(path, ValueError("its checksums are not its own"))
    names = [metadata.schema.column(number).name for number in range(metadata.num_columns)] * metadata.num_row_groups
    kept = zip(names, places, sums, strict=True)
    return parquet, {name for name, (low, high), expected in kept if zlib.crc32(raw[low:high]) != expected}


def _checksums(raw: bytes, path: str) -> tuple[int, ...]:
    """Return the checksums of a file's columns.

    Raises:
        ValueError: there are none, or the footer is not what was written: nothing may be made of it.
    """
    if _MARK not in raw:
        raise _damaged(path, ValueError("its checksums are missing"))
    start, size = _footer(raw), len(_MARK)
    first = raw.rfind(_MARK, 0, max(0, start - size))
    held = raw[first + size : start - size] if first >= 0 and raw[start - size : start] == _MARK else b""
    sums = struct.unpack(f"<{len(held) // 4}I", held) if held and len(held) % 4 == 0 else (None,)
    if zlib.crc32(raw[start:]) != sums[-1]:
        raise _damaged(path, ValueError("its footer changed since it was written"))
    return sums[:-1]


def _footer(raw: bytes) -> int:
    """Return where a file's footer begins; 0 where that is before the file."""
    return max(0, len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"))


def _chunks(metadata: pq.FileMetaData) -> list[tuple[int, int]]:
    """Return where the columns of all row groups begin and end."""
    found = []
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            start = column.data_page_offset
            if column.dictionary_page_offset is not None:
                start = min(start, column.dictionary_page_offset)
            found.append((start, start + column.total_compressed_size))
    return found


def _check_size(metadata: pq.FileMetaData, size: int, path: str) -> None:
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            claimed = metadata.row_group(group).column(number).total_uncompressed_size
            if not 0 <= claimed <= max(_LARGEST_PAGE, _RATIO * size):
                raise _damaged(path, ValueError(f"a column claims to unpack to {claimed} bytes"))


def _columns(parquet: pq.ParquetFile, schema: pa.Schema, names: Sequence[str], path: str) -> pa.Table:
    """Return some of the schema's columns, in this order and of its types."""
    try:
        present = parquet.schema_arrow.names
        table = parquet.read(columns=[name for name in names if name in present], use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} must have a column {missing[0]}, got {_listed(present)}.")
    try:
        wanted = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
        return table.select(names).cast(wanted)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} must have columns of the record's types, got others ({line(error)}).") from error


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} must be a whole Parquet file, got one that cannot be read ({line(error)}).")


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names) or "none"
    return text if len(text) <= 600 else f"{text[:597]}..."


def _words(columns: Iterable[str]) -> str:
    names = sorted(columns)
    return f"its column{'s' * (len(names) > 1)} {', '.join(names)}"
