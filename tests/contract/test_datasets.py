"""What every source of images must do: a new one is tested by being registered."""

import json
from typing import Any, final

import numpy as np
import pytest

from trainables.data import DATASETS, Source, Split, open_dataset, prepare, register_dataset

pytestmark = pytest.mark.usefixtures("own_cache", "registries")


@final
class Own(Source):
    name = "own-images"
    num_classes = 4

    def __init__(self) -> None:
        self.reads = 0

    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:
        if location == "nowhere":
            raise ValueError("own-images must be somewhere, got 'nowhere'.")
        return {"location": location}

    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:
        self.reads += 1
        rng = np.random.default_rng(0)
        train, test = (
            Split(
                name=name,
                images=rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8),
                labels=rng.integers(0, 4, count),
                num_classes=4,
            )
            for name, count in (("train", 60), ("test", 20))
        )
        return train, test


def check(name: str) -> None:
    """Assert the contract of a source, read from where it needs no location."""
    source = DATASETS[name]
    identity = source.locate(None, 40)
    assert json.loads(json.dumps(identity)) == source.locate(None, 40) == identity
    first, again = open_dataset(name, None, 40), open_dataset(name, None, 40)
    assert first.name == name == source.name
    assert first.num_classes == source.num_classes
    assert len(first.train) == 40
    assert (first.train.name, first.test.name) == ("train", "test")
    for one, other in ((first.train, again.train), (first.test, again.test)):
        assert one.images.dtype == np.uint8
        assert one.labels.dtype == np.int64
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
    for split, fresh in zip(("train", "test"), source.read(None, 40), strict=True):
        if split == "test" or len(fresh) == 40:
            assert np.array_equal(fresh.images, getattr(first, split).images)
    assert first.checksum == again.checksum
    assert len(first.checksum) == 64
    prepared = prepare(first, "standardise")
    assert prepared.train_images.shape == (40, 3, 32, 32)
    assert prepared.test_images.shape == (len(first.test), 3, 32, 32)
    assert prepared.num_classes == source.num_classes


def test_shapes_meet_the_contract() -> None:
    check("shapes")
    assert DATASETS["shapes"].generated


def test_a_user_s_source_meets_it_and_is_read_once() -> None:
    source = Own()
    register_dataset(source)
    open_dataset("own-images", None, 40)
    open_dataset("own-images", None, 50)
    assert source.reads == 1
    check("own-images")
    assert not source.generated


def test_a_source_s_refusal_reaches_the_user() -> None:
    register_dataset(Own())
    with pytest.raises(ValueError, match=r"^own-images must be somewhere, got 'nowhere'\.$"):
        open_dataset("own-images", "nowhere")


def test_a_source_must_say_where_it_reads() -> None:
    class Half(Source):
        def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:
            raise AssertionError("a source that cannot be made is not read")

    with pytest.raises(TypeError, match=r"abstract method '?locate"):
        Half()  # type: ignore[abstract]


def test_a_name_taken_is_refused() -> None:
    register_dataset(Own())
    with pytest.raises(ValueError, match=r"^The name of a dataset must be free, got 'own-images'"):
        register_dataset(Own())


def test_the_published_sets_are_known_and_not_generated() -> None:
    assert [DATASETS[name].num_classes for name in ("cifar10", "cifar100")] == [10, 100]
    assert not DATASETS["cifar10"].generated
    assert not DATASETS["cifar100"].generated
