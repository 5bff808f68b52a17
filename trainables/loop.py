"""The training loop of one trial, top to bottom."""

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.nn import functional

from trainables.architectures import build_network, count_parameters
from trainables.checkpoint import Checkpoint
from trainables.compilation import Network
from trainables.config import TrialConfig, learning_rate
from trainables.data.batches import Batch, Feed
from trainables.ema import WeightAverage
from trainables.epoch_report import EpochReport, State
from trainables.evaluation import (
    DEAD_SPREAD,
    DIVERGED_ERROR,
    TOP,
    Means,
    evaluate,
    is_at_chance,
    means_of,
    tally_of,
    why_diverged,
)
from trainables.hardware import Arithmetic
from trainables.optimiser import make_optimiser, place_rates, set_rate
from trainables.state import TrainingState, generators, optimiser_state, restore_generators
from trainables.step import Step


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
    """Train one trial, calling `save` and then `report` after each epoch, until it is completed or diverged.

    Args:
        config: of the trial.
        feed: this worker's batches, not read from yet.
        report: takes each epoch's report; of a resumed trial it gets the earlier ones once more, in order.
        device: where to train.
        arithmetic: of the forward pass.
        ranks: the workers, which share each batch: their number changes roundings and the dropped units, nothing else.
        start: where an earlier attempt stood, with its training state; None starts anew.
        save: keeps the network and the training state before the report, at which a trial may be ended.
    """
    trial = _Trial(config, feed, device, arithmetic, ranks, start)
    for earlier in trial.reports:
        report(earlier)

    def forward_backward(network: Network, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with arithmetic.autocast(device):
            logits = network(batch.images.contiguous(memory_format=arithmetic.layout))
        smoothing = config.label_smoothing
        loss = functional.cross_entropy(logits.float(), batch.labels, reduction="sum", label_smoothing=smoothing)
        trial.optimiser.zero_grad(set_to_none=True)
        # The workers' gradients are averaged: this factor makes the average that of the whole batch.
        torch.autograd.backward(loss * (ranks.size / batch.whole))
        return logits, loss

    def update(network: Network, batch: Batch) -> None:
        logits, loss = forward_backward(network, batch)
        if config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(trial.model.parameters(), config.max_grad_norm)
        trial.optimiser.step()
        trial.tally += tally_of(logits, batch.labels, loss)

    step = trial.accelerated(update, forward_backward)
    while not trial.has_ended:
        started = time.perf_counter()
        trial.begin_epoch()
        for number, batch in enumerate(feed.train_batches()):
            lr = learning_rate(config, len(trial.reports) + (number + 0.5) / feed.steps_per_epoch)
            set_rate(trial.optimiser, lr, config.momentum_form)
            step(batch)
            if trial.average is not None:
                trial.average.update()
        trained = means_of(ranks.add_up(trial.tally))
        train_s = time.perf_counter() - started
        trial.end_epoch(trained, lr=lr, compiled=step.compiled, started=started, train_s=train_s)
        save(trial.model, trial.state())
        report(trial.reports[-1])


@final
class _Trial:
    """A trial on one worker: what it trains, and how far it is."""

    def __init__(
        self,
        config: TrialConfig,
        feed: Feed,
        device: torch.device,
        arithmetic: Arithmetic,
        ranks: Ranks,
        start: Checkpoint | None,
    ) -> None:
        """Set the trial up as it is before its first epoch, or as its checkpoint left it."""
        self.config, self.feed, self.device, self.arithmetic, self.ranks = config, feed, device, arithmetic, ranks
        torch.manual_seed(stream_seed(config.seed, "weights"))
        self.model = arithmetic.place(build_network(config, feed.num_classes), device)
        if start is not None:
            self.model.load_state_dict(dict(start.weights))
        self.network = ranks.wrap(self.model)
        self.optimiser = make_optimiser(self.model, config)
        self.average = WeightAverage(self.model, feed.steps_per_epoch) if config.averaged_at else None
        self.tally = torch.zeros(4, dtype=torch.float64, device=device)
        """See `tally_of`; of the current epoch."""
        self.reports: list[EpochReport] = []
        self.unlearned_steps = 0
        torch.manual_seed(stream_seed(config.seed, f"dropout of worker {ranks.rank}"))
        if start is not None:
            self._resume(start.training)
        place_rates(self.optimiser, device)

    def _resume(self, then: TrainingState) -> None:
        self.optimiser.load_state_dict({**then.optimiser})
        self.feed.restore(then.feed)
        if self.average is not None and then.average is not None:
            self.average.restore(**then.average)
        # A worker that was not there before keeps the generators that it has.
        if self.ranks.rank < len(then.generators):
            restore_generators(then.generators[self.ranks.rank], self.device)
        self.reports, self.unlearned_steps = list(then.reports), then.unlearned_steps

    @property
    def has_ended(self) -> bool:
        """Whether the trial is completed or diverged."""
        return bool(self.reports) and self.reports[-1].state != "running"

    def accelerated(
        self, update: Callable[[Network, Batch], None], forward_backward: Callable[[Network, Batch], object]
    ) -> Step:
        """Return a training step compiled where the arithmetic says so, and on a GPU recorded; see `Step`."""
        return Step(
            update,
            forward_backward,
            self.model,
            self.network,
            batch_size=self.config.batch_size,
            device=self.device,
            arithmetic=self.arithmetic,
            workers=self.ranks.size,
            # A resumed trial continues as it began.
            must_compile=self.config.compiled == "yes" or bool(self.reports),
        )

    def begin_epoch(self) -> None:
        """Switch dropout on, and count from zero."""
        self.model.train()
        self.tally.zero_()
        if len(self.reports) >= max(self.config.averaged_at, default=0):
            self.average = None

    def end_epoch(self, trained: Means, *, lr: float, compiled: bool, started: float, train_s: float) -> None:
        """Evaluate the network, decide whether the trial goes on, and append the epoch's report.

        Args:
            trained: of the epoch's training images.
            lr: of its last step.
            compiled: whether its steps ran a compiled network.
            started: when it began, by `time.perf_counter`.
            train_s: seconds of its training.
        """
        config, epoch = self.config, len(self.reports) + 1
        measured, spreads, averaged_error = Means(0.0, 0.0, 0.0, 0), None, None
        if config.is_evaluated(epoch):
            measured, spread = self._evaluate()
            # A worker without images has none for each class either.
            spreads = self.ranks.add_up(spread.expand(self.feed.num_classes))
        if self.average is not None and epoch in config.averaged_at:
            with self.average.applied():
                averaged_error = self._evaluate()[0].error
        is_unlearned = is_at_chance(trained.loss, self.feed.num_classes) and epoch > config.warmup_epochs
        self.unlearned_steps = self.unlearned_steps + self.feed.steps_per_epoch if is_unlearned else 0
        largest = float(spreads.max()) if spreads is not None else None
        reason = why_diverged(trained.loss, largest, self.unlearned_steps, self.feed.num_classes)
        state: State = "diverged" if reason else "completed" if epoch == config.epochs else "running"
        error, top5_error = (DIVERGED_ERROR, DIVERGED_ERROR) if reason else (measured.error, measured.top5_error)
        has_error = spreads is not None or bool(reason)
        is_validation, is_test = has_error and config.held_out > 0, has_error and config.held_out == 0
        self.reports.append(
            EpochReport(
                epoch=epoch,
                lr=lr,
                train_loss=trained.loss,
                train_error=trained.error,
                val_error=error if is_validation else None,
                test_error=error if is_test else None,
                test_top5_error=top5_error if is_test and self.feed.num_classes > TOP else None,
                averaged_error=averaged_error,
                dead_classes=int((spreads < DEAD_SPREAD).sum()) if spreads is not None else None,
                error=error if has_error else trained.error,
                train_images=trained.images,
                val_images=measured.images if config.held_out else 0,
                test_images=0 if config.held_out else measured.images,
                epoch_s=time.perf_counter() - started,
                train_s=train_s,
                state=state,
                reason=reason,
                num_parameters=count_parameters(self.model),
                precision=self.arithmetic.precision,
                memory_format=self.arithmetic.memory_format,
                compiled=compiled,
                device=torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
                node=platform.node(),
            )
        )

    def state(self) -> TrainingState:
        """Return what another attempt resumes from."""
        return TrainingState(
            reports=tuple(self.reports),
            unlearned_steps=self.unlearned_steps,
            optimiser=optimiser_state(self.optimiser),
            feed=self.feed.state(),
            generators=self.ranks.gather(generators(self.device)),
            average=self.average.state() if self.average is not None else None,
        )

    def _evaluate(self) -> tuple[Means, torch.Tensor]:
        """Return the errors over all workers' images, and how far the logits spread over this one's."""
        tally, spread = evaluate(self.model, self.feed.test_batches(), self.device, self.arithmetic)
        return means_of(self.ranks.add_up(tally)), spread


def stream_seed(seed: int, purpose: str) -> int:
    """Return the seed of one of a trial's streams of random numbers, so that no two of them draw the same ones."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
