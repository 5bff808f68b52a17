import numpy as np
import pytest

from trainables.data.shapes import SHAPES, SHAPES_BY_CLASS, make_shapes


def test_the_same_name_size_and_seed_give_the_same_images() -> None:
    first, again = make_shapes("train", 60, 1), make_shapes("train", 60, 1)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)


@pytest.mark.parametrize(("name", "seed"), [("train", 2), ("test", 1)])
def test_another_seed_or_name_gives_others(name: str, seed: int) -> None:
    first, other = make_shapes("train", 60, 1), make_shapes(name, 60, seed)
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(first.labels, other.labels)


def test_chunks_differ_and_all_ten_labels_occur() -> None:
    split = make_shapes("train", 2000, 1)
    assert split.images.dtype == np.uint8
    assert split.images.shape == (2000, 3, 32, 32)
    counts = np.bincount(split.labels, minlength=10)
    assert len(SHAPES_BY_CLASS) == 10
    assert counts.min() > 150
    assert counts.max() < 260
    assert not np.array_equal(split.images[:1000], split.images[1000:])
    assert len({image.tobytes() for image in split.images}) == 2000


def test_images_differ_by_class_more_than_chance() -> None:
    # The nearest class mean of brightness within the middle tells classes apart better than guessing.
    train, test = make_shapes("train", 1000, 1), make_shapes("test", 300, 1)
    means = np.stack([train.images[train.labels == c].mean(axis=(0, 1)) for c in range(10)]).reshape(10, -1)
    grey = test.images.mean(axis=1).reshape(300, -1)
    guesses = ((grey[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guesses == test.labels).mean() > 0.13


def test_the_source_makes_as_many_as_asked_for() -> None:
    train, test = SHAPES.read(None, 30)
    assert (len(train), len(test)) == (30, 2000)
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert SHAPES.locate(None, 30) != SHAPES.locate(None, 31)
    assert SHAPES.locate(None, None) == SHAPES.locate(None, 10_000)
    assert SHAPES.generated is True
