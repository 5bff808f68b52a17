"""Data sets of a user's own: numpy arrays that a function makes, or a folder of Parquet files."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, final

import numpy as np
import pyarrow.fs as pafs

from trainables.common.validation import one_line
from trainables.data.parquet import SPLITS, find_split, identity_of, open_location, read_images
from trainables.data.source import IMAGE_SHAPE, Source, Split, register_dataset

Array = np.ndarray[Any, Any]
Arrays = tuple[tuple[Array, Array], tuple[Array, Array]]
"""(training images, training labels), (test images, test labels)."""


@final
class ArraySource(Source):
    """What a function returns: uint8 images `(N, 3, 32, 32)` and whole labels `(N,)` from 0 on, of two splits.

    Each process calls the function once and takes a checksum of what it returned, so that an altered function never
    meets images of an earlier one: for what fits into memory easily.
    """

    def __init__(self, name: str, num_classes: int, make: Callable[[], Arrays]) -> None:
        self.name, self.num_classes = name, num_classes
        self._make = functools.cache(make)

    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:
        """Return a checksum of the arrays; they are read from nowhere that is known here."""
        digest = hashlib.sha256()
        for split in self.read(location, train_size):
            for array in (split.images, split.labels):
                digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
        return {"source": "arrays", "checksum": digest.hexdigest()}

    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:  # noqa: ARG002
        """Return the function's arrays.

        Raises:
            ValueError: it returned anything else, or failed.
        """
        try:
            made = self._make()
        except Exception as error:  # a user's own function may raise anything
            reason = one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"The data set {self.name} must be made by its function, got {reason}.") from error
        try:
            (train_images, train_labels), (test_images, test_labels) = made
        except (TypeError, ValueError):
            raise ValueError(
                f"The function of the data set {self.name} must return (training images, training labels), "
                f"(test images, test labels), got {type(made).__name__}."
            ) from None
        return self._split("train", train_images, train_labels), self._split("test", test_images, test_labels)

    def _split(self, split: str, images: Any, labels: Any) -> Split:
        what = f"The data set {self.name}"
        if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
            got = f"{type(images).__name__} and {type(labels).__name__}"
            raise ValueError(f"{what} must have numpy arrays as {split} images and labels, got {got}.")
        if images.shape[1:] == (*IMAGE_SHAPE[1:], IMAGE_SHAPE[0]):
            raise ValueError(
                f"{what} must have its channels first, (N, 3, 32, 32), got {split} images of shape {images.shape}; "
                "use images.transpose(0, 3, 1, 2)."
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{what} must have whole numbers as {split} labels, got {labels.dtype}.")
        try:
            return Split(name=split, images=images, labels=labels.astype(np.int64), num_classes=self.num_classes)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error


@final
class ParquetSource(Source):
    """A folder or URI of files `train-*.parquet` and `test-*.parquet`, each a column of images and one of labels.

    The column `img` is a struct with a field `bytes`, a 32x32 PNG or lossless WebP: Hugging Face's layout.
    """

    def __init__(self, name: str, num_classes: int, folder: str | None, label_column: str) -> None:
        self.name, self.num_classes = name, num_classes
        self._folder, self._label_column = folder, label_column

    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the files with their sizes and times."""
        place, _, files = self._files(location)
        return identity_of(place, files)

    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:  # noqa: ARG002
        """Return the decoded images."""
        _, filesystem, files = self._files(location)
        return read_images(filesystem, files, self._label_column, self.num_classes)

    def _files(self, location: str | None) -> tuple[str, pafs.FileSystem, dict[str, list[pafs.FileInfo]]]:
        place = location if self._folder is None else self._folder
        if place is None:
            raise ValueError(f"The data set {self.name} must be read from somewhere, got no folder; add --data FOLDER.")
        filesystem, root = open_location(place)
        files = {split: find_split(filesystem, root, split) for split in SPLITS}
        for split, found in files.items():
            if not found:
                raise ValueError(
                    f"The data set {self.name} must have files {split}-*.parquet in {place}, got none of that name."
                )
        return place, filesystem, files


def register_arrays(name: str, *, num_classes: int) -> Callable[[Callable[[], Arrays]], Callable[[], Arrays]]:
    """Return a decorator that makes a data set known whose arrays the decorated function returns.

    Raises:
        ValueError: the name is taken or badly formed, or there are fewer than two classes.
    """
    _check_classes(name, num_classes)

    def decorate(make: Callable[[], Arrays]) -> Callable[[], Arrays]:
        register_dataset(ArraySource(name, num_classes, make))
        return make

    return decorate


def register_parquet(name: str, *, num_classes: int, folder: str | None = None, label: str = "label") -> None:
    """Make a folder of Parquet files known as a data set; without `folder` it is the one that `--data` names.

    Raises:
        ValueError: the name is taken or badly formed, or there are fewer than two classes.
    """
    _check_classes(name, num_classes)
    register_dataset(ParquetSource(name, num_classes, folder, label))


def _check_classes(name: str, num_classes: int) -> None:
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes of the data set {name} must be a whole number of at least 2, got {num_classes}.")
