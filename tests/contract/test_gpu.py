"""On a GPU: recorded steps compute what single kernels do, and what cannot be recorded still trains."""

import random
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainables.step
from trainables.architectures import VARIANTS
from trainables.checkpoint import Checkpoint, find_start
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.loop import stream_seed, train
from trainables.step import can_be_recorded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

TIMES = {"epoch_s", "train_s"}
TRIAL = TrialConfig(
    dataset="noise",
    variant="all-cnn-c",
    lr=0.01,
    batch_size=32,
    epochs=4,
    warmup_epochs=1.5,
    augmentation="flip-shift",
    preprocessing="standardise",
    architecture=ArchitectureConfig(width=0.25, class_relu=False),
    averaged_at=(2, 3),
)


@pytest.fixture(autouse=True)
def _repeatable(registries: None) -> Iterator[None]:
    """Take algorithms that give the same sums each time, so that differences are of the step alone."""
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False


class CutOffError(Exception):
    """The process ends here."""


def attempt(trial: TrialConfig, arithmetic: Arithmetic, kept: Path | None = None, until: int = 0) -> list[Any]:
    """Train and return what was reported, without times; keep it in a file, and be cut off after an epoch."""
    device, reports = torch.device("cuda"), list[EpochReport]()
    images = torch.randn(300, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 10, (300,), generator=torch.Generator().manual_seed(1))
    data = Prepared(
        name="noise",
        num_classes=10,
        train_images=images[:200],  # six batches of 32, and one of 8
        train_labels=labels[:200],
        test_images=images[200:],
        test_labels=labels[200:],
    )

    def save(model: nn.Module, state: Any) -> None:
        if kept is not None:
            Checkpoint.of(model, trial, 10, state.epoch, state).save(str(kept), keep_previous=True)
        if state.epoch == until:
            raise CutOffError

    draws = torch.Generator().manual_seed(stream_seed(trial.seed, "order and augmentation"))
    feed = MemoryFeed(data, trial, draws, device)
    start = find_start(str(kept), trial, 10) if kept is not None else None
    with suppress(CutOffError):
        train(trial, feed, reports.append, device=device, arithmetic=arithmetic, start=start, save=save)
    return [{name: value for name, value in report.to_dict().items() if name not in TIMES} for report in reports]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", ["all-cnn-c", "model-a", "model-c-plearned"])
def test_recorded_steps_compute_what_others_do(variant: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, arithmetic = replace(TRIAL, variant=variant), Arithmetic(precision, "channels_last")
    recordings: list[object] = []
    record = trainables.step.Step._record

    def counted(step: Any, batch: Any) -> Any:
        recordings.append(record(step, batch))
        return recordings[-1]

    monkeypatch.setattr(trainables.step.Step, "_record", counted)
    recorded = attempt(trial, arithmetic)
    assert len(recordings) == 1
    assert recordings[0] is not None
    monkeypatch.setattr(trainables.step, "can_be_recorded", lambda _model: False)
    by_kernel = attempt(trial, arithmetic)
    assert len(recordings) == 1
    assert recorded == by_kernel
    losses = [report["train_loss"] for report in recorded]
    assert losses[-1] < losses[0], "it learns"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_steps_are_recorded_and_draw_what_others_do(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings: list[object] = []
    record = trainables.step.Step._record

    def counted(step: Any, batch: Any) -> Any:
        recordings.append(record(step, batch))
        return recordings[-1]

    monkeypatch.setattr(trainables.step.Step, "_record", counted)
    plain = Arithmetic(precision, "channels_last")
    compiled = replace(plain, compiled=True)
    trial = replace(TRIAL, compiled="yes")
    first, again, other = attempt(trial, compiled), attempt(trial, compiled), attempt(trial, plain)
    assert len(recordings) == 3
    assert None not in recordings
    assert first == again
    assert all(report["compiled"] for report in first)
    # Other draws of dropout would make some hundredths of difference.
    tolerance = 1e-4 if precision == "float32" else 1e-2
    for one, two in zip(first, other, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=tolerance)


def test_a_trial_that_was_cut_off_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    arithmetic = Arithmetic("bfloat16", "channels_last")
    whole = attempt(TRIAL, arithmetic)
    for epoch in range(1, 5):
        attempt(TRIAL, arithmetic, tmp_path / "last.pt", until=epoch)
    assert attempt(TRIAL, arithmetic, tmp_path / "last.pt") == whole


def test_a_network_of_the_users_own_code_is_not_recorded() -> None:
    class Branching(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features * (2.0 if random.random() < 0.5 else 1.0)

    @VARIANTS.register("branching")
    def _builder(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Branching(), nn.Linear(3 * 32 * 32, num_classes))

    assert not can_be_recorded(VARIANTS["branching"](TRIAL.architecture, 10))
    assert attempt(replace(TRIAL, variant="branching"), Arithmetic("float32", "contiguous"))[-1]["state"] == "completed"


def test_a_network_that_asks_the_gpu_in_its_forward_pass_trains_unrecorded_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @VARIANTS.register("asking")
    def _builder(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        # With no momentum batch normalisation reads its count of batches back.
        return nn.Sequential(
            nn.Dropout(0.1), nn.BatchNorm2d(3, momentum=None), nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes)
        )

    trial, arithmetic = replace(TRIAL, variant="asking"), Arithmetic("float32", "contiguous")
    with pytest.warns(RuntimeWarning, match="is not recorded as a CUDA graph"):
        found = attempt(trial, arithmetic)
    monkeypatch.setattr(trainables.step, "can_be_recorded", lambda _model: False)
    assert attempt(trial, arithmetic) == found
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attempt(replace(TRIAL, averaged_at=()), arithmetic), "the next trial in this process is recorded"
