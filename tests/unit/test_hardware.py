import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainables.config import ArchitectureConfig, TrialConfig
from trainables.hardware import (
    COMPILED_FROM_STEPS,
    Arithmetic,
    can_compile,
    choose_arithmetic,
    clearly_fastest,
    is_to_be_compiled,
)

CPU = torch.device("cpu")


def trial(width: float = 0.05, **values: Any) -> TrialConfig:
    architecture = ArchitectureConfig(width=width)
    return TrialConfig(dataset="shapes", variant="all-cnn-c", lr=0.1, architecture=architecture, **values)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_what_is_asked_for_is_taken_unmeasured(own_cache: Path, precision: Any, layout: Any) -> None:
    chosen = choose_arithmetic(trial(precision=precision, memory_format=layout), CPU)
    assert chosen == Arithmetic(precision, layout)
    assert not own_cache.exists()


def test_auto_is_measured_once_and_remembered(own_cache: Path) -> None:
    config = trial(precision="float32")
    chosen = choose_arithmetic(config, CPU)
    (file,) = own_cache.glob("arithmetic-*.json")
    kept = json.loads(file.read_text())
    assert kept["chosen"] == [chosen.precision, chosen.memory_format]
    assert set(kept["seconds"]) == {"float32 contiguous", "float32 channels_last"}
    assert all(seconds > 0 for seconds in kept["seconds"].values())
    # A second call answers what the file says, whatever it says.
    other = "channels_last" if chosen.memory_format == "contiguous" else "contiguous"
    file.write_text(json.dumps(kept | {"chosen": ["float32", other]}))
    assert choose_arithmetic(config, CPU) == Arithmetic("float32", other)
    assert len(list(own_cache.glob("arithmetic-*.json"))) == 1


def test_another_width_is_measured_anew(own_cache: Path) -> None:
    for width in (0.05, 0.06):
        choose_arithmetic(trial(width, precision="float32"), CPU)
    assert len(list(own_cache.glob("arithmetic-*.json"))) == 2


def test_measuring_draws_none_of_the_trial_s_random_numbers(own_cache: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    choose_arithmetic(trial(precision="float32"), CPU)
    assert torch.equal(torch.random.get_rng_state(), before)


FLOAT32, FLOAT32_LAST = Arithmetic("float32", "contiguous"), Arithmetic("float32", "channels_last")
BFLOAT16, BFLOAT16_LAST = Arithmetic("bfloat16", "contiguous"), Arithmetic("bfloat16", "channels_last")


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({FLOAT32: 1.0, FLOAT32_LAST: 0.7}, FLOAT32_LAST),
        ({FLOAT32: 1.0, FLOAT32_LAST: 1.05}, FLOAT32_LAST),
        ({FLOAT32: 1.0, FLOAT32_LAST: 1.2}, FLOAT32),
        ({FLOAT32: 1.0, FLOAT32_LAST: 0.9, BFLOAT16: 0.52, BFLOAT16_LAST: 0.54}, BFLOAT16_LAST),
        ({FLOAT32: 1.0, FLOAT32_LAST: 0.9, BFLOAT16: 0.5, BFLOAT16_LAST: 0.6}, BFLOAT16),
        ({FLOAT32: 1.0, FLOAT32_LAST: 0.9, BFLOAT16: 0.85, BFLOAT16_LAST: 1.5}, FLOAT32_LAST),
        ({FLOAT32: 1.0, BFLOAT16: 0.5}, BFLOAT16),
        ({BFLOAT16: 1.0, BFLOAT16_LAST: 0.8}, BFLOAT16_LAST),
    ],
)
def test_noise_chooses_no_arithmetic(seconds: dict[Arithmetic, float], chosen: Arithmetic) -> None:
    assert clearly_fastest(seconds) == chosen


def test_an_arithmetic_lays_out_weights_and_sets_the_number_format() -> None:
    model = nn.Conv2d(4, 6, 3)
    placed = Arithmetic("bfloat16", "channels_last").place(model, CPU)
    assert placed.weight.is_contiguous(memory_format=torch.channels_last)
    assert placed.weight.dtype == torch.float32
    images = torch.zeros(1, 4, 8, 8)
    with Arithmetic("bfloat16", "channels_last").autocast(CPU):
        assert placed(images).dtype == torch.bfloat16
    with Arithmetic("float32", "contiguous").autocast(CPU):
        assert placed(images).dtype == torch.float32


GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("compiled", "device", "steps", "workers", "has_compiler", "expected"),
    [
        ("auto", GPU, COMPILED_FROM_STEPS, 1, True, True),
        ("auto", GPU, COMPILED_FROM_STEPS - 1, 1, True, False),
        ("auto", GPU, COMPILED_FROM_STEPS, 1, False, False),
        ("auto", GPU, COMPILED_FROM_STEPS, 2, True, False),
        ("auto", CPU, COMPILED_FROM_STEPS, 1, True, False),
        ("yes", CPU, 1, 1, True, True),
        ("yes", GPU, 1, 1, True, True),
        ("yes", GPU, 1, 2, True, False),
        ("yes", GPU, 1, 2, False, False),
        ("no", GPU, COMPILED_FROM_STEPS, 1, True, False),
    ],
)
def test_what_is_compiled(
    compiled: Any, device: torch.device, steps: int, workers: int, has_compiler: bool, expected: bool
) -> None:
    config = trial(compiled=compiled, epochs=1, drops=())
    found = is_to_be_compiled(config, device, steps_per_epoch=steps, workers=workers, has_compiler=has_compiler)
    assert found is expected


def test_a_search_on_nine_tenths_of_the_images_is_compiled_as_its_confirmation_is() -> None:
    def decided(steps_per_epoch: int, held_out: float) -> bool:
        config = trial(compiled="auto", epochs=350, held_out=held_out)
        return is_to_be_compiled(config, GPU, steps_per_epoch=steps_per_epoch, workers=1, has_compiler=True)

    # 350 epochs of 229 steps are 80,150; of 206, 72,100.
    assert decided(229, 0.0)
    assert decided(206, 0.1)
    assert not decided(206, 0.0)


def test_insisting_on_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    assert not can_compile(CPU)
    assert not can_compile(GPU)
    with pytest.raises(ValueError, match=r"^compiled must be auto or no .*, got 'yes' on .*; install gcc and g\+\+"):
        choose_arithmetic(trial(compiled="yes", precision="float32", memory_format="contiguous"), CPU)
    compiler = tmp_path / "g++"
    compiler.touch(mode=0o755)
    assert can_compile(CPU)
    assert not can_compile(GPU), "which needs a C compiler"
    assert choose_arithmetic(trial(compiled="yes", precision="float32", memory_format="contiguous"), CPU).compiled
