"""Augmentation of a batch on its device."""

import torch
from torch.nn import functional

MAX_SHIFT = 5
"""Pixels, each way on each axis, as in the paper."""


def flip_and_shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return each image mirrored with probability 1/2 and moved by up to 5 px per axis over zeros.

    Args:
        images: `(N, 3, H, W)`, normalised, so that zero is the mean image.
        generator: on the CPU, so that every device draws the same numbers.
    """
    count, _, height, width = images.shape
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * MAX_SHIFT + 1, (2, count), generator=generator)
    flips, shifts = flips.to(images.device), shifts.to(images.device)
    padded = functional.pad(images, [MAX_SHIFT] * 4)
    rows = shifts[0][:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + shifts[1][:, None]
    of_image = torch.arange(count, device=images.device)[:, None, None]
    return padded[of_image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
