"""Crops streamed by Ray Data, one worker's share of each pass: memory holds a few blocks, however large the set is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from ray.data.block import BlockAccessor, BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from trainables.config import TrialConfig
from trainables.data.batches import Batch, Feed, check_share
from trainables.data.images import CROP, decode_crop
from trainables.data.parquet import open_location
from trainables.data.source import ImageIndex, StreamedDataset

BLOCK_IMAGES = 64
"""Images that one task decodes: 10 MB of crops."""

SHUFFLE_IMAGES = 1024
"""Crops that a worker mixes where images come by row groups."""

DATA_CPUS = 0.5
"""CPUs that a decoding task claims."""

EVALUATION_BATCH = 100

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of pixels in [0, 1]: the constants in general use for ImageNet, torchvision's among others."""


def share_of_pass(index: ImageIndex, draws: np.random.Generator | None, rank: int, size: int) -> np.ndarray[Any, Any]:
    """Return the images, int64 `(n,)`, that a worker reads in one pass; the workers' shares differ by one at most.

    Files are put in a new order, and row groups where they hold several images; a row group stays together, since it
    is read as a whole, unless it lies across the border between two workers.

    Args:
        index: the images.
        draws: the order, the same for all workers; None leaves it as it is.
        rank: the worker's number among `size`.
        size: workers of the trial.
    """
    order = np.arange(len(index))
    if draws is not None:
        changes = (np.diff(index.files) != 0) | (np.diff(index.groups) != 0)
        unit = np.concatenate([[0], np.cumsum(changes)])
        order = np.argsort(draws.permutation(unit[-1] + 1)[unit], kind="stable")
    return np.array_split(order, size)[rank]


@final
@dataclass(frozen=True, kw_only=True)
class _Task:
    """Decodes some images where Ray runs it."""

    location: str
    paths: tuple[str, ...]
    rows: np.ndarray[Any, Any]
    groups: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    ids: np.ndarray[Any, Any]
    augment: tuple[int, int] | None
    """Seed and number of the pass; None cuts the centre."""

    def __call__(self) -> list[Any]:
        crops = np.stack([self._crop(number, raw) for number, raw in enumerate(self._read())])
        return [BlockAccessor.batch_to_block({"image": crops, "label": self.labels, "id": self.ids})]

    def _crop(self, number: int, raw: bytes | None) -> np.ndarray[Any, Any]:
        place = None
        if self.augment is not None:
            # Drawn from the image's own number: the same whichever worker or task decodes it.
            down, across, mirror = np.random.default_rng([*self.augment, int(self.ids[number])]).random(3)
            place = (down, across, mirror < 0.5)
        path = self.paths[number]
        where = f"Row {self.rows[number]} of {path}" if path.endswith(".parquet") else path
        return decode_crop(raw, where, place)

    def _read(self) -> Iterator[bytes | None]:
        filesystem, _ = open_location(self.location)
        held: tuple[str, int] | None = None
        first, column = 0, pa.array([], pa.binary())
        for path, row, group in zip(self.paths, self.rows, self.groups, strict=True):
            if not path.endswith(".parquet"):
                with filesystem.open_input_stream(path) as stream:
                    yield stream.read()
                continue
            if held != (path, group):
                file = pq.ParquetFile(path, filesystem=filesystem)
                first = sum(file.metadata.row_group(number).num_rows for number in range(group))
                column = file.read_row_group(int(group), columns=["image"])["image"]
                held = (path, group)
            yield column[int(row) - first].as_py()["bytes"]


@final
class _Crops(Datasource):  # type: ignore[misc]
    def __init__(self, tasks: list[_Task]) -> None:
        super().__init__()
        self._tasks = tasks

    def estimate_inmemory_data_size(self) -> int:
        return sum(map(_size, self._tasks))

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        return [
            ReadTask(
                task,
                BlockMetadata(num_rows=len(task.ids), size_bytes=_size(task), input_files=None, exec_stats=None),
            )
            for task in self._tasks
        ]


def _size(task: _Task) -> int:
    return len(task.ids) * 3 * CROP * CROP


