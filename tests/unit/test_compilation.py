"""Training steps that run a compiled network: the same draws and weights, other roundings, and recorded as such."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sweep.record.schema import TRIALS
from sweep.resume.recorded import with_recorded_arithmetic
from sweep.study.catalog import STUDIES
from trainables.architectures import VARIANTS
from trainables.checkpoint import Checkpoint, find_start
from trainables.compilation import Network, compiled
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.layers import WordDropout
from trainables.loop import Ranks, stream_seed, train
from trainables.worker import _agreed

CPU = torch.device("cpu")
TIMES = {"epoch_s", "train_s"}
TRIAL = TrialConfig(
    dataset="noise",
    variant="strided-cnn-a",
    lr=0.01,
    batch_size=8,
    epochs=2,
    drops=(),
    architecture=ArchitectureConfig(width=0.05, class_relu=False),
    compiled="yes",
)
COMPILED = Arithmetic("float32", "channels_last", compiled=True)


class CutOffError(Exception):
    """The process ends here."""


def attempt(
    trial: TrialConfig, arithmetic: Arithmetic = COMPILED, *, images: int = 32, kept: Path | None = None, until: int = 0
) -> list[dict[str, Any]]:
    """Train and return what was reported, without times; keep it in a file, and be cut off after an epoch."""
    reports: list[EpochReport] = []
    pixels = torch.randn(images + 10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images + 10) % 10
    data = Prepared(
        name="noise",
        num_classes=10,
        train_images=pixels[:images],
        train_labels=labels[:images],
        test_images=pixels[images:],
        test_labels=labels[images:],
    )

    def save(model: nn.Module, state: Any) -> None:
        if kept is not None:
            Checkpoint.of(model, trial, 10, state.epoch, state).save(str(kept))
        if state.epoch == until:
            raise CutOffError

    draws = torch.Generator().manual_seed(stream_seed(trial.seed, "order and augmentation"))
    start = find_start(str(kept), trial, 10) if kept is not None else None
    feed = MemoryFeed(data, trial, draws, CPU)
    with suppress(CutOffError):
        train(trial, feed, reports.append, device=CPU, arithmetic=arithmetic, start=start, save=save)
    return [{name: value for name, value in report.to_dict().items() if name not in TIMES} for report in reports]


@dataclass
class Trained:
    plain: list[dict[str, Any]]
    once: list[dict[str, Any]]
    again: list[dict[str, Any]]
    uneven: list[dict[str, Any]]
    resumed: list[dict[str, Any]]
    checkpoint: Path
    plain_checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return trials of one network, compiled once for all of them: it takes ten seconds."""
    folder, threads = tmp_path_factory.mktemp("compiled"), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache"))
        once = attempt(TRIAL, kept=folder / "compiled.pt")
        torch.rand(7)  # what drew before must not matter
        again = attempt(TRIAL)
        attempt(TRIAL, kept=folder / "cut.pt", until=1)
        resumed = attempt(TRIAL, kept=folder / "cut.pt")
        with torch._dynamo.config.patch(error_on_recompile=True):
            uneven = attempt(TRIAL, images=29)
        # Compiled, dropout is torch's own on a CPU too.
        patch.setattr(WordDropout, "forward", nn.Dropout.forward)
        plain = attempt(replace(TRIAL, compiled="no"), replace(COMPILED, compiled=False), kept=folder / "plain.pt")
    torch.set_num_threads(threads)
    return Trained(plain, once, again, uneven, resumed, folder / "compiled.pt", folder / "plain.pt")


def test_a_compiled_network_learns_what_it_learns_uncompiled(trained: Trained) -> None:
    for mine, other in zip(trained.once, trained.plain, strict=True):
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert (mine["compiled"], other["compiled"]) == (True, False)
    assert trained.once[1]["train_loss"] != trained.once[0]["train_loss"]


def test_the_same_seed_gives_the_same_numbers_compiled_too(trained: Trained) -> None:
    assert trained.again == trained.once


