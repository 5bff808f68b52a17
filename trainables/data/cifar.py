"""CIFAR-10 and CIFAR-100: from Parquet, from torchvision's folders, or by torchvision's download.

Source of the data: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow.fs as pafs

from trainables.common.validation import one_line
from trainables.data.cache import cache_folder, make_folder
from trainables.data.parquet import SPLITS, find_split, identity_of, list_folder, open_location, read_images
from trainables.data.source import Source, Split

if TYPE_CHECKING:
    import torchvision

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The ten classes in order of their label."""


@final
@dataclass(eq=False)
class Cifar(Source):
    """One of the two CIFAR data sets."""

    name: str
    num_classes: int
    label_column: str
    load_class: "Callable[[], type[torchvision.datasets.CIFAR10]]"
    class_names: tuple[str, ...] = ()

    @cached_property
    def _torchvision_class(self) -> "type[torchvision.datasets.CIFAR10]":
        # Loaded when it is needed, which Parquet never does: torchvision loads torch's compiler, a second of a process.
        return self.load_class()

    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the files that would be read, with sizes and times; downloads nothing."""
        if location is None:
            return {"source": "download", "checksum": self._torchvision_class.tgz_md5}
        filesystem, root = open_location(location)
        files = self._parquet_files(filesystem, root, location)
        return identity_of(location, files or {"all": self._torchvision_folder(filesystem, root, location)})

    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:  # noqa: ARG002
        """Return both splits, all images."""
        if location is None:
            return self._download()
        filesystem, root = open_location(location)
        files = self._parquet_files(filesystem, root, location)
        if files is not None:
            return read_images(filesystem, files, self.label_column, self.num_classes)
        if isinstance(filesystem, pafs.LocalFileSystem):
            return self._from_torchvision(root)
        base = self._torchvision_class.base_folder
        with tempfile.TemporaryDirectory() as copy:
            pafs.copy_files(f"{root}/{base}", f"{copy}/{base}", source_filesystem=filesystem)
            return self._from_torchvision(copy)

    def _parquet_files(
        self, filesystem: pafs.FileSystem, root: str, location: str
    ) -> dict[str, list[pafs.FileInfo]] | None:
        files = {split: find_split(filesystem, f"{root}/{self.name}", split) for split in SPLITS}
        missing = [split for split in SPLITS if not files[split]]
        if len(missing) == len(SPLITS):
            return None
        if missing:
            raise ValueError(
                f"{location} must hold both splits of {self.name}, got no file {self.name}/{missing[0]}-*.parquet."
            )
        return files

    def _torchvision_folder(self, filesystem: pafs.FileSystem, root: str, location: str) -> list[pafs.FileInfo]:
        base = self._torchvision_class.base_folder
        listing = list_folder(filesystem, f"{root}/{base}")
        files = sorted((info for info in listing if info.is_file), key=lambda info: info.path)
        if not files:
            inside = find_split(filesystem, root, "train") or root.rstrip("/").endswith(f"/{base}")
            hint = f"; give the folder above it, of which this is {self.name}" if inside else ""
            raise ValueError(
                f"The data location must hold {self.name}/train-*.parquet and {self.name}/test-*.parquet, or "
                f"torchvision's folder {base}, got {location!r}, which holds neither{hint}."
            )
        return files

    def _download(self) -> tuple[Split, Split]:
        folder = cache_folder() / "downloads"
        make_folder(folder)
        try:
            self._torchvision_class(folder, train=True, download=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.name} must come from one of three places: --data PATH, the variable SWEEP_DATA, or a download "
                f"from {self._torchvision_class.url}, which failed here ({one_line(error)}); PATH is a folder or "
                f"URI that holds {self.name}/{{train,test}}-*.parquet or {self._torchvision_class.base_folder}."
            ) from error
        return self._from_torchvision(str(folder))

    def _from_torchvision(self, root: str) -> tuple[Split, Split]:
        # torchvision compares each file's MD5 before it unpickles anything.
        try:
            parts = [self._torchvision_class(root, train=split == "train", download=False) for split in SPLITS]
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"The files of {Path(root) / self._torchvision_class.base_folder} must be whole and have the checksums "
                f"that torchvision knows; at least one is missing, truncated or altered. Unpack the archive again."
            ) from error
        train, test = (
            Split(
                name=split,
                images=np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)),
                labels=np.asarray(part.targets, dtype=np.int64),
                num_classes=self.num_classes,
            )
            for split, part in zip(SPLITS, parts, strict=True)
        )
        return train, test


def _load(name: str) -> "type[torchvision.datasets.CIFAR10]":
    import torchvision

    return getattr(torchvision.datasets, name)  # type: ignore[no-any-return]


CIFAR10 = Cifar("cifar10", 10, "label", partial(_load, "CIFAR10"), CIFAR10_CLASSES)
CIFAR100 = Cifar("cifar100", 100, "fine_label", partial(_load, "CIFAR100"))
