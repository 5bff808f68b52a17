"""Training images held out for validation."""

from pathlib import Path

import numpy as np
import pytest

from tests.image_sets import class_folders
from trainables.data import Dataset, Split, StreamedDataset, hold_out, open_dataset, prepare


def dataset(labels: list[int]) -> Dataset:
    rng = np.random.default_rng(0)

    def split(name: str, own: list[int]) -> Split:
        images = rng.integers(0, 256, (len(own), 3, 32, 32), dtype=np.uint8)
        return Split(name=name, images=images, labels=np.array(own, np.int64), num_classes=3)

    return Dataset(
        name="mine", num_classes=3, train=split("train", labels), test=split("test", [0, 1, 2]), checksum="hold-out"
    )


def held(share: float, labels: list[int]) -> tuple[Dataset, Dataset]:
    data = dataset(labels)
    found = hold_out(data, share)
    assert isinstance(found, Dataset)
    return data, found


def test_each_class_gives_its_share_and_no_image_is_in_both() -> None:
    data, found = held(0.2, [0] * 50 + [1] * 20 + [2] * 10)
    assert np.bincount(found.test.labels).tolist() == [10, 4, 2]
    assert np.bincount(found.train.labels).tolist() == [40, 16, 8]
    whole = {image.tobytes() for image in data.train.images}
    parts = [{image.tobytes() for image in split.images} for split in (found.train, found.test)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]
    # Labels have stayed with their images.
    label_of = {image.tobytes(): label for image, label in zip(data.train.images, data.train.labels, strict=True)}
    for split in (found.train, found.test):
        assert [label_of[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_no_test_image_is_left() -> None:
    data, found = held(0.25, [0, 1, 2] * 8)
    tests = {image.tobytes() for image in data.test.images}
    assert not tests & {image.tobytes() for split in (found.train, found.test) for image in split.images}


def test_the_same_images_every_time() -> None:
    (_, first), (_, second) = held(0.3, [0, 1, 2] * 10), held(0.3, [0, 1, 2] * 10)
    assert np.array_equal(first.test.images, second.test.images)


def test_a_share_of_nothing_changes_nothing() -> None:
    data = dataset([0, 1, 2])
    assert hold_out(data, 0.0) is data


def test_a_small_class_holds_out_one() -> None:
    _, found = held(0.1, [0] * 30 + [1] * 2 + [2] * 4)
    assert np.bincount(found.test.labels).tolist() == [3, 1, 1]


def test_a_class_of_one_image_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^validation must leave each class .* got 1 image of class 1 of mine; train on"
    ):
        held(0.1, [0, 0, 1, 2, 2])


def test_images_are_normalised_by_those_that_are_left() -> None:
    data, found = held(0.5, [0, 1, 2] * 8)
    whole, part = prepare(data, "standardise"), prepare(found, "standardise")
    assert part.train_images.mean((0, 2, 3)).abs().max() < 1e-5
    assert len(part.train_images) == len(part.test_images) == 12
    assert not np.allclose(whole.mean, part.mean)


def test_two_shares_of_one_set_are_not_mixed_up_in_the_cache() -> None:
    data = dataset([0, 1, 2] * 8)
    # As many images on both sides as a part of the set with its own test images would have.
    same_sizes = Dataset(
        name="mine", num_classes=3, train=hold_out(data, 0.125).train, test=data.test, checksum="hold-out"
    )
    held_out = hold_out(data, 0.125)
    assert isinstance(held_out, Dataset)
    assert len(held_out.test) == len(same_sizes.test)
    assert not np.allclose(prepare(held_out, "standardise").test_images, prepare(same_sizes, "standardise").test_images)


def test_a_streamed_set_holds_out_its_share_too(tmp_path: Path) -> None:
    class_folders(tmp_path / "imagenet", train=60, val=20)
    data = open_dataset("imagenet", str(tmp_path))
    found = hold_out(data, 0.5)
    assert isinstance(data, StreamedDataset)
    assert isinstance(found, StreamedDataset)
    assert (len(found.train), len(found.test)) == (30, 30)
    assert np.bincount(found.test.labels).tolist() == [3] * 10
    paths = [{index.paths[int(file)].as_py() for file in index.files} for index in (found.train, found.test)]
    assert not paths[0] & paths[1]
    assert all("/train/" in path for path in paths[0] | paths[1])
