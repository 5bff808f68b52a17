"""Whatever bytes stand where a checkpoint should: it is a checkpoint, or a sentence says why it is none."""

import io
import json
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

from tests.fuzzing import altered, counted, damaged, examples, refused, seeds
from tests.trained import report, training
from trainables.checkpoint import FORMAT, Checkpoint, find_start
from trainables.common.registry import Registry
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.state import generators, optimiser_state

CONFIG = TrialConfig(dataset="shapes", variant="fuzz-net", lr=0.01, architecture=ArchitectureConfig(width=0.02))


@pytest.fixture(scope="module", autouse=True)
def _small_network() -> Iterator[None]:
    """Register a network of a few weights: what is fuzzed is the file around it."""
    from trainables.architectures import VARIANTS

    before = dict(VARIANTS._things)
    VARIANTS.register("fuzz-net")(lambda options, num_classes: nn.Linear(2, num_classes))
    yield
    VARIANTS._things = before
    assert isinstance(VARIANTS, Registry)


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], None]]:
    with counted("checkpoints") as count:
        yield count


@cache
def whole() -> bytes:
    """Return a checkpoint of a trial that has trained for one step."""
    torch.manual_seed(0)
    model = nn.Linear(2, 10)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    state = training(
        report(1),
        optimiser=optimiser_state(optimiser),
        feed={"draws": torch.get_rng_state()[:16]},
        generators=[{"cpu": generators(torch.device("cpu"))["cpu"][:16]}],
        average={"averages": [torch.zeros(2)], "steps": 1},
    )
    buffer = io.BytesIO()
    torch.save(
        {
            **{"format": FORMAT, "config": json.dumps(CONFIG.to_dict()), "num_classes": 10, "epoch": 1},
            **{"weights": model.state_dict(), "training": state.pack()},
        },
        buffer,
    )
    return buffer.getvalue()


def read(file: Path) -> None:
    """Read a checkpoint in both ways that there are; none but the second may be silent."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        find_start(str(file), CONFIG, 10)
    assert all("A trial goes back to what it had before. " in str(warning.message) for warning in said), said
    Checkpoint.load(str(file)).network()


def test_the_whole_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(whole())
    assert refused(lambda: read(tmp_path / "last.pt")) is None
    assert find_start(str(tmp_path / "last.pt"), CONFIG, 10) is not None


@examples(300, 0.5)
@given(seed=seeds())
def test_damaged_bytes(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    (fast / "last.pt").write_bytes(damaged(whole(), seed))
    refused(lambda: read(fast / "last.pt"))
    assert [file.name for file in fast.iterdir()] == ["last.pt"]


def rewritten(seed: int) -> bytes:
    """Return a checkpoint whose pickle is damaged, with checksums that fit it."""
    draws = random.Random(seed)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole())) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith("data.pkl") or draws.random() < 0.1:
                data = damaged(data, draws.randrange(2**40))
            if draws.random() > 0.02:
                target.writestr(entry.filename, data, zipfile.ZIP_DEFLATED if draws.random() < 0.02 else None)
    return out.getvalue()


@examples(300, 0.3)
@given(seed=seeds())
def test_a_damaged_pickle_with_good_checksums(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    (fast / "last.pt").write_bytes(rewritten(seed))
    refused(lambda: read(fast / "last.pt"))
    assert [file.name for file in fast.iterdir()] == ["last.pt"]


@cache
def contents() -> dict[str, Any]:
    held: dict[str, Any] = torch.load(io.BytesIO(whole()), weights_only=True)
    return held


@examples(300, 0.2)
@given(seed=seeds())
def test_other_contents(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    held = altered(contents(), random.Random(seed))
    if isinstance(held, dict) and isinstance(held.get("config"), str):
        draws = random.Random(seed + 1)
        if draws.random() < 0.5:
            config = altered(CONFIG.to_dict(), draws)
            held = held | {"config": json.dumps(config)}
    torch.save(held, fast / "last.pt")
    refused(lambda: read(fast / "last.pt"))


class Code:
    """Leaves a file behind when it is unpickled by what runs code."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._mark),)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_is_not_run(tmp_path: Path, form: str) -> None:
    mark, file = tmp_path / "run", tmp_path / "last.pt"
    code = {**contents(), "weights": Code(str(mark))}
    if form == "torch":
        torch.save(code, file)
    else:
        file.write_bytes(pickle.dumps(code))
    said = refused(lambda: read(file))
    assert said == f"{file} must be a whole checkpoint, got one that cannot be read."
    assert not mark.exists()


def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole())) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
        target.writestr("archive/data/99", bytes(2**26))
    (tmp_path / "last.pt").write_bytes(out.getvalue())
    assert "must be a whole checkpoint" in str(refused(lambda: read(tmp_path / "last.pt")))
