import numpy as np
import pytest
import torch

from trainables.data import Dataset, Split, open_dataset, prepare
from trainables.data.whitening import Whitening, global_contrast_normalise

pytestmark = pytest.mark.usefixtures("own_cache")


def split(name: str, count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.normal(rng.uniform(80, 160, (3, 1, 1)), 20, (count, 3, 32, 32)).clip(0, 255).astype(np.uint8)
    return Split(name=name, images=images, labels=rng.integers(0, 10, count), num_classes=10)


def dataset(train: int = 0, test: int = 1, checksum: str = "0") -> Dataset:
    return Dataset(
        name="own", num_classes=10, train=split("train", 20, train), test=split("test", 8, test), checksum=checksum
    )


def test_standardised_training_images_have_mean_0_and_deviation_1_in_each_channel() -> None:
    data = dataset()
    prepared = prepare(data, "standardise")
    images = prepared.train_images.double()
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert images.std(dim=(0, 2, 3), correction=0).numpy() == pytest.approx(np.ones(3), abs=1e-5)
    assert prepared.train_images.dtype == prepared.test_images.dtype == torch.float32
    assert prepared.train_labels.tolist() == data.train.labels.tolist()
    assert prepared.test_labels.tolist() == data.test.labels.tolist()


def test_test_images_are_standardised_by_the_training_images() -> None:
    data = dataset()
    prepared = prepare(data, "standardise")
    for channel in range(3):
        train = data.train.images[:, channel].astype(np.float64)
        expected = (data.test.images[:, channel] - train.mean()) / train.std()
        assert prepared.test_images[:, channel].numpy() == pytest.approx(expected, abs=1e-5)


def test_other_test_images_change_nothing_of_the_training_images() -> None:
    one, other = prepare(dataset(test=1), "standardise"), prepare(dataset(test=2, checksum="1"), "standardise")
    assert torch.equal(one.train_images, other.train_images)
    assert not torch.equal(one.test_images, other.test_images)


def test_whitening_is_fitted_once_on_the_normalised_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # The eigenvectors of 3072 dimensions take seconds: whiten the first 50 here and leave the others.
    seen = []
    fit = Whitening.fit

    def note(train: np.ndarray) -> Whitening:
        seen.append(train)
        matrix = np.eye(3072)
        matrix[:50, :50] = fit(train[:, :50]).matrix
        return Whitening(mean=train.mean(axis=0, dtype=np.float64), matrix=matrix)

    monkeypatch.setattr(Whitening, "fit", note)
    data = dataset()
    prepared = prepare(data, "gcn-zca")
    assert len(seen) == 1
    assert np.array_equal(seen[0], global_contrast_normalise(data.train.images))
    whitening = note(seen[0])
    for split_, got in ((data.train, prepared.train_images), (data.test, prepared.test_images)):
        expected = whitening.apply(global_contrast_normalise(split_.images)).reshape(-1, 3, 32, 32)
        assert got.numpy() == pytest.approx(expected, abs=1e-6)


def test_a_channel_of_one_value_stays_finite() -> None:
    data = dataset()
    data.train.images[:, 1] = 7
    data.test.images[:, 1] = 7
    prepared = prepare(data, "standardise")
    assert not prepared.train_images[:, 1].any()
    assert not prepared.test_images[:, 1].any()


def test_another_checksum_or_size_is_normalised_anew() -> None:
    first, other = dataset(train=0, checksum="0"), dataset(train=5, checksum="1")
    assert not torch.equal(prepare(first, "standardise").train_images, prepare(other, "standardise").train_images)
    part = Dataset(name="own", num_classes=10, train=split("train", 6, 0), test=first.test, checksum="0")
    assert len(prepare(part, "standardise").train_images) == 6


def test_writing_into_prepared_images_does_not_reach_the_next_trial() -> None:
    prepare(dataset(), "standardise").train_images.zero_()
    assert prepare(dataset(), "standardise").train_images.any()


@pytest.mark.usefixtures("registries")
def test_a_part_is_the_same_for_all_and_more_than_all_is_refused() -> None:
    from trainables.data import Source, register_dataset

    class Own(Source):
        name, num_classes = "own", 10

        def locate(self, location: str | None, train_size: int | None) -> dict[str, object]:
            return {"location": location}

        def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:
            return split("train", 30, 0), split("test", 5, 1)

    register_dataset(Own())
    whole = open_dataset("own").train
    parts = [open_dataset("own", location, 12).train for location in (None, None, "elsewhere")]
    for part in parts:
        assert np.array_equal(part.images, parts[0].images)
        assert np.array_equal(part.labels, parts[0].labels)
    index = {image.tobytes(): row for row, image in enumerate(whole.images)}
    rows = [index[image.tobytes()] for image in parts[0].images]
    assert len(set(rows)) == 12
    assert rows != list(range(12))
    assert parts[0].labels.tolist() == whole.labels[rows].tolist()
    assert np.array_equal(open_dataset("own", train_size=30).train.images, whole.images)
    assert open_dataset("own", train_size=12).checksum == open_dataset("own").checksum
    with pytest.raises(
        ValueError, match=r"^train_size must be at most the 30 training images that own holds here, got 31"
    ):
        open_dataset("own", train_size=31)


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^dataset must be one of cifar10, cifar100, shapes, imagenet, got 'mnist'\.$"
    ):
        open_dataset("mnist")


def test_real_cifar10(real_data: str) -> None:
    data = open_dataset("cifar10", real_data, 200)
    assert data.train.images.shape == (200, 3, 32, 32)
    assert data.test.images.shape == (10_000, 3, 32, 32)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    whole = open_dataset("cifar10", real_data)
    assert whole.train.images.shape == (50_000, 3, 32, 32)
    assert np.bincount(whole.train.labels).tolist() == [5000] * 10
    assert whole.checksum == data.checksum
    assert whole.train.images.mean(axis=(0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


def test_1000_real_images_are_whitened_as_a_double_precision_reference_does(real_data: str) -> None:
    data = open_dataset("cifar10", real_data, 1000)
    prepared = prepare(data, "gcn-zca")
    # Another way to the same: the singular values of the images themselves, all in double precision.
    pixels = data.train.images.reshape(1000, 3072).astype(np.float64)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels *= 55.0 / np.sqrt((pixels**2).sum(axis=1, keepdims=True))
    centred = pixels - pixels.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=True)
    eigenvalues = np.zeros(3072)
    eigenvalues[:1000] = singular**2 / 1000
    matrix = (directions.T * (eigenvalues + 0.1) ** -0.5) @ directions
    reference = centred @ matrix
    got = prepared.train_images.reshape(1000, 3072).numpy().astype(np.float64)
    assert np.linalg.norm(got - reference) / np.linalg.norm(reference) < 1e-5
    assert (np.linalg.norm(got - reference, axis=1) / np.linalg.norm(reference, axis=1)).max() < 1e-5
    # P C P has the eigenvalues e / (e + 0.1) in the same directions: its diagonal is what whitening leaves per pixel.
    predicted = (directions**2 * (eigenvalues / (eigenvalues + 0.1))[:, None]).sum(axis=0)
    whitened = got - got.mean(axis=0)
    assert (whitened**2).mean(axis=0) == pytest.approx(predicted, rel=1e-4)
