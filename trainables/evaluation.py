"""The errors that a network makes, and whether its trial has diverged."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from trainables.hardware import Arithmetic

TOP = 5
"""A class among this many of the likeliest is a hit for the top-5 error."""

DIVERGED_ERROR = 1.0
"""The error that a diverged trial reports: worse than chance, so that no search prefers it."""

DEAD_SPREAD = 1e-6
"""A network whose logits differ by less than this between any two test images ignores its input."""

UNLEARNED_MARGIN, UNLEARNED_STEPS = 1e-3, 500
"""Epochs on end with a training loss this close to ln(classes), of this many steps together, are those of a network
that learns nothing: two epochs of all of CIFAR at batch size 128. Fewer steps would end slow starters on small sets."""


class Means(NamedTuple):
    """What a tally comes to per image; all 0 without images."""

    loss: float
    error: float
    top5_error: float
    images: int


def tally_of(logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """Return float64 `(4,)`: loss sum, misclassified, not among the likeliest five, images.

    Args:
        logits: `(N, classes)`.
        labels: int64 `(N,)`.
        loss: sum over the images, in nats.
    """
    logits = logits.detach()
    wrong = (logits.argmax(1) != labels).sum()
    likeliest = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    missed = (likeliest != labels[:, None]).all(1).sum()
    # Made where it is needed: a copy from the CPU would wait for the GPU, and could not be recorded.
    images = torch.full((), len(labels), dtype=torch.float64, device=labels.device)
    return torch.stack([loss.detach().double(), wrong.double(), missed.double(), images])


def means_of(tally: torch.Tensor) -> Means:
    """Return the means over the images that a tally, see `tally_of`, counts; waits for its device."""
    loss, wrong, missed, images = tally.tolist()
    images_or_one = max(images, 1)
    return Means(loss / images_or_one, wrong / images_or_one, missed / images_or_one, int(images))


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    arithmetic: Arithmetic,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tally over images and labels, and how far the logits spread over them.

    The tally is float64 `(4,)`: loss sum, misclassified, not among the likeliest five, images. The spread is float32
    `(classes,)`, the largest difference between two images' logits; it is `()` and 0 where there are no images.
    """
    model.eval()
    tally = torch.zeros(4, dtype=torch.float64, device=device)
    extremes: list[torch.Tensor] = []
    for images, labels in batches:
        with arithmetic.autocast(device):
            logits = model(images.contiguous(memory_format=arithmetic.layout)).float()
        tally += tally_of(logits, labels, functional.cross_entropy(logits, labels, reduction="sum"))
        extremes += [logits.amax(0), logits.amin(0)]
    if not extremes:  # fewer images than workers
        return tally, torch.zeros((), device=device)
    over_images = torch.stack(extremes)
    return tally, over_images.amax(0) - over_images.amin(0)


def is_at_chance(train_loss: float, num_classes: int) -> bool:
    """Return whether an epoch's mean training loss, in nats, is that of a network that learns nothing."""
    return abs(train_loss - math.log(num_classes)) < UNLEARNED_MARGIN


def why_diverged(train_loss: float, spread: float | None, unlearned_steps: int, num_classes: int) -> str:
    """Return why a trial cannot come to anything, in words, or an empty string.

    Args:
        train_loss: mean over the epoch, in nats.
        spread: the largest of those that `evaluate` returns; None where nothing was evaluated.
        unlearned_steps: steps of the epochs on end whose training loss was at ln(classes).
        num_classes: of the data set.
    """
    chance = math.log(num_classes)
    if not math.isfinite(train_loss) or (spread is not None and not math.isfinite(spread)):
        return f"training loss {train_loss:g}: the learning rate is too high for this network"
    if spread is not None and spread < DEAD_SPREAD:
        return f"dead start: the network gives the same output for every image, training loss {train_loss:.4f}"
    if unlearned_steps >= UNLEARNED_STEPS:
        return f"dead start: training loss {train_loss:.4f} stays at ln({num_classes}) = {chance:.4f}"
    return ""