@final
class StreamFeed(Feed):
    """Streams one worker's share of each pass over the training images, and of the validation images."""

    def __init__(
        self,
        data: StreamedDataset,
        config: TrialConfig,
        seed: int,
        device: torch.device,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Read nothing yet; `seed` is of the order and the crops.

        Raises:
            ValueError: the batch cannot be shared evenly.
        """
        check_share(config.batch_size, size)
        self._train, self._val, self._location = data.train, data.test, data.location
        self._seed, self._augmented, self._device = seed, config.augmentation == "crop-flip", device
        self._rank, self._size, self._share = rank, size, config.batch_size // size
        counts = [len(part) for part in np.array_split(np.arange(len(data.train)), size)]
        steps = -(-max(counts) // self._share)
        self._whole = [sum(min(max(n - s * self._share, 0), self._share) for n in counts) for s in range(steps)]
        self.num_classes = data.num_classes
        self.steps_per_epoch = steps if config.iterations is None else config.iterations // config.epochs
        self._batches = self._passes()
        self._epochs = 0

    def train_batches(self) -> Iterator[Batch]:
        """Return the next epoch's batches; a pass goes on where the epoch before has left it."""
        self._epochs += 1
        return islice(self._batches, self.steps_per_epoch)

    def test_batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the centres of the worker's share of the validation images."""
        ids = share_of_pass(self._val, None, self._rank, self._size)
        for batch in self._stream(self._val, ids, None).iter_batches(batch_size=EVALUATION_BATCH, batch_format="numpy"):
            yield self._on_device(batch)

    def state(self) -> dict[str, Any]:
        """Return how many epochs have been read."""
        return {"epochs": self._epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Begin with the pass that the next epoch begins in; its batches before that are decoded and thrown away."""
        self._epochs = int(state["epochs"])
        number, skipped = divmod(self._epochs * self.steps_per_epoch, len(self._whole))
        self._batches = islice(self._passes(number), skipped, None)

    def _passes(self, number: int = 0) -> Iterator[Batch]:
        while True:
            ids = share_of_pass(self._train, np.random.default_rng([self._seed, number]), self._rank, self._size)
            augment = (self._seed, number) if self._augmented else None
            mixed = bool((self._train.rows > 0).any())
            batches = self._stream(self._train, ids, augment).iter_batches(
                batch_size=self._share,
                batch_format="numpy",
                prefetch_batches=2,
                local_shuffle_buffer_size=SHUFFLE_IMAGES if mixed else None,
                local_shuffle_seed=(self._seed + number) % 2**32 if mixed else None,
            )
            steps = 0
            for batch, whole in zip(batches, self._whole, strict=False):
                images, labels = self._on_device(batch)
                yield Batch(images=images, labels=labels, whole=whole)
                steps += 1
            for whole in self._whole[steps:]:
                # Another worker has one image more: this one joins its step with none.
                empty = torch.zeros(0, 3, CROP, CROP, device=self._device)
                yield Batch(images=empty, labels=torch.zeros(0, dtype=torch.int64, device=self._device), whole=whole)
            number += 1

    def _stream(self, index: ImageIndex, ids: np.ndarray[Any, Any], augment: tuple[int, int] | None) -> Any:
        starts = range(0, len(ids), BLOCK_IMAGES)
        tasks = [self._task(index, ids[start : start + BLOCK_IMAGES], augment) for start in starts]
        stream = ray.data.read_datasource(_Crops(tasks), override_num_blocks=len(tasks), num_cpus=DATA_CPUS)
        # Whichever task ends first, batches come in the order that was drawn.
        stream.context.execution_options.preserve_order = True
        stream.context.enable_progress_bars = False
        return stream

    def _task(self, index: ImageIndex, ids: np.ndarray[Any, Any], augment: tuple[int, int] | None) -> _Task:
        return _Task(
            location=self._location,
            paths=tuple(index.paths.take(pa.array(index.files[ids])).to_pylist()),
            rows=index.rows[ids],
            groups=index.groups[ids],
            labels=index.labels[ids],
            ids=ids,
            augment=augment,
        )

    def _on_device(self, batch: dict[str, np.ndarray[Any, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.from_numpy(np.array(batch["image"])).to(self._device).float() / 255
        mean, deviation = (torch.tensor(values, device=self._device)[:, None, None] for values in (MEAN, DEVIATION))
        labels = torch.from_numpy(np.array(batch["label"], dtype=np.int64)).to(self._device)
        return (pixels - mean) / deviation, labels
