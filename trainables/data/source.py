"""What a data set is, where it may come from, and the registry of sources."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, TypeVar, final

import numpy as np
import pyarrow as pa

from trainables.common.registry import Registry
from trainables.data.cache import cached_arrays

IMAGE_SHAPE = (3, 32, 32)
"""Channels, height, width of every image."""

_VERSION = 2
"""Part of the cache's key: raise it when what is kept of a data set changes."""

SUBSET_SEED = 20150413
"""Seeds the draw of `train_size` images, the same for all trials; the day of the paper's third version."""


@final
@dataclass(frozen=True, kw_only=True)
class Split:
    """Images and their labels.

    Raises:
        ValueError: shapes, types or label range do not hold.
    """

    name: str
    """`train` or `test`, for messages."""

    images: np.ndarray[Any, Any]
    """uint8 `(N, 3, 32, 32)`."""

    labels: np.ndarray[Any, Any]
    """int64 `(N,)`, from 0 to `num_classes` - 1."""

    num_classes: int

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.shape[1:] != IMAGE_SHAPE or images.dtype != np.uint8 or not len(images):
            raise ValueError(
                f"The {self.name} images must be uint8 of shape (N, 3, 32, 32) with N at least 1, "
                f"got {images.dtype} of shape {images.shape}."
            )
        if labels.shape != (len(images),) or labels.dtype != np.int64:
            raise ValueError(
                f"The {self.name} labels must be int64, one for each of the {len(images)} images, "
                f"got {labels.dtype} of shape {labels.shape}."
            )
        if labels.min() < 0 or labels.max() >= self.num_classes:
            wrong = int(np.flatnonzero((labels < 0) | (labels >= self.num_classes))[0])
            raise ValueError(
                f"The {self.name} labels must be from 0 to {self.num_classes - 1}, got {labels[wrong]} at row {wrong}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: np.ndarray[Any, Any]) -> "Split":
        """Return the images of these numbers, int `(n,)`, in their order."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


@final
@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in memory, or rather mapped into it."""

    name: str
    num_classes: int
    train: Split
    test: Split
    checksum: str
    """SHA-256 over all images and labels that the source holds, wherever they were read from."""
    class_names: tuple[str, ...] = ()
    """In order of their label; empty where they are not known."""
    generated: bool = False
    held_out: float = 0.0
    """Share of the training images that stand in the place of the test images."""


@final
@dataclass(frozen=True, kw_only=True)
class ImageIndex:
    """Where each image of one split lies, without its pixels: some tens of bytes an image.

    Raises:
        ValueError: there is no image.
    """

    name: str
    """`train` or `val`, for messages."""
    classes: tuple[str, ...]
    """Names by label; the labels themselves as text where Parquet holds no names."""
    paths: pa.Array
    """Path of each file."""
    files: np.ndarray[Any, Any]
    """int32 `(N,)`: each image's file."""
    rows: np.ndarray[Any, Any]
    """int32 `(N,)`: its row in a Parquet file, 0 in a file of its own."""
    groups: np.ndarray[Any, Any]
    """int32 `(N,)`: that row's row group, which is read as a whole; 0 in a file of its own."""
    labels: np.ndarray[Any, Any]
    """int64 `(N,)`."""

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ValueError(f"The {self.name} images must be at least one, got none.")

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, size: int, dataset: str) -> "ImageIndex":
        """Return `size` of the images, drawn from all by a fixed seed.

        Raises:
            ValueError: there are fewer.
        """
        return self.take(_drawn(len(self), size, dataset))

    def take(self, chosen: np.ndarray[Any, Any]) -> "ImageIndex":
        """Return the images of these numbers, int `(n,)`, in their order."""
        return replace(
            self,
            files=self.files[chosen],
            rows=self.rows[chosen],
            groups=self.groups[chosen],
            labels=self.labels[chosen],
        )


@final
@dataclass(frozen=True, kw_only=True)
class StreamedDataset:
    """A data set too large for memory: where its images lie."""

    name: str
    num_classes: int
    train: ImageIndex
    test: ImageIndex
    """The validation images, which stand in for test images where those have no public labels."""
    checksum: str
    """SHA-256 over the names of all files and all labels, not over pixels."""
    location: str
    generated: bool


class StreamSource(ABC):
    """One data set that is streamed. Subclasses are final."""

    name: str

    @abstractmethod
    def open(self, location: str | None, train_size: int | None) -> StreamedDataset:
        """Return where the images lie.

        Raises:
            ValueError: they are not there, or not as they should be.
        """


