"""Full-length learning curves of a grid on real CIFAR-10, with what an early judgement of each trial could go by.

The loop is not touched. Beside the error after each epoch, a watch on each trial keeps, after the same epoch:

- the error of averaged weights, an exponential moving average over steps (EMA), for each of `DECAYS`;
- after each of `BRANCH_EPOCHS`, all before the first drop, the error of a short branch at a lower learning rate:
  network and optimiser are copied, trained for a part of an epoch, evaluated and thrown away, for each of `BRANCHES`.

Both use copies and random numbers of their own, so the trial's numbers are bit for bit those without a watch.
"""

import copy
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainables.config import ArchitectureConfig, TrialConfig, learning_rate
from trainables.data import Dataset, Prepared, open_dataset, prepare
from trainables.data.batches import MemoryFeed
from trainables.data.source import Split
from trainables.epoch_report import EpochReport
from trainables.evaluation import evaluate
from trainables.hardware import Arithmetic, choose_arithmetic
from trainables.loop import stream_seed, train
from trainables.state import TrainingState

VARIANTS = ("all-cnn-c", "convpool-cnn-c", "model-c", "strided-cnn-c")
LEARNING_RATES = (0.01, 0.025, 0.05, 0.1)
SEEDS = (0, 1, 2)

TRAIN_IMAGES, HELD_OUT_IMAGES = 5_000, 2_000
"""Images to train on, and others of the training split to judge by: no test image is looked at."""

DECAYS = (0.98, 0.995)
"""Of the averaged weights, per step: they look back 50 and 200 steps, two thirds of an epoch and two and a half."""

CPU = torch.device("cpu")


@final
@dataclass(frozen=True, kw_only=True)
class Branch:
    """A short training at a lower learning rate, to see where a trial would go if its rate dropped now."""

    factor: float
    """On the learning rate."""
    shares: tuple[float, ...]
    """Of an epoch's steps, rising: after each of them the branch is evaluated."""

    def name(self, share: float) -> str:
        """Return what its error after a share of an epoch is kept under."""
        return f"branch x{self.factor:g} for {share:g}"


BRANCHES = (Branch(factor=0.1, shares=(0.25, 0.5)), Branch(factor=0.01, shares=(0.25,)))
BRANCH_EPOCHS = (1, 2, 3, 4, 6, 8)

BASE = TrialConfig(
    dataset="cifar10",
    variant="all-cnn-c",
    lr=0.05,
    train_size=TRAIN_IMAGES,
    batch_size=64,
    epochs=14,
    # The recipe in which all twelve variants learn soon, docs/results.md.
    architecture=ArchitectureConfig(width=0.25, input_dropout=0.0, dropout=0.1, class_relu=False),
)
"""Drops after epochs 8, 10 and 12, where the paper has them after 200, 250 and 300 of 350."""


