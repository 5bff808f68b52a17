"""A network on disk: what comes back, and what is refused."""

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trained import checkpoint as trained
from trainables.architectures import build
from trainables.checkpoint import FORMAT, Checkpoint
from trainables.config import ArchitectureConfig, TrialConfig

CONFIG = TrialConfig(dataset="shapes", variant="model-c", lr=0.01, architecture=ArchitectureConfig(width=0.1))


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return trained(build("model-c", CONFIG.architecture, 10), CONFIG, 3)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_what_was_saved_comes_back(form: str, tmp_path: Path, checkpoint: Checkpoint) -> None:
    location = form.format(tmp_path / "a" / "last.pt")
    checkpoint.save(location)
    loaded = Checkpoint.load(location)
    assert (loaded.config, loaded.num_classes, loaded.epoch) == (CONFIG, 10, 3)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.network()(images), checkpoint.network()(images))
    assert not loaded.network().training
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["last.pt"]


def test_it_is_a_copy_that_training_does_not_alter() -> None:
    model = build("model-c", CONFIG.architecture, 10).to(memory_format=torch.channels_last)
    checkpoint = trained(model, CONFIG, 1)
    before = {name: value.clone() for name, value in checkpoint.weights.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    for name, value in checkpoint.weights.items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()


def test_weights_of_another_network_are_refused(checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, config=replace(CONFIG, variant="all-cnn-c"))
    with pytest.raises(
        ValueError, match=r"must hold the weights of a all-cnn-c of width 0\.1, got those of another network \("
    ):
        other.network()


def test_none_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"A checkpoint must lie at {tmp_path}/x.pt, got none there.")):
        Checkpoint.load(f"{tmp_path}/x.pt")


@pytest.mark.parametrize("cut", [0, 1, 100, -200])
def test_a_damaged_one_is_refused(cut: int, tmp_path: Path, checkpoint: Checkpoint) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(str(file))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"last\.pt must be a whole checkpoint, got one that cannot be read\.$"):
        Checkpoint.load(str(file))


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path, checkpoint: Checkpoint) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(str(file))
    whole = file.read_bytes()
    draws = random.Random(0)
    noticed = 0
    for _ in range(200):
        place = draws.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draws.randrange(8)]) + whole[place + 1 :])
        try:
            loaded = Checkpoint.load(str(file))
        except ValueError:
            noticed += 1
            continue
        # Padding between the archive's files, their times, and the like.
        assert all(torch.equal(loaded.weights[name], value) for name, value in checkpoint.weights.items())
    assert noticed > 150


def test_the_one_before_is_kept_until_the_next_is_whole(tmp_path: Path, checkpoint: Checkpoint) -> None:
    for epoch in (1, 2, 3):
        replace(checkpoint, epoch=epoch).save(str(tmp_path / "last.pt"), keep_previous=True)
    epochs = {file.name: Checkpoint.load(str(file)).epoch for file in tmp_path.iterdir()}
    assert epochs == {"last.pt": 3, "previous.pt": 2}


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "config": Path("/")}, buffer)
    file = tmp_path / "last.pt"
    file.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"must be a whole checkpoint, got one that cannot be read\.$"):
        Checkpoint.load(str(file))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([1], rf"must be a checkpoint of format {FORMAT}, got 'list'\.$"),
        *(
            ({"format": other}, rf"must be a checkpoint of format {FORMAT}, got {other}\.$")
            for other in (FORMAT + 1, FORMAT - 1, True, None)
        ),
        ({"format": FORMAT}, r"must hold a trial's configuration and weights, got 'config'\.$"),
        ({"format": FORMAT, "config": "{}"}, r"must hold a trial's configuration and weights, got "),
    ],
)
def test_other_contents_are_refused(held: object, message: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=message):
        Checkpoint.load(str(tmp_path / "last.pt"))