def test_a_compiled_trial_that_was_cut_off_goes_on_to_the_same_numbers(trained: Trained) -> None:
    assert trained.resumed == trained.once


def test_another_attempt_compiles_as_the_first_did(trained: Trained) -> None:
    for location in (trained.checkpoint, trained.plain_checkpoint):
        start = Checkpoint.load(str(location))
        agreed = _agreed(replace(TRIAL, compiled="auto"), CPU, Ranks(), start, steps_per_epoch=1)
        assert agreed == replace(COMPILED, compiled=location == trained.checkpoint)
        assert find_start(str(location), replace(TRIAL, compiled="auto"), 10) is not None


def test_an_epoch_s_last_batch_and_the_evaluation_compile_nothing_more(trained: Trained) -> None:
    assert [report["train_images"] for report in trained.uneven] == [29, 29]
    assert all(report["compiled"] for report in trained.uneven)


def test_the_weights_of_a_compiled_trial_are_those_of_the_plain_network(trained: Trained) -> None:
    network = Checkpoint.load(str(trained.checkpoint)).network()
    plain = Checkpoint.load(str(trained.plain_checkpoint)).network()
    assert network.state_dict().keys() == plain.state_dict().keys()
    for name, weights in network.state_dict().items():
        torch.testing.assert_close(weights, plain.state_dict()[name], rtol=1e-4, atol=1e-6)


class Branching(nn.Module):
    """Python that depends on the data, which no one graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        normed = self.norm(torch.nn.functional.dropout(features.flatten(1)[:, :4], 0.5))
        return normed * 2.0 if normed.sum() > 0 else normed


def differentiate(network: Network) -> None:
    network(torch.ones(2, 3, 4, 4)).sum().backward()


def test_a_network_that_cannot_be_compiled_is_left_as_it_was_with_a_warning() -> None:
    model = Branching()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.warns(RuntimeWarning, match=r"^torch\.compile cannot compile this network .* It is trained without\.$"):
        network = compiled(model, differentiate, CPU, required=False)
    assert network is model
    assert torch.equal(torch.get_rng_state(), before)
    assert int(model.norm.num_batches_tracked) == 0


def test_out_of_memory_is_no_matter_of_compiling() -> None:
    def attempt(_network: Network) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        compiled(Branching(), attempt, CPU, required=True)


@pytest.mark.usefixtures("registries")
def test_a_network_of_the_users_own_code_is_compiled_on_demand_alone() -> None:
    @VARIANTS.register("branching")
    def _builder(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        return nn.Sequential(Branching(), nn.Linear(4, num_classes))

    trial = replace(TRIAL, variant="branching", compiled="auto")
    assert attempt(trial) == attempt(trial, replace(COMPILED, compiled=False))
    # Not "leave --set compiled=yes out", which --resume refuses.
    with pytest.raises(
        ValueError,
        match=r"cannot compile this network .* Resume .* gcc and Triton .* new run with --set compiled=no\.$",
    ):
        attempt(replace(trial, compiled="yes"))


def test_a_trial_without_a_whole_batch_has_compiled_nothing() -> None:
    assert [report["compiled"] for report in attempt(TRIAL, images=7)] == [False, False]


@pytest.mark.parametrize("asked", ["auto", "yes", "no"])
@pytest.mark.parametrize("rows", [[True, True], [False, False], [True, False], []])
def test_a_resumed_run_compiles_as_its_study_says_whatever_its_trials_did(rows: list[bool], asked: Any) -> None:
    study = STUDIES["quickstart"]()
    study = replace(study, base=replace(study.base, compiled=asked))
    pending = dict.fromkeys(TRIALS.names)
    used = {"precision": "float32", "memory_format": "contiguous"}
    found = with_recorded_arithmetic(study, [*(pending | used | {"compiled": value} for value in rows), pending]).base
    assert (found.compiled, found.precision) == (asked, "float32" if rows else "auto")
