import numpy as np
import pytest

from trainables.data.whitening import Whitening, global_contrast_normalise


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def correlated(count: int, size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + 3).astype(np.float32)


def test_contrast_normalisation_is_that_of_a_loop_over_pixels() -> None:
    some = images(5)
    for image, normalised in zip(some, global_contrast_normalise(some), strict=True):
        values = [float(v) for v in image.ravel()]
        mean = sum(values) / len(values)
        norm = sum((v - mean) ** 2 for v in values) ** 0.5
        assert normalised == pytest.approx([55.0 * (v - mean) / norm for v in values], rel=1e-5, abs=1e-6)


def test_each_image_has_mean_0_and_norm_55() -> None:
    normalised = global_contrast_normalise(images(20)).astype(np.float64)
    assert global_contrast_normalise(images(20)).dtype == np.float32
    assert normalised.shape == (20, 3072)
    assert np.abs(normalised.mean(axis=1)).max() < 1e-6
    assert np.linalg.norm(normalised, axis=1) == pytest.approx(np.full(20, 55.0), rel=1e-6)


def test_a_uniform_image_becomes_zero() -> None:
    some = images(3)
    some[1] = 77
    normalised = global_contrast_normalise(some)
    assert not normalised[1].any()
    assert np.isfinite(normalised).all()


def test_contrast_normalisation_ignores_brightness_and_contrast() -> None:
    low = images(4) // 4
    assert global_contrast_normalise(low * 2 + 9) == pytest.approx(global_contrast_normalise(low), abs=1e-5)


def test_whitening_is_that_of_the_formula() -> None:
    train, test = correlated(300, 12), correlated(40, 12, seed=1)
    centred = train.astype(np.float64) - train.astype(np.float64).mean(axis=0)
    covariance = np.einsum("ni,nj->ij", centred, centred) / 300
    # P is the inverse square root of covariance + 0.1: so P P (covariance + 0.1) is the identity.
    whitening = Whitening.fit(train)
    assert whitening.matrix @ whitening.matrix @ (covariance + 0.1 * np.eye(12)) == pytest.approx(np.eye(12), abs=1e-9)
    assert whitening.matrix == pytest.approx(whitening.matrix.T, abs=1e-12)
    assert (np.linalg.eigvalsh(whitening.matrix) > 0).all()
    left, singular, _ = np.linalg.svd(covariance)
    reference = (test - train.astype(np.float64).mean(axis=0)) @ (left @ np.diag((singular + 0.1) ** -0.5) @ left.T)
    assert whitening.apply(test) == pytest.approx(reference, rel=1e-4, abs=1e-5)


def test_images_after_contrast_normalisation_are_whitened_by_the_formula() -> None:
    small = np.random.default_rng(5).integers(0, 256, (400, 3, 4, 4), dtype=np.uint8)
    flat = global_contrast_normalise(small)
    whitened = Whitening.fit(flat).apply(flat).astype(np.float64)
    assert np.abs(whitened.mean(axis=0)).max() < 1e-4
    # Directions of variance v get v / (v + 0.1): almost 1, but for the constant direction, which has none.
    variances = np.linalg.eigvalsh(np.cov(whitened, rowvar=False, bias=True))
    before = np.linalg.eigvalsh(np.cov(flat.astype(np.float64), rowvar=False, bias=True)).clip(0)
    assert variances == pytest.approx(before / (before + 0.1), abs=1e-3)
    assert variances[0] < 1e-6 < 0.9 < variances[1]


def test_whitening_in_chunks_is_whitening_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = correlated(103, 9)
    at_once = Whitening.fit(data)
    monkeypatch.setattr("trainables.data.whitening._CHUNK", 10)
    in_chunks = Whitening.fit(data)
    assert in_chunks.matrix == pytest.approx(at_once.matrix, rel=1e-9)
    assert in_chunks.apply(data) == pytest.approx(at_once.apply(data), abs=1e-5)
    some = images(23)
    assert np.array_equal(
        global_contrast_normalise(some), np.concatenate([global_contrast_normalise(some[[i]]) for i in range(23)])
    )


def test_fewer_images_than_dimensions_whiten_to_finite_numbers() -> None:
    data = correlated(5, 30)
    whitening = Whitening.fit(data)
    assert np.isfinite(whitening.apply(data)).all()
    # A direction without variance is multiplied by 0.1 ** -0.5.
    assert np.linalg.eigvalsh(whitening.matrix).max() == pytest.approx(0.1**-0.5, rel=1e-6)
