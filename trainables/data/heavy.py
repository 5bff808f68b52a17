"""The augmentation `heavy`: each image's colours shifted, and the image rotated, scaled and moved, by kornia."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from kornia.augmentation import ColorJiggle, RandomAffine

from trainables.config import HeavyConfig

WHITE = 255.0
"""The brightest pixel, as `mean` and `deviation` count."""


def shift_colours(
    images: torch.Tensor,
    strengths: HeavyConfig,
    mean: torch.Tensor,
    deviation: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return each image with its own change of brightness, contrast, saturation and hue.

    What leaves the range of a pixel is cut off. The order of the four changes is drawn once for the batch.

    Args:
        images: `(N, 3, H, W)`, standardised, without a canvas: its zeros would be shifted too.
        strengths: how far each change goes.
        mean: `(3, 1, 1)`, of the training pixels from 0 to 255.
        deviation: `(3, 1, 1)`, likewise.
        generator: on the CPU, so that every device draws the same numbers.
    """
    mean, deviation = (values.to(images.device) for values in (mean, deviation))
    change = ColorJiggle(strengths.brightness, strengths.contrast, strengths.saturation, strengths.hue, p=1.0)
    with _seeded_by(generator):
        pixels: torch.Tensor = change((images * deviation + mean) / WHITE)
    return (pixels * WHITE - mean) / deviation


def move(
    images: torch.Tensor,
    generator: torch.Generator,
    *,
    degrees: tuple[float, float],
    scale: tuple[float, float],
    translation: float,
) -> torch.Tensor:
    """Return each image with its own rotation, scaling and shift, in one bilinear sampling over zeros.

    Args:
        images: `(N, 3, S, S)`, on their canvas where there is one.
        generator: on the CPU, so that every device draws the same numbers.
        degrees: bounds of the rotation about the middle, clockwise as displayed.
        scale: bounds of the factor on the size.
        translation: bound of the shift along each axis, either way, as a fraction of S.
    """
    affine = RandomAffine(degrees, translate=(translation, translation), scale=scale, p=1.0)
    with _seeded_by(generator):
        moved: torch.Tensor = affine(images)
    return moved


@contextmanager
def _seeded_by(generator: torch.Generator) -> Iterator[None]:
    # kornia draws from torch's own generator, which drops units too: there it must be as if nothing had been drawn.
    # torch.manual_seed would seed the GPUs' generators besides.
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
