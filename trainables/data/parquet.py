"""Images from Parquet files in Hugging Face's layout: a struct column `img` with `bytes`, and a label column."""

import io
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from PIL import Image

from trainables.common.files import explain_os_error, filesystem_of, holds_password
from trainables.common.validation import one_line
from trainables.data.source import Split

SPLITS = ("train", "test")
"""Of a data set that fits into memory."""

_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
"""How Hugging Face numbers the files of a split: train-00000-of-00002.parquet."""


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system and the path in it of a folder or URI.

    Raises:
        ValueError: the folder does not exist, or the URI cannot be understood.
    """
    if holds_password(location):
        raise ValueError(
            "The data location must hold no password, since it is recorded, got one; set the store's own "
            "variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    filesystem, path = filesystem_of(location, "The data location")
    if "://" not in location and not os.path.isdir(path):  # noqa: PTH112 - pathlib raises where a name is too long
        raise ValueError(f"The data location must be an existing folder or a URI, got {location!r}.")
    return filesystem, path


def find_split(filesystem: pafs.FileSystem, folder: str, split: str) -> list[pafs.FileInfo]:
    """Return the files `<folder>/<split>-*.parquet` in order of name; none where the folder is not there.

    Raises:
        ValueError: the folder cannot be listed, or lacks one of the files that the others' names count.
    """
    listing = list_folder(filesystem, folder)
    found = [i for i in listing if i.is_file and i.base_name.startswith(f"{split}-") and i.extension == "parquet"]
    numbered = [(int(match[1]), int(match[2])) for info in found if (match := _SHARD.search(info.base_name))]
    totals = {total for _, total in numbered}
    if len(totals) > 1 or (numbered and len(numbered) < len(found)):
        raise ValueError(f"{folder} must hold the split {split} once, got files of more than one numbering.")
    for total in totals:
        present = sorted({number for number, _ in numbered})
        # Not a list of all numbers: a name can claim any.
        missing = next((place for place, number in enumerate(present) if number != place), len(present))
        if len(present) != total or missing < total:
            what = f"number {missing} is missing" if missing < total else f"number {present[-1]} is none of them"
            raise ValueError(f"{folder} must hold all {total} files of the split {split}, got {len(numbered)}: {what}.")
    return sorted(found, key=lambda info: info.path)


def list_folder(filesystem: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    """Return what a folder holds; nothing where it is not there.

    Raises:
        ValueError: it cannot be listed.
    """
    try:
        return list(filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True)))
    except OSError as error:
        raise ValueError(
            f"The data location must hold folders that can be read, got {folder!r} ({explain_os_error(error)})."
        ) from error


def identity_of(source: str, files: Mapping[str, Iterable[pafs.FileInfo]]) -> dict[str, Any]:
    """Return path, size in bytes and time of change in ns of the files of a source's splits.

    This tells a file from an altered one without reading it.
    """
    found = [[info.path, info.size, info.mtime_ns] for infos in files.values() for info in infos]
    return {"source": source, "files": found}


def read_images(
    filesystem: pafs.FileSystem, files: Mapping[str, Iterable[pafs.FileInfo]], label_column: str, num_classes: int
) -> tuple[Split, Split]:
    """Decode all files of the splits `train` and `test`, PNG or lossless WebP of 32x32 pixels.

    Raises:
        ValueError: a file is truncated, lacks a column, or holds an image or a label that does not fit.
    """
    train, test = (_read_split(split, filesystem, files[split], label_column, num_classes) for split in SPLITS)
    return train, test


def _read_split(
    split: str, filesystem: pafs.FileSystem, files: Iterable[pafs.FileInfo], label_column: str, num_classes: int
) -> Split:
    images, labels = [], []
    for info in files:
        table, _ = read_table(filesystem, info.path, "img", label_column)
        encoded = pc.struct_field(table["img"], "bytes").to_pylist()
        images.append(np.stack([_decode(data, info.path, row) for row, data in enumerate(encoded)]))
        labels.append(table[label_column].to_numpy().astype(np.int64))
    return Split(name=split, images=np.concatenate(images), labels=np.concatenate(labels), num_classes=num_classes)


def read_table(
    filesystem: pafs.FileSystem, path: str, image: str, label: str, *, with_images: bool = True
) -> tuple[pa.Table, list[int]]:
    """Return the columns of a file's labels and, unless they are not wanted, images; and its row groups' sizes.

    Raises:
        ValueError: it is damaged or empty, lacks a column, or a column is of another type or has a row without a label.
    """
    try:
        file = pq.ParquetFile(path, filesystem=filesystem)
        schema = file.schema_arrow
        if not {image, label} <= set(schema.names):
            raise ValueError(f"{path} must have the columns {image} and {label}, got {', '.join(schema.names)}.")
        kind, label_type = schema.field(image).type, schema.field(label).type
        if not _holds_bytes(kind):
            raise ValueError(f"The column {image} of {path} must be a struct with a binary field bytes, got {kind}.")
        if not pa.types.is_integer(label_type):
            raise ValueError(f"The column {label} of {path} must hold whole numbers, got {label_type}.")
        table = file.read(columns=[image, label] if with_images else [label])
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's damaged name
        raise ValueError(
            f"{path} must be a whole Parquet file, got one that cannot be read ({one_line(error)})."
        ) from error
    if not table.num_rows:
        raise ValueError(f"{path} must hold at least one image, got none.")
    if table[label].null_count:
        raise ValueError(f"Each row of {path} must have a label, got none in {table[label].null_count}.")
    if sum(sizes) != table.num_rows:
        raise ValueError(f"{path} must hold a label for each of its {sum(sizes)} rows, got {table.num_rows}.")
    return table, sizes


def _decode(data: bytes | None, path: str, row: int) -> np.ndarray[Any, Any]:
    where = f"Row {row} of {path}"
    if data is None or _is_lossy(data):
        raise ValueError(
            f"{where} must hold a PNG or a lossless WebP image, got {'none' if data is None else 'a lossy one'}."
        )
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
            # Before it is decoded: a few bytes can claim to be gigabytes of pixels.
            width, height = image.size
            pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1) if (width, height) == (32, 32) else None
    # What Pillow raises depends on the bytes that it meets first: struct.error, IndexError, MemoryError and others.
    except Exception as error:
        raise ValueError(
            f"{where} must hold a whole PNG or lossless WebP image, got one that cannot be read."
        ) from error
    if pixels is None:
        raise ValueError(f"{where} must hold an image of 32x32 pixels, got {width}x{height}.")
    return pixels


def _holds_bytes(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return kind.field("bytes").type in (pa.binary(), pa.large_binary())


def _is_lossy(data: bytes) -> bool:
    """Whether a WebP file has a chunk `VP8 `: the lossy one, first in a plain file, later in one with transparency."""
    start = 12
    while data[8:12] == b"WEBP" and start < len(data):
        if data[start : start + 4] == b"VP8 ":
            return True
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        start += 8 + size + size % 2
    return False
