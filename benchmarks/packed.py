"""How fast several trials train that share one device, beside one after another: the learning rates of one variant.

    python -m benchmarks.packed [--variant NAME] [--width F] [--images N] [--epochs N] [--together 1 2 4]
                                [--claims FILE]

Each trial is a process of its own, as a trial of a run is with `--gpus-per-trial 0.25`. They begin their second epoch
together; from then on images are counted until the last of them ends. Prints images per second of all of them, and the
ratio to one alone.
"""

import argparse
import os
import tempfile
import time
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
import torch.multiprocessing as processes

from benchmarks import claims
from benchmarks.claims import Claim
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import open_dataset, prepare
from trainables.data.source import Dataset
from trainables.feed import MemoryFeed
from trainables.hardware import choose_arithmetic
from trainables.loop import train

LEARNING_RATES = (0.25, 0.1, 0.05, 0.01)
"""The paper's."""


def trial(number: int, options: argparse.Namespace, ready: Barrier, times: Any) -> None:
    """Train in this process; write down when the second epoch began and when the last one ended."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.at_once))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = open_dataset("shapes", None, options.images)
    assert isinstance(data, Dataset), "shapes are held in memory"
    config = TrialConfig(
        dataset="shapes",
        variant=options.variant,
        lr=LEARNING_RATES[number % len(LEARNING_RATES)] / 100,  # low enough for every network and width to go on
        epochs=1 + options.epochs,
        drops=(),
        evaluate_every=None,
        augmentation="flip-shift",
        preprocessing="standardise",
        architecture=ArchitectureConfig(width=options.width, class_relu=False),
    )
    feed = MemoryFeed(prepare(data, "standardise"), config, torch.Generator().manual_seed(number), device)
    began = 0.0

    def report(epoch: Any) -> None:
        nonlocal began
        if epoch.epoch == 1:
            ready.wait()
            began = time.monotonic()
        elif epoch.state != "running":
            assert epoch.epoch == config.epochs, "a trial that diverges trains less"
            times.put((began, time.monotonic()))

    train(config, feed, report, device=device, arithmetic=choose_arithmetic(config, device))


def throughput(options: argparse.Namespace) -> float:
    """Return the images per second of all trials that train at once."""
    start = processes.get_context("spawn")
    ready, times = start.Barrier(options.at_once), start.Queue()
    workers = [start.Process(target=trial, args=(n, options, ready, times)) for n in range(options.at_once)]
    for worker in workers:
        worker.start()
    found = [times.get() for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(end for _, end in found) - min(begin for begin, _ in found)
    return float(options.at_once * options.epochs * options.images / seconds)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="all-cnn-c")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=20_000 if torch.cuda.is_available() else 300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4])
    claims.add_option(parser)
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{options.variant}, width {options.width:g}, on one {name}, {os.cpu_count()} cores")
    print("| trials at once | images/s of all | ratio |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SWEEP_CACHE"] = cache
        base, found = None, []
        for together in options.together:
            options.at_once = together
            rate = throughput(options)
            base = base or rate
            print(f"| {together} | {rate:,.0f} | {rate / base:.2f} |", flush=True)
            if together > 1:
                what = f"{together} trials of {options.variant} at once on one {name}: images/s over one alone's"
                found.append(Claim(name=what, values=[rate / base], unit="x"))
    claims.keep(options.claims, found)


if __name__ == "__main__":
    main()
