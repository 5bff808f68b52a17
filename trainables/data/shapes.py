"""A generated data set: ten classes of textured shapes on cluttered backgrounds, for machines without data.

It exists so that every part of a sweep can be tried offline. Its errors say nothing about natural images.
"""

from collections.abc import Callable
from typing import Any, final

import numpy as np

from trainables.data.source import Source, Split

Array = np.ndarray[Any, Any]

SIDE = 32
TRAIN_SIZE, TEST_SIZE = 10_000, 2_000
MAX_TRAIN_SIZE = 1_000_000
"""3 GB of images: a guard against a slip of the finger."""
SEED = 20141221
DISTRACTORS = 3
_CHUNK = 1_000
_VERSION = 1
"""Part of the cache's key: raise it when the images change."""


SHAPES_BY_CLASS: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.95,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.72) < 0.25,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.8,
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.62) < 0.22,
    "triangle": lambda x, y: (y < 0.6) & (np.abs(x) * 1.7 < y + 1.0),
    "cross": lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.27) & (np.maximum(np.abs(x), np.abs(y)) < 0.95),
    "star": lambda x, y: np.hypot(x, y) < 0.62 + 0.38 * np.cos(5 * np.arctan2(y, x)),
    "half-disc": lambda x, y: (np.hypot(x, y + 0.3) < 1.0) & (y > -0.3),
    "bars": lambda x, y: (np.abs(np.abs(x) - 0.5) < 0.24) & (np.abs(y) < 0.9),
    "crescent": lambda x, y: (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.45, y) > 0.72),
}
"""The classes in order of their label, each a set of points in coordinates where the shape fills about [-1, 1]^2."""


def make_shapes(name: str, size: int, seed: int) -> Split:
    """Return `size` images, uint8 `(size, 3, 32, 32)`: the same ones for the same name, size and seed.

    Each holds one light shape of random place, size, colour and stripes, turned by up to 22.5 degrees, over a dark
    striped background with a few small distracting patches, and noise.
    """
    images = np.empty((size, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(size, np.int64)
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        rng = np.random.default_rng([seed, sum(name.encode()), start])
        labels[start:stop] = rng.integers(0, len(SHAPES_BY_CLASS), stop - start)
        images[start:stop] = _draw(labels[start:stop], rng)
    return Split(name=name, images=images, labels=labels, num_classes=len(SHAPES_BY_CLASS))


def _draw(labels: Array, rng: np.random.Generator) -> Array:
    count = len(labels)
    canvas = _texture(count, rng, darkest=0.05, lightest=0.45)
    for _ in range(DISTRACTORS):
        x, y = _coordinates(count, rng, smallest=0.08, largest=0.16, turn=np.pi)
        canvas = np.where((np.abs(x) + np.abs(y) < 1)[:, None], _texture(count, rng, darkest=0.1, lightest=0.9), canvas)
    x, y = _coordinates(count, rng, smallest=0.3, largest=0.45, turn=np.pi / 8)
    inside = np.empty((count, SIDE, SIDE), bool)
    for label, contains in enumerate(SHAPES_BY_CLASS.values()):
        of_class = labels == label
        inside[of_class] = contains(x[of_class], y[of_class])
    canvas = np.where(inside[:, None], _texture(count, rng, darkest=0.45, lightest=0.95), canvas)
    canvas = canvas + rng.normal(0, 0.12, canvas.shape).astype(np.float32)
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8)


def _coordinates(
    count: int, rng: np.random.Generator, smallest: float, largest: float, turn: float
) -> tuple[Array, Array]:
    """Return each pixel's place, x and y `(count, 32, 32)`, in a frame of random centre, radius and rotation."""
    radius = rng.uniform(smallest, largest, (count, 1, 1))
    centre = rng.uniform(radius * 0.9, 1 - radius * 0.9, (2, count, 1, 1))
    angle = rng.uniform(-turn, turn, (count, 1, 1))
    pixels = (np.arange(SIDE) + 0.5) / SIDE
    x, y = (pixels[None, None, :] - centre[0]) / radius, (pixels[None, :, None] - centre[1]) / radius
    rotated_x = np.cos(angle) * x + np.sin(angle) * y
    rotated_y = np.cos(angle) * y - np.sin(angle) * x
    return rotated_x.astype(np.float32), rotated_y.astype(np.float32)


def _texture(count: int, rng: np.random.Generator, darkest: float, lightest: float) -> Array:
    """Return stripes between two colours of random direction and pitch, `(count, 3, 32, 32)`."""
    base = rng.uniform(darkest, lightest, (count, 3, 1, 1))
    swing = rng.uniform(-0.15, 0.15, (count, 3, 1, 1))
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    pitch = rng.uniform(0.3, 1.6, (count, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    pixels = np.arange(SIDE)
    along = np.cos(angle) * pixels[None, None, :] + np.sin(angle) * pixels[None, :, None]
    return (base + swing * np.sin(pitch * along + phase)[:, None]).astype(np.float32)


@final
class Shapes(Source):
    """The generated data set as a source; `train_size` is how many training images it makes."""

    name = "shapes"
    num_classes = len(SHAPES_BY_CLASS)
    class_names = tuple(SHAPES_BY_CLASS)
    generated = True

    def locate(self, location: str | None, train_size: int | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the generator's settings; `shapes` is read from nowhere."""
        if train_size is not None and train_size > MAX_TRAIN_SIZE:
            raise ValueError(f"train_size must be at most {MAX_TRAIN_SIZE} for shapes, got {train_size}.")
        return {"source": "generated", "generator": _VERSION, "seed": SEED, "train": train_size or TRAIN_SIZE}

    def read(self, location: str | None, train_size: int | None) -> tuple[Split, Split]:  # noqa: ARG002
        """Return `train_size` training images, or 10,000, and 2,000 test images."""
        return make_shapes("train", train_size or TRAIN_SIZE, SEED), make_shapes("test", TEST_SIZE, SEED)


SHAPES = Shapes()
