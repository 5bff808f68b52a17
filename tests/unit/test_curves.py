"""The watch of benchmarks/curves.py measures beside a trial and leaves its numbers alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks import curves
from benchmarks.curves import BASE, BRANCHES, DECAYS, Curve, Watch, grid, record_trial
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.loop import stream_seed, train
from trainables.state import TrainingState

CPU = torch.device("cpu")
FLOAT32 = Arithmetic("float32", "contiguous")
TIMES = {"epoch_s", "train_s"}
TRIAL = TrialConfig(
    dataset="noise",
    variant="all-cnn-c",
    lr=0.01,
    batch_size=8,
    epochs=3,
    drops=(2 / 3,),
    # Dropout draws from torch's one generator, which the watch must give back as it was.
    architecture=ArchitectureConfig(width=0.05, class_relu=False),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data() -> Prepared:
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(43, 3, 32, 32, generator=draws), torch.randint(0, 10, (43,), generator=draws)
    return Prepared(
        name="noise",
        num_classes=10,
        train_images=images[:32],
        train_labels=labels[:32],
        test_images=images[32:],
        test_labels=labels[32:],
    )


def run(
    data: Prepared, save: Callable[[nn.Module, TrainingState], None] = lambda _model, _state: None
) -> tuple[list[EpochReport], nn.Module]:
    reports: list[EpochReport] = []
    kept: list[nn.Module] = []

    def keep(model: nn.Module, state: TrainingState) -> None:
        kept.append(model)
        save(model, state)

    draws = torch.Generator().manual_seed(stream_seed(TRIAL.seed, "order and augmentation"))
    feed = MemoryFeed(data, TRIAL, draws, CPU)
    train(TRIAL, feed, reports.append, device=CPU, arithmetic=FLOAT32, save=keep)
    return reports, kept[-1]


def numbers(reports: list[EpochReport]) -> list[dict[str, Any]]:
    return [{name: value for name, value in r.to_dict().items() if name not in TIMES} for r in reports]


def test_a_watched_trial_has_the_numbers_and_weights_of_one_that_is_not(
    data: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, model = run(data)
    monkeypatch.setattr(curves, "BRANCH_EPOCHS", (1, 2))
    watch = Watch(TRIAL, data, FLOAT32)
    try:
        watched_reports, watched_model = run(data, watch.after_epoch)
    finally:
        watch.close()
    assert numbers(watched_reports) == numbers(reports)
    weights = zip(model.parameters(), watched_model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    # It did measure.
    names = {f"averaged {decay:g}" for decay in DECAYS}
    branches = {branch.name(share) for branch in BRANCHES for share in branch.shares}
    assert set(watch.errors) == names | branches
    for name, errors in watch.errors.items():
        assert [error is None for error in errors] == [False, False, name in branches]


def test_the_averages_are_those_of_the_weights_after_each_step(data: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "DECAYS", (0.25,))
    seen: list[torch.Tensor] = []
    watch = Watch(TRIAL, data, FLOAT32)
    handle = register_optimizer_step_post_hook(
        lambda optimiser, args, kwargs: seen.append(optimiser.param_groups[0]["params"][0].detach().clone())
    )
    try:
        run(data)
    finally:
        watch.close()
        handle.remove()
    assert len(seen) == 12
    factors = [0.25 ** (11 - step) for step in range(12)]
    expected = sum(factor * weights for factor, weights in zip(factors, seen, strict=True)) / sum(factors)
    torch.testing.assert_close(watch._averages[0.25][0], expected)


def test_a_closed_watch_sees_nothing(data: Prepared) -> None:
    watch = Watch(TRIAL, data, FLOAT32)
    watch.close()
    run(data)
    assert not watch._averages


def test_a_curve_comes_back_through_its_line(data: Prepared) -> None:
    curve = record_trial(TRIAL, data, FLOAT32)
    assert Curve.from_json(curve.to_json()) == curve
    assert (curve.epochs, curve.reason, len(curve.errors["last"])) == (3, "", 3)


def test_the_grid_goes_seed_by_seed_through_equal_schedules() -> None:
    configs = list(grid())
    assert [config.seed for config in configs] == sorted(config.seed for config in configs)
    assert {(config.epochs, config.drop_epochs) for config in configs} == {(14, (8, 10, 12))}
    assert replace(configs[-1], variant=BASE.variant, lr=BASE.lr, seed=0) == BASE
