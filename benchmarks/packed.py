"""How fast several trials train that share one device: the learning rates of one variant.

    python -m benchmarks.packed [--variant NAME] [--width F] [--images N] [--batch N] [--epochs N] [--together 1 2 4 8]
                                [--device cpu|cuda] [--claims FILE]

Each trial is a process of its own, as a trial of a run is with `--gpus-per-trial 0.25`. They begin their second epoch
together; from then on images are counted until the last of them ends. Every number of trials is measured with the
network as it is and compiled, and all of that without NVIDIA's Multi-Process Service (MPS) and with it, where
`nvidia-cuda-mps-control` is on this machine: it is started with folders of its own, and stopped. Processes serve one
measurement after another, so while fewer trials run, the other ones wait with the device's memory that they have.

Prints each line as it is measured: images per second summed over the trials, the ratio to the first line, and the
share of the rate at which this device multiplies large matrices in bfloat16. On a GPU the defaults take about four
minutes, an estimate.
"""

import argparse
import os
import queue
import shutil
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.multiprocessing as processes

from benchmarks import claims
from benchmarks.claims import Claim
from benchmarks.rates import matrix_rate, operations
from trainables.architectures import build
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import open_dataset, prepare
from trainables.data.batches import MemoryFeed
from trainables.data.source import Dataset
from trainables.hardware import choose_arithmetic, processor
from trainables.loop import train

LEARNING_RATES = (0.25, 0.1, 0.05, 0.01)
"""The paper's."""

AIM = 150_000
"""Images per second of ALL-CNN-C at width 1, summed over the trials that share one GPU."""

PATIENCE_S = 300
"""What a trial waits for the others at most: longer than a first compilation with every core in use."""

MPS = "nvidia-cuda-mps-control"


@dataclass(frozen=True)
class Round:
    """One measurement."""

    together: int
    compiled: Literal["yes", "no"]


@dataclass(frozen=True)
class Device:
    """What is shared."""

    name: str
    matrix_rate: float
    operations: float
    """Of training on one image."""


def configuration(options: argparse.Namespace, number: int, compiled: Literal["yes", "no"]) -> TrialConfig:
    """Return a trial of one epoch that is not counted and `--epochs` that are."""
    return TrialConfig(
        dataset="shapes",
        variant=options.variant,
        lr=LEARNING_RATES[number % len(LEARNING_RATES)] / 100,  # low enough for every network and width to go on
        batch_size=options.batch,
        epochs=1 + options.epochs,
        drops=(),
        evaluate_every=None,
        augmentation="flip-shift",
        preprocessing="standardise",
        architecture=ArchitectureConfig(width=options.width, class_relu=False),
        compiled=compiled,
    )


def trial(number: int, options: argparse.Namespace, turn: Round, ready: Any) -> tuple[float, float]:
    """Train in this process; return when the second epoch began and when the last one ended."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // turn.together))
    device = torch.device(options.device)
    data = open_dataset("shapes", None, options.images)
    assert isinstance(data, Dataset), "shapes are held in memory"
    config = configuration(options, number, turn.compiled)
    feed = MemoryFeed(prepare(data, "standardise"), config, torch.Generator().manual_seed(number), device)
    began = ended = 0.0

    def report(epoch: Any) -> None:
        nonlocal began, ended
        assert epoch.compiled == (turn.compiled == "yes"), "a batch is no larger than the data"
        if epoch.epoch == 1:
            ready.wait(PATIENCE_S)
            began = time.monotonic()
        elif epoch.state != "running":
            assert epoch.epoch == config.epochs, "a trial that diverges trains less"
            ended = time.monotonic()

    train(config, feed, report, device=device, arithmetic=choose_arithmetic(config, device))
    return began, ended


def serve(number: int, options: argparse.Namespace, turns: Any, ready: dict[int, Any], found: Any) -> None:
    """Train a trial for each turn that comes, until None does."""
    while (turn := turns.get()) is not None:
        tell(found, trial, number, options, turn, ready[turn.together])


def tell(found: Any, work: Callable[..., Any], *arguments: Any) -> None:
    """Put on a queue what a function returns, or, as text, the error that it raises."""
    try:
        found.put(work(*arguments))
    except Exception:
        found.put(traceback.format_exc())


def describe(options: argparse.Namespace) -> Device:
    """Measure the device, in a process of its own; the choice of arithmetic is then in the cache for all others."""
    device = torch.device(options.device)
    config = configuration(options, 0, "no")
    choose_arithmetic(config, device)
    network = build(options.variant, config.architecture, 10).to(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return Device(name, matrix_rate(device), operations(network, device))


def images_per_second(options: argparse.Namespace, turns: list[Round]) -> Iterator[tuple[Round, float]]:
    """Return each turn with the images per second of its trials together.

    Raises:
        RuntimeError: a trial failed or none answered; the processes are ended.
    """
    start = processes.get_context("spawn")
    found, ready = start.Queue(), {together: start.Barrier(together) for together in options.together}
    orders = [start.Queue() for _ in range(max(options.together))]
    workers = [
        start.Process(target=serve, args=(number, options, order, ready, found)) for number, order in enumerate(orders)
    ]
    for worker in workers:
        worker.start()
    try:
        for turn in turns:
            for order in orders[: turn.together]:
                order.put(turn)
            times = [_answer(found, workers) for _ in range(turn.together)]
            seconds = max(end for _, end in times) - min(begin for begin, _ in times)
            yield turn, turn.together * options.epochs * options.images / seconds
        for order in orders:
            order.put(None)
        for worker in workers:
            worker.join(PATIENCE_S)
    finally:
        for worker in workers:
            worker.kill()


def _answer(found: Any, workers: list[Any]) -> Any:
    while True:
        try:
            answer = found.get(timeout=5)
        except queue.Empty:
            codes = [worker.exitcode for worker in workers if worker.exitcode]
            if codes:
                raise RuntimeError(f"a process ended with {codes[0]}") from None
            continue
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


@contextmanager
def multi_process_service() -> Iterator[None]:
    """Let processes that start in this context share the GPU through an MPS server of their own.

    Raises:
        RuntimeError: it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"CUDA_MPS_PIPE_DIRECTORY": f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for path in own.values():
            os.mkdir(path)  # noqa: PTH102
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            started = subprocess.run([MPS, "-d"], capture_output=True, text=True, timeout=60)
            if started.returncode:
                raise RuntimeError(f"{MPS} -d: {started.stdout}{started.stderr}")
            yield
        finally:
            subprocess.run([MPS], input="quit -t 10\n", capture_output=True, text=True, timeout=60)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def servers() -> str:
    """Return the process ids of the MPS servers at work, empty where no process has come to one."""
    asked = subprocess.run([MPS], input="get_server_list\n", capture_output=True, text=True, timeout=60)
    return " ".join(asked.stdout.split())


