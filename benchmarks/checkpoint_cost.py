"""What keeping a trial after each epoch costs, and averaging its weights: ALL-CNN-C at full width on this machine.

    python -m benchmarks.checkpoint_cost [FOLDER]

Prints the time of one checkpoint, of finding and reading it again, and of a step of the average, beside a training
step's; medians of `REPEATS`, interleaved.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from trainables.architectures import build
from trainables.checkpoint import Checkpoint, find_start
from trainables.config import TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.ema import WeightAverage
from trainables.epoch_report import EpochReport
from trainables.hardware import choose_arithmetic
from trainables.state import TrainingState, generators, optimiser_state

REPEATS = 15
CONFIG = TrialConfig(dataset="noise", variant="all-cnn-c", lr=0.05, averaged_at=(100,))
CPU = torch.device("cpu")
STEPS = 391
"""Of an epoch of all of CIFAR-10 in batches of 128."""


def measure(folder: Path) -> dict[str, float]:
    """Return median seconds by what was done."""
    torch.set_num_threads(1)
    arithmetic = choose_arithmetic(CONFIG, CPU)
    model = arithmetic.place(build(CONFIG.variant, CONFIG.architecture, 10), CPU)
    optimiser = torch.optim.SGD(model.parameters(), lr=CONFIG.lr, momentum=CONFIG.momentum)
    average = WeightAverage(model, STEPS)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
    noise = Prepared(
        name="noise",
        num_classes=10,
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    feed = MemoryFeed(noise, CONFIG, torch.Generator(), CPU)
    reports = tuple(_report(epoch) for epoch in range(1, 351))
    location = str(folder / "last.pt")

    def step() -> None:
        with arithmetic.autocast(CPU):
            logits = model(images.contiguous(memory_format=arithmetic.layout))
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        optimiser.step()

    def whole() -> None:
        state = TrainingState(
            reports=reports,
            unlearned_steps=0,
            optimiser=optimiser_state(optimiser),
            feed=feed.state(),
            generators=[generators(CPU)],
            average=average.state(),
        )
        Checkpoint.of(model, CONFIG, 10, 350, state).save(location)

    def again() -> None:
        assert find_start(location, CONFIG, 10) is not None

    ways: dict[str, Callable[[], None]] = {
        "training step": step,
        "step of the average": average.update,
        "checkpoint": whole,
        "reading it again": again,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _report(epoch: int) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        lr=0.05,
        train_loss=1.2345678,
        train_error=0.4567891,
        val_error=0.4567891,
        test_error=None,
        test_top5_error=None,
        averaged_error=None,
        error=0.4567891,
        train_images=45_000,
        val_images=5_000,
        test_images=0,
        epoch_s=234.56789,
        train_s=223.45678,
        state="running",
        num_parameters=1_369_738,
        precision="bfloat16",
        memory_format="channels_last",
        compiled=False,
        device="cpu",
        node="node",
    )


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        seconds = measure(Path(folder))
        size = (Path(folder) / "last.pt").stat().st_size / 2**20
    for name, value in seconds.items():
        print(f"{name:32} {1000 * value:9.2f} ms")
    epoch = STEPS * seconds["training step"]
    print(f"{'checkpoint / epoch':32} {seconds['checkpoint'] / epoch:9.5f} ({size:.1f} MiB)")
    print(f"{'average / training step':32} {seconds['step of the average'] / seconds['training step']:9.5f}")


if __name__ == "__main__":
    main()