@final
@dataclass(frozen=True, kw_only=True)
class Curve:
    """One trial at full length, or up to where it diverged."""

    variant: str
    lr: float
    seed: int
    errors: dict[str, list[float | None]]
    """Share of held-out images misclassified after each epoch: `last` by the weights as they are, the others by what
    they are named after. None where it was not measured."""
    train_losses: list[float]
    seconds: list[float]
    """Of each epoch's training and evaluation, without what the watch added."""
    reason: str
    """Why the trial diverged; empty where it was completed."""

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.seconds)

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the curve that `to_json` wrote."""
        return cls(**json.loads(line))


@final
class Watch:
    """Measures beside a trial what the loop does not, without a change to the trial's numbers."""

    def __init__(self, config: TrialConfig, data: Prepared, arithmetic: Arithmetic) -> None:
        """Begin to watch the next optimiser that takes a step; `close` ends it."""
        self._config, self._data, self._arithmetic = config, data, arithmetic
        self._optimiser: torch.optim.Optimizer | None = None
        self._averages: dict[float, list[torch.Tensor]] = {}
        self._steps = 0
        self._handle = register_optimizer_step_post_hook(self._after_step)
        self.errors: dict[str, list[float | None]] = {}
        self.seconds: list[float] = []
        """What each epoch's measurements took."""

    def close(self) -> None:
        """Let go of optimisers."""
        self._handle.remove()

    def after_epoch(self, model: nn.Module, state: TrainingState) -> None:
        """Measure; the loop's `save`."""
        epoch = state.epoch
        start = time.perf_counter()
        # The loop's dropout draws from torch's one generator: what is drawn here is given back.
        with torch.random.fork_rng(devices=[]):
            for decay, weights in self._averages.items():
                averaged = copy.deepcopy(model)
                _set_weights(averaged, weights)
                self._keep(f"averaged {decay:g}", self._error(averaged))
            for branch in BRANCHES:
                errors = (
                    self._branch_errors(model, epoch, branch) if epoch in BRANCH_EPOCHS else [None] * len(branch.shares)
                )
                for share, error in zip(branch.shares, errors, strict=True):
                    self._keep(branch.name(share), error)
        self.seconds.append(time.perf_counter() - start)

    def _after_step(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002 - torch's
        # The first optimiser is the trial's; a branch's own comes later and is none of the averages' business.
        if self._optimiser is None:
            self._optimiser = optimiser
        if optimiser is not self._optimiser:
            return
        weights = [weight.detach() for weight in optimiser.param_groups[0]["params"]]
        if not self._averages:
            self._averages = {decay: [torch.zeros_like(weight) for weight in weights] for decay in DECAYS}
        self._steps += 1
        for decay, averages in self._averages.items():
            # The sum of the weights' factors is one from the first step on, so that no zero stays in the average.
            torch._foreach_lerp_(averages, weights, (1 - decay) / (1 - decay**self._steps))

    def _branch_errors(self, model: nn.Module, epoch: int, branch: Branch) -> list[float]:
        assert self._optimiser is not None, "a step comes before an epoch's end"
        config = self._config
        torch.manual_seed(stream_seed(config.seed, f"branch after epoch {epoch}"))
        feed = _feed(config, self._data, f"order of the branch after epoch {epoch}")
        twin = copy.deepcopy(model)
        optimiser = torch.optim.SGD(twin.parameters())
        # The state is copied, with the momentum in it: load_state_dict alone would share its tensors.
        optimiser.load_state_dict(copy.deepcopy(self._optimiser.state_dict()))
        optimiser.param_groups[0]["lr"] = learning_rate(config, epoch - 0.5) * branch.factor
        batches, taken, errors = feed.train_batches(), 0, []
        for share in branch.shares:
            steps = max(1, round(share * feed.steps_per_epoch)) - taken
            taken += steps
            twin.train()
            for batch in islice(batches, steps):
                with self._arithmetic.autocast(CPU):
                    logits = twin(batch.images.contiguous(memory_format=self._arithmetic.layout))
                loss = functional.cross_entropy(logits.float(), batch.labels)
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimiser.step()
            errors.append(self._error(twin))
        return errors

    def _error(self, model: nn.Module) -> float:
        feed = _feed(self._config, self._data, "no order")
        tally, _ = evaluate(model, feed.test_batches(), CPU, self._arithmetic)
        return float(tally[1] / tally[3])

    def _keep(self, name: str, error: float | None) -> None:
        self.errors.setdefault(name, []).append(error)


def record_trial(config: TrialConfig, data: Prepared, arithmetic: Arithmetic) -> Curve:
    """Train one trial to its end under a watch and return its curve."""
    reports: list[EpochReport] = []
    watch = Watch(config, data, arithmetic)
    try:
        feed = _feed(config, data, "order and augmentation")
        train(config, feed, reports.append, device=CPU, arithmetic=arithmetic, save=watch.after_epoch)
    finally:
        watch.close()
    return Curve(
        variant=config.variant,
        lr=config.lr,
        seed=config.seed,
        errors={"last": [report.error for report in reports]} | watch.errors,
        train_losses=[round(report.train_loss, 4) for report in reports],
        seconds=[round(report.epoch_s - extra, 3) for report, extra in zip(reports, watch.seconds, strict=True)],
        reason=reports[-1].reason,
    )


def grid() -> Iterator[TrialConfig]:
    """Yield the trials, seed by seed and cell by cell: an interruption leaves whole ones."""
    for seed, variant, lr in product(SEEDS, VARIANTS, LEARNING_RATES):
        yield replace(BASE, variant=variant, lr=lr, seed=seed)


def held_out(dataset: Dataset) -> Dataset:
    """Return the data set with the last of its training images in the test images' place."""
    images, labels = dataset.train.images, dataset.train.labels
    splits = {"train": slice(None, TRAIN_IMAGES), "test": slice(TRAIN_IMAGES, None)}
    parts = {
        name: Split(name=name, images=images[part], labels=labels[part], num_classes=dataset.num_classes)
        for name, part in splits.items()
    }
    return replace(dataset, name=f"{dataset.name}-held-out", **parts)


def record_grid(file: Path, processes: int) -> None:
    """Add each trial of the grid that the file lacks, a line as soon as it has ended."""
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {(curve.variant, curve.lr, curve.seed) for curve in read_curves(file)}
    missing = [config for config in grid() if (config.variant, config.lr, config.seed) not in known]
    print(f"{len(known)} curves are there, {len(missing)} to record in {processes} processes", flush=True)
    # Data and arithmetic are made once, before the processes that would measure each other.
    _prepared()
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(processes) as pool, file.open("a") as lines:
        for curve in pool.imap_unordered(_record, missing):
            lines.write(curve.to_json() + "\n")
            lines.flush()
            outcome = curve.reason or f"error {100 * (curve.errors['last'][-1] or 0):.2f} %"
            print(
                f"{time.perf_counter() - start:5.0f} s  {curve.variant} lr {curve.lr:g} seed {curve.seed}: "
                f"{curve.epochs} epochs in {sum(curve.seconds):.0f} s, {outcome}",
                flush=True,
            )


def read_curves(file: Path) -> list[Curve]:
    """Return the curves of a file; none where there is no file."""
    return [Curve.from_json(line) for line in file.read_text().splitlines()] if file.exists() else []


def _record(config: TrialConfig) -> Curve:
    data, arithmetic = _prepared()
    return record_trial(config, data, arithmetic)


def _prepared() -> tuple[Prepared, Arithmetic]:
    torch.set_num_threads(1)
    dataset = open_dataset(BASE.dataset, os.environ.get("SWEEP_DATA"), TRAIN_IMAGES + HELD_OUT_IMAGES)
    assert isinstance(dataset, Dataset), "CIFAR-10 fits into memory"
    return prepare(held_out(dataset), BASE.preprocessing), choose_arithmetic(BASE, CPU)


def _feed(config: TrialConfig, data: Prepared, purpose: str) -> MemoryFeed:
    draws = torch.Generator().manual_seed(stream_seed(config.seed, purpose))
    return MemoryFeed(data, config, draws, CPU)


def _set_weights(model: nn.Module, weights: Iterable[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