def measure(options: argparse.Namespace, device: Device) -> list[tuple[bool, Round, float]]:
    """Print the table, and return its lines: whether through MPS, what was measured, images per second."""
    turns = [Round(together, compiled) for compiled in options.compiled for together in options.together]
    print("| MPS | network | trials together | images/s | x first | of the matrix rate |\n|---|---|---|---|---|---|")
    lines: list[tuple[bool, Round, float]] = []

    def add(through_mps: bool) -> None:
        for turn, rate in images_per_second(options, turns):
            lines.append((through_mps, turn, rate))
            service = f"server {servers() or 'none'}" if through_mps else "no"
            network = "compiled" if turn.compiled == "yes" else "as it is"
            share = rate * device.operations / device.matrix_rate
            print(
                f"| {service} | {network} | {turn.together} | {rate:,.0f} | {rate / lines[0][2]:.2f} | {share:.1%} |",
                flush=True,
            )

    add(through_mps=False)
    if options.device != "cuda" or shutil.which(MPS) is None:
        print(f"\nWithout MPS alone: {MPS} is not on this machine, or the device is no GPU.", flush=True)
        return lines
    try:
        with multi_process_service():
            add(through_mps=True)
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"\nMeasuring with MPS failed: {error}", flush=True)
    return lines


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if has_gpu else "cpu")
    parser.add_argument("--variant", default="all-cnn-c")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=20_000 if has_gpu else 300)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4, 8] if has_gpu else [1, 2])
    parser.add_argument("--compiled", choices=["no", "yes"], nargs="+", default=["no", "yes"])
    claims.add_option(parser)
    options = parser.parse_args()
    if options.images < options.batch:
        raise SystemExit(f"--images must be at least --batch, {options.batch}, got {options.images}.")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SWEEP_CACHE"] = cache
        start = processes.get_context("spawn")
        found = start.Queue()
        describing = start.Process(target=tell, args=(found, describe, options))
        describing.start()
        device: Device = _answer(found, [describing])
        describing.join()
        print(
            f"{options.variant}, width {options.width:g}, batch {options.batch}, on one {device.name}, "
            f"{os.cpu_count()} cores; {device.operations / 1e9:.2f} GFLOP an image, matrices at "
            f"{device.matrix_rate / 1e12:.2f} TFLOP/s\n",
            flush=True,
        )
        lines = measure(options, device)
    claims.keep(options.claims, _claims(options, device, lines))


def _claims(options: argparse.Namespace, device: Device, lines: list[tuple[bool, Round, float]]) -> list[Claim]:
    def name(through_mps: bool, turn: Round) -> str:
        how = f"{', compiled' * (turn.compiled == 'yes')}{', MPS' * through_mps}"
        return f"{turn.together} of {options.variant} on one {device.name}{how}"

    first = lines[0][2]
    found = [Claim(name=f"{name(*line)}: images/s over one alone's", values=[rate / first], unit="x")
             for *line, rate in lines[1:]]  # fmt: skip
    if options.device == "cuda" and (options.variant, options.width) == ("all-cnn-c", 1.0):
        best = max(lines, key=lambda line: line[2])
        what = f"{name(*best[:2])}: the most images/s, over {AIM:,}"
        found.append(Claim(name=what, values=[best[2] / AIM], unit="x", target=1.0))
    return found


if __name__ == "__main__":
    main()
