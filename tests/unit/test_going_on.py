"""A trial that was cut off goes on from its checkpoint, bit for bit as if it had not been."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.checkpoint import Checkpoint, find_start
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.ema import WeightAverage
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.loop import stream_seed, train

CPU = torch.device("cpu")
TIMES = {"epoch_s", "train_s"}
TRIAL = TrialConfig(
    dataset="noise",
    variant="all-cnn-c",
    lr=0.01,
    batch_size=16,
    epochs=6,
    augmentation="flip-shift",
    preprocessing="standardise",
    architecture=ArchitectureConfig(width=0.05, class_relu=False),
    averaged_at=(2, 4),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CutOffError(Exception):
    """The process ends here."""


def noise() -> Prepared:
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(60, 3, 32, 32, generator=draws), torch.randint(0, 10, (60,), generator=draws)
    return Prepared(
        name="noise",
        num_classes=10,
        train_images=images[:40],
        train_labels=labels[:40],
        test_images=images[40:],
        test_labels=labels[40:],
    )


def attempt(
    location: Path, trial: TrialConfig = TRIAL, cut: Callable[[int], bool] = lambda _: False
) -> list[dict[str, Any]]:
    """Train until `cut` says so after an epoch's checkpoint, before its report; return what was reported."""
    reports: list[EpochReport] = []
    draws = torch.Generator().manual_seed(stream_seed(trial.seed, "order and augmentation"))

    def save(model: Any, state: Any) -> None:
        Checkpoint.of(model, trial, 10, state.epoch, state).save(str(location), keep_previous=True)
        if cut(state.epoch):
            raise CutOffError

    feed = MemoryFeed(noise(), trial, draws, CPU)
    arithmetic = Arithmetic("float32", "channels_last")
    start = find_start(str(location), trial, 10)
    with suppress(CutOffError):
        train(trial, feed, reports.append, device=CPU, arithmetic=arithmetic, start=start, save=save)
    return [{name: value for name, value in r.to_dict().items() if name not in TIMES} for r in reports]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # In the midst of the warm-up, and before and after drops of the rate, at which the velocity is rescaled.
        {"momentum_form": "caffe", "warmup_epochs": 1.5},
        {"bias_lr_factor": 2.0, "bias_weight_decay": False, "max_grad_norm": 1.0},
        {"evaluate_every": 2},
    ],
)
def test_a_trial_cut_off_after_every_epoch_reports_the_same_numbers_and_ends_with_the_same_weights(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    trial = replace(TRIAL, **changes)
    whole = attempt(tmp_path / "whole" / "last.pt", trial)
    reported: list[dict[str, Any]] = []
    for number in range(1, TRIAL.epochs + 1):
        torch.rand(number)  # another process stands elsewhere in torch's own generator
        reported = attempt(tmp_path / "cut" / "last.pt", trial, cut=lambda epoch, number=number: epoch == number)
        assert reported == whole[: number - 1], "all epochs before, but not the one whose report was cut off"
    reported = attempt(tmp_path / "cut" / "last.pt", trial)
    assert reported == whole
    assert [report["averaged_error"] is not None for report in whole] == [n in (2, 4) for n in range(1, 7)]
    first, second = (Checkpoint.load(str(tmp_path / name / "last.pt")).weights for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_measuring_averaged_weights_changes_nothing_else(tmp_path: Path) -> None:
    with_average = attempt(tmp_path / "a" / "last.pt")
    without = attempt(tmp_path / "b" / "last.pt", replace(TRIAL, averaged_at=()))
    for report in with_average:
        report["averaged_error"] = None
    assert with_average == without


def test_a_diverged_trial_is_not_trained_again(tmp_path: Path) -> None:
    trial = replace(TRIAL, lr=1e6)
    first = attempt(tmp_path / "last.pt", trial)
    assert first[-1]["state"] == "diverged"
    epochs_saved: list[int] = []
    again = attempt(tmp_path / "last.pt", trial, cut=lambda epoch: bool(epochs_saved.append(epoch)))
    # NaN is unequal to itself.
    assert [repr(report) for report in again] == [repr(report) for report in first]
    assert epochs_saved == []


def test_a_completed_trial_goes_on_to_more_epochs_where_the_schedule_is_the_same(tmp_path: Path) -> None:
    constant = replace(TRIAL, averaged_at=(), drops=())
    whole = attempt(tmp_path / "whole" / "last.pt", constant)
    assert attempt(tmp_path / "longer" / "last.pt", replace(constant, epochs=2))[-1]["state"] == "completed"
    assert attempt(tmp_path / "longer" / "last.pt", constant) == whole
    first, second = (Checkpoint.load(str(tmp_path / name / "last.pt")) for name in ("whole", "longer"))
    assert first.config == second.config
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    with pytest.warns(UserWarning, match="must be of this trial"):
        assert find_start(str(tmp_path / "longer" / "last.pt"), replace(constant, epochs=5), 10) is None


def test_a_diverged_trial_stays_ended_however_many_epochs_there_are(tmp_path: Path) -> None:
    trial = replace(TRIAL, averaged_at=(), drops=(), lr=1e6)
    first = attempt(tmp_path / "last.pt", trial)
    again = attempt(tmp_path / "last.pt", replace(trial, epochs=8))
    assert [repr(report) for report in again] == [repr(report) for report in first]
    assert again[-1]["state"] == "diverged"


def test_the_arithmetic_that_a_trial_chose_is_its_own_when_it_is_named(tmp_path: Path) -> None:
    whole = attempt(tmp_path / "whole" / "last.pt")
    last = tmp_path / "cut" / "last.pt"
    attempt(last, cut=lambda epoch: epoch == 3)
    # A run that goes on names what was measured faster when it began, in place of auto.
    named = replace(TRIAL, precision="float32", memory_format="channels_last", compiled="no")
    attempt(last, named, cut=lambda epoch: epoch == 5)
    start = find_start(str(last), TRIAL, 10)
    assert start is not None
    assert start.epoch == 5
    assert attempt(last) == whole
    for other in ({"precision": "bfloat16"}, {"memory_format": "contiguous"}, {"compiled": "yes"}):
        with pytest.warns(UserWarning, match="must be of this trial"):
            assert find_start(str(last), replace(TRIAL, **other), 10) is None


def test_a_checkpoint_that_says_nothing_of_this_trial_is_not_gone_on_from(tmp_path: Path) -> None:
    location = str(tmp_path / "last.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_start(location, TRIAL, 10) is None
    attempt(tmp_path / "last.pt", cut=lambda epoch: epoch == 1)
    with pytest.warns(UserWarning, match="must be of this trial"):
        assert find_start(location, replace(TRIAL, lr=0.02), 10) is None
    elsewhere = find_start(location, replace(TRIAL, data="/elsewhere"), 10)
    assert elsewhere is not None, "the same data may lie in another place"
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:-100])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert find_start(location, TRIAL, 10) is None


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_a_trial_goes_on_from_the_checkpoint_before_where_the_last_is_damaged(tmp_path: Path, damage: str) -> None:
    whole = attempt(tmp_path / "whole" / "last.pt")
    last = tmp_path / "cut" / "last.pt"
    attempt(last, cut=lambda epoch: epoch == 4)
    if damage == "gone":
        last.unlink()
        assert attempt(last) == whole
        return
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"goes back to what it had before\. .*last\.pt must be a whole checkpoint"):
        assert attempt(last) == whole


def test_averaged_weights_are_the_mean_that_the_formula_gives() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(model, steps_per_epoch=4)
    seen = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -2.0]]), torch.tensor([[0.5, 8.0]])]
    for weights in seen:
        model.weight.data.copy_(weights)
        average.update()
    factors = [0.75**2, 0.75, 1.0]
    by_hand = sum(f * w for f, w in zip(factors, seen, strict=True)) / sum(factors)
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), by_hand)
    assert torch.equal(model.weight.detach(), seen[-1])
