"""What the loop trains on: one worker's share of each batch, from memory or from a stream."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from trainables.config import TrialConfig
from trainables.data.augmentation import augmented, placed
from trainables.data.prepare import Prepared

EVALUATION_BATCH = 500
"""Images per forward pass of an evaluation, fewer on a canvas."""


@final
@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a batch, on its device."""

    images: torch.Tensor
    """float32 `(n, 3, H, W)`, normalised and augmented; n may be 0."""
    labels: torch.Tensor
    """int64 `(n,)`."""
    whole: int
    """Images of the batch over all workers."""


def check_share(batch_size: int, workers: int) -> None:
    """Refuse batches that the workers of a streaming trial cannot share evenly.

    Raises:
        ValueError: the batch size is no multiple of the number of workers.
    """
    if batch_size % workers:
        raise ValueError(f"batch_size must be a multiple of the {workers} workers of a trial, got {batch_size}.")


class Feed(ABC):
    """Where a worker's batches come from. Subclasses are final."""

    num_classes: int
    steps_per_epoch: int
    """The same for all workers of a trial, in each epoch."""

    @abstractmethod
    def train_batches(self) -> Iterator[Batch]:
        """Return the next epoch's batches, `steps_per_epoch` of them."""

    @abstractmethod
    def test_batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return images and labels of this worker's share of the test images, in the same order each time."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return where the training images stand between two epochs, the same for all workers of a trial."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned, in this process or another, before the first epoch here."""


@final
class MemoryFeed(Feed):
    """Cuts batches from images in memory.

    Every worker draws the same order and the same augmentation and takes its share of each batch.
    """

    def __init__(
        self,
        data: Prepared,
        config: TrialConfig,
        draws: torch.Generator,
        device: torch.device,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Put all images on the device; `draws`, on the CPU, is of order and augmentation."""
        self.num_classes = data.num_classes
        self.steps_per_epoch = -(-len(data.train_images) // config.batch_size)
        self._data, self._config, self._draws, self._device = data, config, draws, device
        self._rank, self._size = rank, size
        self._images, self._labels = data.train_images.to(device), data.train_labels.to(device)
        self._test_images, self._test_labels = data.test_images.to(device), data.test_labels.to(device)

    def train_batches(self) -> Iterator[Batch]:
        """Return each training image once, in a new order."""
        order = torch.randperm(len(self._images), generator=self._draws)
        # At once: a copy for each batch would wait for the step before it to end.
        for batch in torch.split(order.to(self._device), self._config.batch_size):
            images, labels = self._images[batch], self._labels[batch]
            images = augmented(images, self._config, self._data, self._draws)
            share = slice(self._rank, None, self._size)
            yield Batch(images=images[share], labels=labels[share], whole=len(batch))

    def test_batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the worker's share of the test images."""
        share = torch.arange(len(self._test_images), device=self._device)[self._rank :: self._size]
        for batch in torch.split(share, self._evaluation_batch()):
            if len(batch):  # fewer images than workers
                yield placed(self._test_images[batch], self._config.canvas), self._test_labels[batch]

    def state(self) -> dict[str, Any]:
        """Return the state of what draws order and augmentation."""
        return {"draws": self._draws.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Draw on from there."""
        self._draws.set_state(state["draws"])

    def _evaluation_batch(self) -> int:
        # As many pixels on a canvas as without one: what a forward pass takes of memory goes by them.
        pixels = self._data.test_images[0, 0].numel()
        return max(1, EVALUATION_BATCH * pixels // (self._config.canvas**2 if self._config.canvas else pixels))
