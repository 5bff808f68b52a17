"""Image sets too large for memory: where each image lies, in class folders or Parquet, and how one becomes a crop.

Class folders are those of torchvision's ImageFolder, `train/CLASS/*.jpeg` and `val/CLASS/*.jpeg`; Parquet is in Hugging
Face's layout, `train-*.parquet` and `validation-*.parquet` with a struct column `image` (field `bytes`) and a column
`label`.
"""

import hashlib
import io
from pathlib import PurePosixPath
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from PIL import Image

from trainables.data.parquet import find_split, list_folder, open_location, read_table
from trainables.data.source import ImageIndex, StreamedDataset, StreamSource

RESIZED, CROP = 256, 224
"""Shorter side in px that an image is scaled to, and the side of the square cut from it."""

MAX_PIXELS = 2**26
"""Of an image, four times the largest photographs of ImageNet."""

SPLITS = {"train": ("train",), "val": ("val", "validation")}
"""Names of each split in folders and files."""

GENERATED = "GENERATED"
"""A file of this name marks images made by a program: no published number stands beside them."""

SUFFIXES = frozenset({".jpeg", ".jpg", ".png"})
"""What counts as an image in a class folder."""


@final
class ImageSet(StreamSource):
    """Images in class folders or Parquet, in a folder of the data set's name or right at the location."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, location: str | None, train_size: int | None) -> StreamedDataset:
        """Return where the images lie."""
        if location is None:
            raise ValueError(
                f"{self.name} must come from --data PATH or the variable SWEEP_DATA, got neither; PATH is a folder or "
                f"URI that holds {self.name}/{{train,val}}/CLASS/*.jpeg or {self.name}/{{train,validation}}-*.parquet."
            )
        filesystem, root = open_location(location)
        inside = f"{root}/{self.name}"
        if filesystem.get_file_info(inside).type == pafs.FileType.Directory:
            root = inside
        train, val = index_images(filesystem, root)
        digest = hashlib.sha256()
        for index in (train, val):
            for path in index.paths.to_pylist():
                digest.update(f"{path.removeprefix(root)}\n".encode())
            digest.update(index.labels.tobytes())
        if train_size is not None:
            train = train.part(train_size, self.name)
        return StreamedDataset(
            name=self.name,
            num_classes=len(train.classes),
            train=train,
            test=val,
            checksum=digest.hexdigest(),
            location=location,
            generated=filesystem.get_file_info(f"{root}/{GENERATED}").is_file,
        )


IMAGENET = ImageSet("imagenet")


def index_images(filesystem: pafs.FileSystem, root: str) -> tuple[ImageIndex, ImageIndex]:
    """Return the training and the validation images that a folder holds in either layout.

    Raises:
        ValueError: a split or a class is missing, a class folder is empty, or a file is not what it should be.
    """
    train, val = (_index(filesystem, root, name) for name in SPLITS)
    if train.classes != val.classes:
        alone = sorted(set(train.classes) ^ set(val.classes))
        here, there = ("train", "val") if alone[0] in train.classes else ("val", "train")
        raise ValueError(
            f"{root} must hold the same classes in train and val, got {alone[0]!r} in {here} but not in {there}."
        )
    return train, val


def decode_crop(data: bytes | None, where: str, place: tuple[float, float, bool] | None) -> np.ndarray[Any, Any]:
    """Return a square cut from an image whose shorter side was scaled to 256 px: uint8 `(3, 224, 224)`.

    Grey-scale images and those with a palette, transparency or CMYK become RGB.

    Args:
        data: a JPEG or PNG file.
        where: names the image in messages.
        place: the crop's corner, as fractions of the room there is down and across, and whether it is mirrored; None
            cuts the centre.

    Raises:
        ValueError: there is no whole image.
    """
    try:
        with Image.open(io.BytesIO(data or b""), formats=("JPEG", "PNG")) as image:
            # Decodes a JPEG at a half, a quarter or an eighth of its size where that is still large enough.
            image.draft("RGB", (RESIZED, RESIZED))
            # Before it is decoded: a few bytes can claim to be gigabytes of pixels.
            size = image.size
            pixels = image.convert("RGB") if size[0] * size[1] <= MAX_PIXELS else None
    # What Pillow raises depends on the bytes that it meets first: struct.error, IndexError, MemoryError and others.
    except Exception as error:
        raise ValueError(f"{where} must hold a whole JPEG or PNG image, got one that cannot be read.") from error
    if pixels is None:
        raise ValueError(f"{where} must hold an image of at most {MAX_PIXELS} pixels, got {size[0]}x{size[1]}.")
    scale = RESIZED / min(pixels.size)
    width, height = (max(RESIZED, round(side * scale)) for side in pixels.size)
    down, across, mirrored = place or (0.5, 0.5, False)
    top, left = round(down * (height - CROP)), round(across * (width - CROP))
    resized = pixels.resize((width, height), Image.Resampling.BILINEAR)
    crop = np.asarray(resized.crop((left, top, left + CROP, top + CROP))).transpose(2, 0, 1)
    return np.ascontiguousarray(crop[:, :, ::-1] if mirrored else crop)


def _index(filesystem: pafs.FileSystem, root: str, name: str) -> ImageIndex:
    for alias in SPLITS[name]:
        files = find_split(filesystem, root, alias)
        if files:
            return _of_parquet(filesystem, files, name)
        folders = [info for info in list_folder(filesystem, f"{root}/{alias}") if not info.is_file]
        if folders:
            return _of_folders(filesystem, folders, name)
    raise ValueError(
        f"{root} must hold the folders train and val with a folder for each class, or train-*.parquet and "
        f"validation-*.parquet, got neither of them for {name}."
    )


def _of_folders(filesystem: pafs.FileSystem, folders: list[pafs.FileInfo], name: str) -> ImageIndex:
    paths: list[str] = []
    labels: list[int] = []
    folders = sorted(folders, key=lambda info: info.base_name)
    for label, folder in enumerate(folders):
        images = sorted(
            info.path
            for info in list_folder(filesystem, folder.path)
            if info.is_file and PurePosixPath(info.path).suffix.lower() in SUFFIXES
        )
        if not images:
            raise ValueError(f"{folder.path} must hold at least one JPEG or PNG file, got an empty class folder.")
        paths += images
        labels += [label] * len(images)
    count = len(paths)
    return ImageIndex(
        name=name,
        classes=tuple(folder.base_name for folder in folders),
        paths=pa.array(paths, pa.string()),
        files=np.arange(count, dtype=np.int32),
        rows=np.zeros(count, np.int32),
        groups=np.zeros(count, np.int32),
        labels=np.asarray(labels, np.int64),
    )


def _of_parquet(filesystem: pafs.FileSystem, files: list[pafs.FileInfo], name: str) -> ImageIndex:
    parts = [read_table(filesystem, info.path, "image", "label", with_images=False) for info in files]
    labels = np.concatenate([table["label"].to_numpy().astype(np.int64) for table, _ in parts])
    known = np.unique(labels)
    if known[0] < 0 or not np.array_equal(known, np.arange(len(known))):
        # Not a list of all labels up to the largest: it can be any number.
        missing = next((place for place, label in enumerate(known.tolist()) if label != place), len(known))
        got = f"none with {missing}" if known[0] >= 0 else str(known[0])
        raise ValueError(f"The {name} labels must be 0, 1, 2 and so on without a gap, got {got}.")
    return ImageIndex(
        name=name,
        classes=tuple(map(str, known)),
        paths=pa.array([info.path for info in files], pa.string()),
        files=np.repeat(np.arange(len(files), dtype=np.int32), [len(table) for table, _ in parts]),
        rows=np.concatenate([np.arange(len(table), dtype=np.int32) for table, _ in parts]),
        groups=np.concatenate([np.repeat(np.arange(len(sizes), dtype=np.int32), sizes) for _, sizes in parts]),
        labels=labels,
    )
