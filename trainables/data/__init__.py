"""The data sets by name, a file per source: `cifar10`, `cifar100`, `shapes`, `imagenet`, and what a user registers.

`open_dataset` decodes a data set once per machine into plain arrays on disk and maps them into memory, so that all
trials of a machine share one copy; `prepare` does the same for the normalised images that the loop trains on. A set too
large for that, `imagenet`, is streamed: see `trainables.data.stream`.
"""

from trainables.data import cifar, images, shapes
from trainables.data.cache import cache_folder
from trainables.data.prepare import Prepared, prepare
from trainables.data.source import (
    DATASETS,
    Dataset,
    Source,
    Split,
    StreamedDataset,
    StreamSource,
    count_classes,
    hold_out,
    open_dataset,
    register_dataset,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "Prepared",
    "Source",
    "Split",
    "StreamSource",
    "StreamedDataset",
    "cache_folder",
    "count_classes",
    "hold_out",
    "open_dataset",
    "prepare",
    "register_dataset",
]

for _source in (cifar.CIFAR10, cifar.CIFAR100, shapes.SHAPES):
    register_dataset(_source)
register_dataset(images.IMAGENET)
