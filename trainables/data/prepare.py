"""Normalised images, ready to train on: per-channel standardisation, or the paper's GCN and ZCA whitening."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from trainables.config import Preprocessing
from trainables.data.cache import cached_arrays
from trainables.data.source import Dataset
from trainables.data.whitening import Whitening, global_contrast_normalise

_VERSION = 4
"""Part of the cache's key: raise it when the arithmetic changes."""


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Normalised images and labels of both splits, on the CPU, mapped from the machine's one copy."""

    name: str
    num_classes: int
    train_images: torch.Tensor
    """float32 `(N, 3, 32, 32)`; a padding of zeros is the mean image."""
    train_labels: torch.Tensor
    """int64 `(N,)`."""
    test_images: torch.Tensor
    test_labels: torch.Tensor
    mean: torch.Tensor | None = None
    """float32 `(3, 1, 1)`: pixels from 0 to 255 are image x deviation + mean. None where they cannot be had again."""
    deviation: torch.Tensor | None = None


def prepare(dataset: Dataset, preprocessing: Preprocessing) -> Prepared:
    """Return the data set normalised by statistics of its training images alone, made once per machine."""
    key = {
        "dataset": dataset.name,
        "checksum": dataset.checksum,
        "train": len(dataset.train),
        "held out": dataset.held_out,
        "preprocessing": preprocessing,
        "version": _VERSION,
    }
    normalise = _whitened if preprocessing == "gcn-zca" else _standardised
    arrays = cached_arrays(f"{dataset.name}-{preprocessing}", key, lambda: normalise(dataset))
    return Prepared(
        name=dataset.name,
        num_classes=dataset.num_classes,
        train_images=torch.from_numpy(arrays["train"]),
        train_labels=torch.from_numpy(dataset.train.labels),
        test_images=torch.from_numpy(arrays["test"]),
        test_labels=torch.from_numpy(dataset.test.labels),
        **{name: torch.from_numpy(arrays[name]) for name in ("mean", "deviation") if name in arrays},
    )


def _whitened(dataset: Dataset) -> dict[str, np.ndarray[Any, Any]]:
    train = global_contrast_normalise(dataset.train.images)
    whitening = Whitening.fit(train)
    test = global_contrast_normalise(dataset.test.images)
    return {
        "train": whitening.apply(train).reshape(dataset.train.images.shape),
        "test": whitening.apply(test).reshape(dataset.test.images.shape),
    }


def _standardised(dataset: Dataset) -> dict[str, np.ndarray[Any, Any]]:
    train = dataset.train.images
    mean = train.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None]
    deviation = train.std(axis=(0, 2, 3), dtype=np.float64)[:, None, None].clip(min=1e-8)
    images = {
        split.name: ((split.images - mean) / deviation).astype(np.float32) for split in (dataset.train, dataset.test)
    }
    return images | {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
