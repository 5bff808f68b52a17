"""Global contrast normalisation and ZCA whitening with the constants of the maxout networks' code.

Source: I. Goodfellow et al., "Maxout Networks", 2013, which the paper follows.
"""

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np

GCN_SCALE = 55.0
"""Norm of an image after contrast normalisation: about unit standard deviation per pixel, since sqrt(3072) = 55.4."""

GCN_MIN_NORM = 1e-8
"""A norm below this counts as 1, so that a uniform image becomes zero."""

ZCA_BIAS = 0.1
"""Added to each eigenvalue of the covariance."""

_CHUNK = 5_000
"""Images converted to float64 at a time."""

Array = np.ndarray[Any, Any]


def global_contrast_normalise(images: Array) -> Array:
    """Return uint8 images `(N, C, H, W)` as float32 `(N, C*H*W)`, each with mean 0 and Euclidean norm 55.

    Mean and norm are the image's own, over all channels. The norm, not the standard deviation, divides.
    """
    flat = images.reshape(len(images), -1)
    normalised = np.empty(flat.shape, np.float32)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].astype(np.float64)
        part -= part.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(part, axis=1, keepdims=True)
        norms[norms < GCN_MIN_NORM] = 1.0
        normalised[start : start + _CHUNK] = part * (GCN_SCALE / norms)
    return normalised


@final
@dataclass(frozen=True, kw_only=True)
class Whitening:
    """x' = (x - mean) P with P = V diag((eigenvalues + 0.1)^-1/2) V^T of the population covariance."""

    mean: Array
    """float64 `(D,)`."""

    matrix: Array
    """P, float64 `(D, D)`, symmetric."""

    @classmethod
    def fit(cls, train: Array) -> Self:
        """Return the whitening of `train`, `(N, D)`: training images only."""
        mean = train.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((train.shape[1], train.shape[1]))
        for start in range(0, len(train), _CHUNK):
            centred = train[start : start + _CHUNK] - mean
            covariance += centred.T @ centred
        eigenvalues, vectors = np.linalg.eigh(covariance / len(train))
        # A covariance has no negative eigenvalue; rounding can make one of a tiny size.
        scaled = vectors / np.sqrt(eigenvalues.clip(min=0) + ZCA_BIAS)
        return cls(mean=mean, matrix=scaled @ vectors.T)

    def apply(self, images: Array) -> Array:
        """Return whitened images, float32 `(N, D)`."""
        whitened = np.empty(images.shape, np.float32)
        for start in range(0, len(images), _CHUNK):
            whitened[start : start + _CHUNK] = (images[start : start + _CHUNK] - self.mean) @ self.matrix
        return whitened
