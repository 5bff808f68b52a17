"""Which arithmetic is fastest on this machine, measured once and remembered, and whether compiling pays."""

import importlib.util
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import final

import filelock
import torch
from pyarrow.fs import LocalFileSystem
from torch import nn

from trainables.architectures import build
from trainables.common.files import write_whole
from trainables.config import TrialConfig
from trainables.data.cache import cache_folder, key_of, make_folder

CLEARLY_FASTER = 1.1
"""What must be gained before float32 or channels_last is given up: less is within the timings' noise, and a choice made
by noise would differ from one measurement to the next."""

COMPILED_FROM_STEPS = 80_000
"""Steps of a trial from which on compiling its network pays: it takes about 40 s in a process, and saves about 0.48 ms
of each step of ALL-CNN-C at batch size 128 on one NVIDIA H200."""

_VERSION = 3
"""Part of the cache's key: raise it when the measurement or the choice changes."""

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_PROBE_BATCH = 32
_PROBE_STEPS = 5


@final
@dataclass(frozen=True)
class Arithmetic:
    """Number format of the forward pass, memory layout of images and weights, and what the training steps run."""

    precision: str
    """`float32` or `bfloat16`; weights and their updates are float32 in both."""
    memory_format: str
    """`contiguous` or `channels_last`."""
    compiled: bool = False
    """Whether training steps run the network as torch.compile makes it."""

    @property
    def layout(self) -> torch.memory_format:
        """The layout as torch names it."""
        return _LAYOUTS[self.memory_format]

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model on its device, its weights in this layout."""
        return model.to(device).to(memory_format=self.layout)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which a forward pass runs."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


def choose_arithmetic(
    config: TrialConfig, device: torch.device, *, steps_per_epoch: int = 0, workers: int = 1
) -> Arithmetic:
    """Return what the configuration asks for, `auto` being what `clearly_fastest` makes of a measurement.

    The measurement is made once per machine, device, torch version, width and number of threads, and kept in the cache
    folder: so a second run computes with the same arithmetic as the first, bit for bit.

    Args:
        config: of the trial.
        device: where it trains.
        steps_per_epoch: of the trial; with 0 `auto` compiles nothing.
        workers: of the trial.

    Raises:
        ValueError: it is to be compiled where there is no compiler.
    """
    has_compiler = config.compiled != "no" and can_compile(device)
    compiled = is_to_be_compiled(
        config, device, steps_per_epoch=steps_per_epoch, workers=workers, has_compiler=has_compiler
    )
    return replace(_fastest(config, device), compiled=compiled)


def is_to_be_compiled(
    config: TrialConfig, device: torch.device, *, steps_per_epoch: int, workers: int, has_compiler: bool
) -> bool:
    """Return whether a trial's training steps run a compiled network.

    Raises:
        ValueError: the configuration insists on it where there is no compiler.
    """
    if config.compiled == "no" or workers > 1:
        return False
    if config.compiled == "yes" and not has_compiler:
        raise ValueError(
            f"compiled must be auto or no on a machine without the compiler that torch.compile needs, got 'yes' on "
            f"{platform.node()}; install gcc and g++ there, or leave out --set compiled=yes."
        )
    # Counted as without held-out images: the search and the confirmation of one study are then decided alike.
    steps = config.epochs * steps_per_epoch / (1 - config.held_out)
    pays = device.type == "cuda" and has_compiler and steps >= COMPILED_FROM_STEPS
    return config.compiled == "yes" or pays


def can_compile(device: torch.device) -> bool:
    """Return whether what torch.compile needs on a device is on this machine: a compiler, and Triton for a GPU."""
    if device.type != "cuda":
        return shutil.which(os.environ.get("CXX", "g++")) is not None
    named = os.environ.get("CC")
    compilers = [named] if named else ["gcc", "clang"]
    return any(map(shutil.which, compilers)) and importlib.util.find_spec("triton") is not None


def _fastest(config: TrialConfig, device: torch.device) -> Arithmetic:
    precisions = [config.precision] if config.precision != "auto" else _precisions(device)
    formats = [config.memory_format] if config.memory_format != "auto" else list(_LAYOUTS)
    candidates = [Arithmetic(*pair) for pair in product(precisions, formats)]
    if len(candidates) == 1:
        return candidates[0]
    key = {
        "version": _VERSION,
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "width": config.architecture.width,
        "candidates": [[c.precision, c.memory_format] for c in candidates],
    }
    file = cache_folder() / f"arithmetic-{key_of(key)}.json"
    make_folder(file.parent)
    with filelock.FileLock(file.with_suffix(".lock")):
        if not file.exists():
            seconds = _measure(candidates, config, device)
            chosen = clearly_fastest(seconds)
            measured = {f"{c.precision} {c.memory_format}": round(s, 4) for c, s in seconds.items()}
            kept = {"key": key, "seconds": measured, "chosen": [chosen.precision, chosen.memory_format]}
            write_whole(LocalFileSystem(), str(file), json.dumps(kept, indent=2).encode())
        return Arithmetic(*json.loads(file.read_text())["chosen"])


def clearly_fastest(seconds: Mapping[Arithmetic, float]) -> Arithmetic:
    """Return the choice between arithmetics by the seconds that each takes.

    bfloat16 must be clearly faster than float32, each in its better layout; then contiguous must be clearly faster
    than channels_last.
    """

    def in_best_layout(precision: str) -> float:
        return min((s for c, s in seconds.items() if c.precision == precision), default=math.inf)

    gains = in_best_layout("float32") > CLEARLY_FASTER * in_best_layout("bfloat16")
    of_layout = {c.memory_format: c for c in seconds if c.precision == ("bfloat16" if gains else "float32")}
    channels_last, contiguous = of_layout.get("channels_last"), of_layout.get("contiguous")
    if channels_last is None or contiguous is None:
        return next(iter(of_layout.values()))
    return contiguous if seconds[channels_last] > CLEARLY_FASTER * seconds[contiguous] else channels_last


def _precisions(device: torch.device) -> list[str]:
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags = Path("/proc/cpuinfo")
        words = flags.read_text().split() if flags.exists() else []
        has_bfloat16 = "avx512_bf16" in words or "amx_bf16" in words
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def _measure(candidates: Sequence[Arithmetic], config: TrialConfig, device: torch.device) -> dict[Arithmetic, float]:
    """Return the seconds of each candidate's fastest training step on noise.

    The candidates take turns, so that what else the machine does for a while slows all of them.
    """
    fastest = dict.fromkeys(candidates, math.inf)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        steps = [_probe(arithmetic, config, device) for arithmetic in candidates]
        for _ in range(_PROBE_STEPS):
            for arithmetic, step in zip(candidates, steps, strict=True):
                start = time.perf_counter()
                step()
                fastest[arithmetic] = min(fastest[arithmetic], time.perf_counter() - start)
    return fastest


def _probe(arithmetic: Arithmetic, config: TrialConfig, device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    model = arithmetic.place(build("all-cnn-c", config.architecture, 10), device)
    batch = 512 if device.type == "cuda" else _PROBE_BATCH
    images = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=arithmetic.layout)

    def step() -> None:
        with arithmetic.autocast(device):
            logits = model(images)
        torch.autograd.backward(logits.float().square().sum())
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    step()
    return step


def processor() -> str:
    """Return the name of this machine's processor, and how many cores it has."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
