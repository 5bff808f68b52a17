"""The training loop of one trial, top to bottom."""

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.nn import functional

from trainables.architectures import build_network, count_parameters
from trainables.checkpoint import Checkpoint
from trainables.config import TrialConfig, learning_rate
from trainables.data.batches import Feed
from trainables.ema import WeightAverage
from trainables.epoch_report import EpochReport, State
from trainables.hardware import Arithmetic
from trainables.optimiser import make_optimiser
from trainables.state import TrainingState, generators, optimiser_state
from trainables.step import TOP, Step, tally_of

DIVERGED_ERROR = 1.0
"""The error that a diverged trial reports: worse than chance, so that no search prefers it."""

DEAD_SPREAD = 1e-6
"""A network whose logits differ by less than this between any two test images ignores its input."""

UNLEARNED_MARGIN, UNLEARNED_STEPS = 1e-3, 500
"""Epochs on end with a training loss this close to ln(classes), of this many steps together, are those of a network
that learns nothing: two epochs of all of CIFAR at batch size 128. Fewer steps would end slow starters on small sets."""


@final
@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The workers that train one trial together; the default is one alone."""

    rank: int = 0
    size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    """Makes gradients the mean over the workers'."""
    add_up: Callable[[torch.Tensor], torch.Tensor] = lambda counts: counts
    """Returns the sum of a tensor over the workers, the same on each."""
    gather: Callable[[Any], list[Any]] = lambda own: [own]
    """Returns what each worker gave, in order of rank, the same on each."""


def train(
    config: TrialConfig,
    feed: Feed,
    report: Callable[[EpochReport], None],
    *,
    device: torch.device,
    arithmetic: Arithmetic,
    ranks: Ranks = Ranks(),
    start: Checkpoint | None = None,
    save: Callable[[nn.Module, TrainingState], None] = lambda _model, _state: None,
) -> None:
    """Train one trial and call `save` and then `report` once an epoch, until it is completed or diverged.

    The workers share each batch between them; only dropout differs from one to another. So the number of workers
    changes the sums' rounding and the dropped units, nothing else.

    Args:
        config: what to train, and how.
        feed: this worker's batches, not read from yet.
        report: takes what an epoch did. Of a trial that goes on it gets the epochs before once more, in order.
        device: where to train.
        arithmetic: of the forward pass.
        ranks: the workers of this trial.
        start: where an earlier attempt at this trial stood, with its training state; None begins anew.
        save: takes the network and all else that a later attempt needs; what it keeps is there before the report, at
            which a trial may be ended.
    """
    torch.manual_seed(stream_seed(config.seed, "weights"))
    model = arithmetic.place(build_network(config, feed.num_classes), device)
    if start is not None:
        model.load_state_dict(dict(start.weights))
    wrapped = ranks.wrap(model)
    optimiser = make_optimiser(model, config)
    average = WeightAverage(model, feed.steps_per_epoch) if config.averaged_at else None
    torch.manual_seed(stream_seed(config.seed, f"dropout of worker {ranks.rank}"))
    unlearned = 0
    reports: list[EpochReport] = []
    if start is not None:
        start.training.apply(optimiser=optimiser, feed=feed, average=average, device=device, rank=ranks.rank)
        unlearned, reports = start.training.unlearned_steps, list(start.training.reports)
        for earlier in reports:
            report(earlier)
        if start.training.has_ended:
            return
    step = Step(
        model,
        wrapped,
        optimiser,
        config,
        device=device,
        arithmetic=arithmetic,
        workers=ranks.size,
        # A trial that goes on does so as it began.
        must_compile=config.compiled == "yes" or start is not None,
    )

    for epoch in range(len(reports) + 1, config.epochs + 1):
        started = time.perf_counter()
        model.train()
        if epoch > max(config.averaged_at, default=0):
            average = None
        step.tally.zero_()
        for number, batch in enumerate(feed.train_batches()):
            lr = learning_rate(config, epoch - 1 + (number + 0.5) / feed.steps_per_epoch)
            step(batch, lr)
            if average is not None:
                average.update()
        train_loss, train_error, _, train_images = _means(ranks.add_up(step.tally))
        train_s = time.perf_counter() - started

        measured = config.is_evaluated(epoch)
        evaluated, spread = evaluate(model, feed.test_batches() if measured else (), device, arithmetic)
        _, error, top5_error, images = _means(ranks.add_up(evaluated))
        # A worker without images has none for each class either.
        spreads = ranks.add_up(spread.expand(feed.num_classes)) if measured else None
        averaged_error = None
        if average is not None and epoch in config.averaged_at:
            with average.applied():
                of_average, _ = evaluate(model, feed.test_batches(), device, arithmetic)
            averaged_error = _means(ranks.add_up(of_average))[1]
        at_chance = abs(train_loss - math.log(feed.num_classes)) < UNLEARNED_MARGIN
        unlearned = unlearned + feed.steps_per_epoch if at_chance and epoch > config.warmup_epochs else 0
        reason = why_diverged(
            train_loss, float(spreads.max()) if spreads is not None else None, unlearned, feed.num_classes
        )
        state: State = "diverged" if reason else "completed" if epoch == config.epochs else "running"
        if reason:
            error = top5_error = DIVERGED_ERROR
        has_error = measured or bool(reason)
        is_validation, is_test = has_error and config.held_out > 0, has_error and config.held_out == 0
        reports.append(
            EpochReport(
                epoch=epoch,
                lr=lr,
                train_loss=train_loss,
                train_error=train_error,
                val_error=error if is_validation else None,
                test_error=error if is_test else None,
                test_top5_error=top5_error if is_test and feed.num_classes > TOP else None,
                averaged_error=averaged_error,
                dead_classes=int((spreads < DEAD_SPREAD).sum()) if spreads is not None else None,
                error=error if is_validation or is_test else train_error,
                train_images=train_images,
                val_images=images if config.held_out else 0,
                test_images=0 if config.held_out else images,
                epoch_s=time.perf_counter() - started,
                train_s=train_s,
                state=state,
                reason=reason,
                num_parameters=count_parameters(model),
                precision=arithmetic.precision,
                memory_format=arithmetic.memory_format,
                compiled=step.compiled,
                device=_device_name(device),
                node=platform.node(),
            )
        )
        save(
            model,
            TrainingState(
                reports=tuple(reports),
                unlearned_steps=unlearned,
                optimiser=optimiser_state(optimiser),
                feed=feed.state(),
                generators=ranks.gather(generators(device)),
                average=average.state() if average is not None else None,
            ),
        )
        report(reports[-1])
        if reason:
            return


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


def stream_seed(seed: int, purpose: str) -> int:
    """Return the seed of one of a trial's streams of random numbers, so that no two of them draw the same ones."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def why_diverged(train_loss: float, spread: float | None, unlearned_steps: int, num_classes: int) -> str:
    """Return why a trial cannot come to anything, in words, or an empty string.

    Args:
        train_loss: mean over the epoch, in nats.
        spread: see `evaluate`; None where nothing was evaluated.
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


def _means(tally: torch.Tensor) -> tuple[float, float, float, int]:
    loss, wrong, missed, images = tally.tolist()
    images_or_one = max(images, 1)
    return loss / images_or_one, wrong / images_or_one, missed / images_or_one, int(images)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
