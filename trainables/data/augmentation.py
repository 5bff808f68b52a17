"""Augmentation of a batch on its device, and its place on a canvas."""

import torch
from torch.nn import functional

from trainables.config import TrialConfig
from trainables.data.prepare import Prepared

MAX_SHIFT = 5
"""Pixels, each way on each axis, as in the paper."""


def augmented(images: torch.Tensor, config: TrialConfig, data: Prepared, generator: torch.Generator) -> torch.Tensor:
    """Return a training batch as the network is to see it: augmented and on its canvas.

    Args:
        images: `(N, 3, H, W)`, normalised as `data` is.
        config: which augmentation, how strong, and the canvas.
        data: what the images are of.
        generator: on the CPU, so that every device draws the same numbers.
    """
    match config.augmentation:
        case "flip-shift":
            return placed(flip_and_shift(images, generator), config.canvas)
        case "heavy":
            # Here, since kornia takes half a second to load that most trials need not spend.
            from trainables.data import heavy

            assert data.mean is not None, "a trial refuses heavy with what cannot be taken back to pixels"
            assert data.deviation is not None, "it comes with the mean"
            strengths = config.heavy
            shifted = heavy.shift_colours(images, strengths, data.mean, data.deviation, generator)
            return heavy.move(
                placed(shifted, config.canvas),
                generator,
                degrees=(-strengths.rotation, strengths.rotation),
                scale=(strengths.min_scale, strengths.max_scale),
                translation=strengths.translation,
            )
    return placed(images, config.canvas)


def placed(images: torch.Tensor, canvas: int | None) -> torch.Tensor:
    """Return `(N, 3, canvas, canvas)`: each image in the middle of a square of zeros; None leaves images as they are.

    Where the margins cannot be equal, those above and left are a pixel narrower. The canvas is no smaller than the
    images, which the study's check has made sure of.
    """
    if canvas is None:
        return images
    height, width = images.shape[-2:]
    top, left = (canvas - height) // 2, (canvas - width) // 2
    return functional.pad(images, [left, canvas - width - left, top, canvas - height - top])


def flip_and_shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return each image mirrored with probability 1/2 and moved by up to 5 px per axis over zeros.

    Args:
        images: `(N, 3, H, W)`, normalised, so that zero is the mean image.
        generator: on the CPU, so that every device draws the same numbers.
    """
    count, _, height, width = images.shape
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * MAX_SHIFT + 1, (2, count), generator=generator)
    flips, shifts = _sent(flips, images.device), _sent(shifts, images.device)
    padded = functional.pad(images, [MAX_SHIFT] * 4)
    rows = shifts[0][:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + shifts[1][:, None]
    of_image = torch.arange(count, device=images.device)[:, None, None]
    return padded[of_image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _sent(draws: torch.Tensor, device: torch.device) -> torch.Tensor:
    # From pinned memory a copy to a GPU waits for nobody, and nobody for it.
    return draws.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else draws.to(device)
