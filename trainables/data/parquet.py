"""Images from Parquet files in Hugging Face's layout: a struct column `img` with `bytes`, and a label column."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from trainables.data.source import IMAGE_SHAPE, Split


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system and the path in it of a folder or URI.

    Raises:
        ValueError: the folder does not exist, or the URI cannot be understood.
    """
    if "://" in location:
        try:
            return pafs.FileSystem.from_uri(location)  # type: ignore[no-any-return]
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"The data location must be a folder or a URI, got {location!r} ({error}).") from error
    if not Path(location).is_dir():
        raise ValueError(f"The data location must be an existing folder or a URI, got {location!r}.")
    return pafs.LocalFileSystem(), str(Path(location).resolve())


def find_split(filesystem: pafs.FileSystem, folder: str, split: str) -> list[pafs.FileInfo]:
    """Return the files `<folder>/<split>-*.parquet` in order of name; none where the folder is not there."""
    listing = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    found = [i for i in listing if i.is_file and i.base_name.startswith(f"{split}-") and i.extension == "parquet"]
    return sorted(found, key=lambda info: info.path)


def file_identity(info: pafs.FileInfo) -> list[Any]:
    """Return path, size in bytes and time of change in ns: what tells a file from an altered one without reading it."""
    return [info.path, info.size, info.mtime_ns]


def read_images(
    split: str, filesystem: pafs.FileSystem, files: Sequence[pafs.FileInfo], label_column: str, num_classes: int
) -> Split:
    """Decode all files of a split, PNG or lossless WebP of 32x32 pixels.

    Raises:
        ValueError: a file is truncated, lacks a column, or holds an image or a label that does not fit.
    """
    images, labels = [], []
    for info in files:
        table = _read_table(filesystem, info.path, label_column)
        encoded = pc.struct_field(table["img"], "bytes").to_pylist()
        images.append(np.stack([_decode(data, info.path, row) for row, data in enumerate(encoded)]))
        if table[label_column].null_count:
            raise ValueError(
                f"Each row of {info.path} must have a label, got none in {table[label_column].null_count}."
            )
        labels.append(table[label_column].to_numpy().astype(np.int64))
    return Split(name=split, images=np.concatenate(images), labels=np.concatenate(labels), num_classes=num_classes)


def _read_table(filesystem: pafs.FileSystem, path: str, label_column: str) -> pa.Table:
    try:
        file = pq.ParquetFile(path, filesystem=filesystem)
        missing = sorted({"img", label_column} - set(file.schema_arrow.names))
        if missing:
            raise ValueError(
                f"{path} must have the columns img and {label_column}, got {', '.join(file.schema_arrow.names)}."
            )
        kind = file.schema_arrow.field("img").type
        if not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
            raise ValueError(f"The column img of {path} must be a struct with a field bytes, got {kind}.")
        table = file.read(columns=["img", label_column])
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} must be a whole Parquet file, got one that cannot be read ({error}).") from error
    if not table.num_rows:
        raise ValueError(f"{path} must hold at least one image, got none.")
    return table


def _decode(data: bytes | None, path: str, row: int) -> np.ndarray[Any, Any]:
    where = f"Row {row} of {path}"
    if data is None or _is_lossy(data):
        raise ValueError(
            f"{where} must hold a PNG or a lossless WebP image, got {'none' if data is None else 'a lossy one'}."
        )
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
            pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{where} must hold a whole PNG or lossless WebP image, got one that cannot be read."
        ) from error
    if pixels.shape != IMAGE_SHAPE:
        raise ValueError(f"{where} must hold an image of 32x32 pixels, got {pixels.shape[2]}x{pixels.shape[1]}.")
    return pixels


def _is_lossy(data: bytes) -> bool:
    """Whether a WebP file has a chunk `VP8 `: the lossy one, first in a plain file, later in one with transparency."""
    start = 12
    while data[8:12] == b"WEBP" and start < len(data):
        if data[start : start + 4] == b"VP8 ":
            return True
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        start += 8 + size + size % 2
    return False
