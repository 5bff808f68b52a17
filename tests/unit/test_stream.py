"""What Ray Data streams: each image once a pass over the workers, the same whatever their number."""

import gc
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.cluster.connect import connect
from tests.image_sets import LAYOUTS, class_folders
from trainables.config import TrialConfig
from trainables.data import StreamedDataset, open_dataset
from trainables.data.batches import Batch
from trainables.data.stream import StreamFeed, share_of_pass

CPU = torch.device("cpu")

# Ray Data 2.60 reads settings of its own that it has itself deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with connect(None):
        yield
    # Ray leaves its processes' handles to the garbage collector, which warns of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS, scope="module")
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StreamedDataset:
    make: Callable[[Path], Path] = request.param
    opened = open_dataset("imagenet", str(make(tmp_path_factory.mktemp("set"))))
    assert isinstance(opened, StreamedDataset)
    return opened


def feed(data: StreamedDataset, rank: int = 0, size: int = 1, **options: object) -> StreamFeed:
    values = {"augmentation": "none", "batch_size": 8, "epochs": 2, "lr": 0.1} | options
    config = TrialConfig(dataset="imagenet", variant="x", preprocessing="standardise", **values)
    return StreamFeed(data, config, 5, CPU, rank, size)


def seen(batches: list[Batch]) -> list[bytes]:
    return [image.numpy().tobytes() for batch in batches for image in batch.images]


@pytest.mark.parametrize("size", [1, 2])
def test_each_image_is_seen_once_a_pass_over_the_workers(size: int, data: StreamedDataset) -> None:
    feeds = [feed(data, rank, size) for rank in range(size)]
    passes = []
    for _ in range(2):
        epochs = [list(one.train_batches()) for one in feeds]
        assert {len(epoch) for epoch in epochs} == {feeds[0].steps_per_epoch} == {7}
        for step in zip(*epochs, strict=True):
            assert sum(len(batch.labels) for batch in step) == step[0].whole
            assert len({batch.whole for batch in step}) == 1
        assert sum(batch.whole for batch in epochs[0]) == 53
        images = [image for epoch in epochs for image in seen(epoch)]
        assert len(images) == len(set(images)) == 53
        labels = torch.cat([batch.labels for epoch in epochs for batch in epoch])
        assert torch.bincount(labels).tolist() == np.bincount(data.train.labels).tolist()
        passes.append(images)
    assert passes[0] != passes[1]
    assert sorted(passes[0]) == sorted(passes[1])
    tested = [label for one in feeds for _, labels in one.test_batches() for label in labels.tolist()]
    assert sorted(tested) == sorted(data.test.labels.tolist())


def test_the_same_seed_gives_equal_batches(data: StreamedDataset) -> None:
    first, again = (list(feed(data, augmentation="crop-flip").train_batches()) for _ in range(2))
    assert seen(first) == seen(again)
    plain = list(feed(data).train_batches())
    assert not set(seen(plain)) & set(seen(first))


def test_an_epoch_of_iterations_goes_on_where_the_one_before_ended(data: StreamedDataset) -> None:
    by_pass = feed(data)
    whole = seen(list(by_pass.train_batches())) + seen(list(by_pass.train_batches()))
    parts = feed(data, iterations=10, epochs=2)
    assert parts.steps_per_epoch == 5
    images = seen(list(parts.train_batches())) + seen(list(parts.train_batches()))
    assert images == whole[: len(images)]
    # 6 batches of 8, one of 5, and 3 of the next pass.
    assert len(images) == 6 * 8 + 5 + 3 * 8


@pytest.mark.parametrize("iterations", [None, 10])
def test_another_process_goes_on_where_the_first_one_stood(data: StreamedDataset, iterations: int | None) -> None:
    options: dict[str, object] = {"iterations": iterations, "epochs": 2, "augmentation": "crop-flip"}
    first, second = feed(data, **options), feed(data, **options)
    list(first.train_batches())
    second.restore(first.state())
    assert second.state() == first.state()
    expected = seen(list(first.train_batches()))
    assert len(expected) > 20
    assert seen(list(second.train_batches())) == expected


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, train=20)
    file = tmp_path / "train" / "class-3" / "00003.jpeg"
    file.write_bytes(file.read_bytes()[:500])
    broken = open_dataset("imagenet", str(tmp_path))
    assert isinstance(broken, StreamedDataset)
    with pytest.raises(Exception, match=f"{file} must hold a whole JPEG or PNG image, got one that cannot be read."):
        list(feed(broken).train_batches())


def test_workers_that_cannot_share_a_batch_are_refused(data: StreamedDataset) -> None:
    with pytest.raises(ValueError, match=r"^batch_size must be a multiple of the 3 workers of a trial, got 8\.$"):
        feed(data, size=3)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_of_a_pass_are_the_whole_and_differ_by_one_at_most(size: int, data: StreamedDataset) -> None:
    shares = [share_of_pass(data.train, np.random.default_rng(0), rank, size) for rank in range(size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(53))
    counts = [len(share) for share in shares]
    assert max(counts) - min(counts) <= 1


def test_row_groups_stay_together(data: StreamedDataset) -> None:
    order = share_of_pass(data.train, np.random.default_rng(0), 0, 1)
    units = list(zip(data.train.files[order].tolist(), data.train.groups[order].tolist(), strict=True))
    changes = sum(one != other for one, other in pairwise(units))
    assert changes == len(set(units)) - 1
    assert order.tolist() != list(range(53))