class Source(ABC):
    """One data set that fits into memory and the places it can be read from. Subclasses are final."""

    name: str
    num_classes: int
    class_names: tuple[str, ...] = ()
    """What the classes are called, in order of their label; empty where that is not known."""
    generated: bool = False
    """True where the images are made by a program: never shown beside published numbers."""

    @abstractmethod
    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:
        """Return what identifies the data at `location`: paths, sizes and times of files, or a generator's settings.

        Raises:
            ValueError: the data is not there; the message says what was looked for.
        """

    @abstractmethod
    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:
        """Return the training and the test split.

        Raises:
            ValueError: the data is missing, truncated or not what it should be.
        """


DATASETS: Registry[Source | StreamSource] = Registry("dataset")
"""Every source by name."""


AnySource = TypeVar("AnySource", bound=Source | StreamSource)


def register_dataset(source: AnySource) -> AnySource:
    """Make a source known by its name.

    Raises:
        ValueError: the name is taken or badly formed.
    """
    DATASETS.register(source.name)(source)
    return source


def open_dataset(name: str, location: str | None = None, train_size: int | None = None) -> Dataset | StreamedDataset:
    """Return a registered data set with `train_size` training images: decoded once per machine, or to be streamed.

    The images of a part are drawn from all by a fixed seed, so that every trial of every run gets the same ones.

    Raises:
        ValueError: the name is unknown, the data cannot be had, or it holds fewer images than asked for.
    """
    source = DATASETS[name]
    if isinstance(source, StreamSource):
        return source.open(location, train_size)
    identity = source.locate(location, train_size)

    def decode() -> dict[str, np.ndarray[Any, Any]]:
        splits = source.read(location, train_size)
        arrays = {f"{s.name}_{what}": getattr(s, what) for s in splits for what in ("images", "labels")}
        digest = hashlib.sha256()
        for array in arrays.values():
            digest.update(array.tobytes())
        return arrays | {"checksum": np.frombuffer(digest.digest(), np.uint8)}

    arrays = cached_arrays(name, {"version": _VERSION, **identity}, decode)
    train, test = (
        Split(name=s, images=arrays[f"{s}_images"], labels=arrays[f"{s}_labels"], num_classes=source.num_classes)
        for s in ("train", "test")
    )
    if train_size is not None and train_size != len(train):
        train = train.take(_drawn(len(train), train_size, name))
    checksum = arrays["checksum"].tobytes().hex()
    return Dataset(
        name=name,
        num_classes=source.num_classes,
        train=train,
        test=test,
        checksum=checksum,
        class_names=source.class_names,
        generated=source.generated,
    )


def hold_out(data: Dataset | StreamedDataset, share: float) -> Dataset | StreamedDataset:
    """Return a data set that trains on fewer images and has the others in the place of its test images.

    The images are drawn by a fixed seed, `share` of each class, at least one of each: every trial of every run holds
    out the same ones. 0 returns the data set as it is.

    Raises:
        ValueError: a class has a single training image.
    """
    if not share:
        return data
    labels = data.train.labels
    draws = np.random.default_rng([SUBSET_SEED, 1])
    held: list[np.ndarray[Any, Any]] = []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < 2:
            raise ValueError(
                f"validation must leave each class an image to train on and one to hold out, got 1 image of class "
                f"{label} of {data.name}; train on more images."
            )
        held.append(draws.permutation(of_class)[: max(1, round(share * len(of_class)))])
    chosen = np.sort(np.concatenate(held))
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    if isinstance(data, StreamedDataset):
        return replace(data, train=data.train.take(rest), test=replace(data.train.take(chosen), name=data.test.name))
    held_images = replace(data.train.take(chosen), name=data.test.name)
    return replace(data, train=data.train.take(rest), test=held_images, held_out=share)


def count_classes(name: str, location: str | None) -> int:
    """Return the number of classes of a registered data set, which a streamed one's own folders or labels tell.

    Raises:
        ValueError: the name is unknown, or a streamed data set is not there.
    """
    source = DATASETS[name]
    return source.open(location, None).num_classes if isinstance(source, StreamSource) else source.num_classes


def _drawn(count: int, size: int, dataset: str) -> np.ndarray[Any, Any]:
    if size > count:
        raise ValueError(
            f"train_size must be at most the {count} training images that {dataset} holds here, got {size}."
        )
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(count)[:size])
