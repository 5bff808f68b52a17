"""Images per second of training, ours beside the loops that people write by hand.

    python -m benchmarks.step [--variants NAME ...] [--images N] [--batch N] [--repeats N] [--loops NAME ...]
                              [--device cpu|cuda] [--claims FILE]

Each loop trains the same network on the same generated images, mirrored and shifted, for one epoch that is not counted
and one that is; the loops take turns, `--repeats` times. Prints the median and the range of each, its ratio to the
first loop, its share of the rate at which this device multiplies large matrices in bfloat16, and its training loss in
that epoch; a loop that left images out, that came to another loss, or that learned nothing in 100 steps ends it.

    plain     DataLoader with two processes, torchvision's transforms image by image, torch's usual arithmetic
    tuned     the same with channels_last, pinned memory, a fused optimiser, and of several numbers of processes kept
              alive, with and without bfloat16, those that were fastest here
    unrecorded  trainables.loop.train, each step done kernel by kernel: for a GPU
    ours      trainables.loop.train, the arithmetic that it chooses, the network not compiled
    compiled  the same with the network compiled, within the recorded steps on a GPU
    resident  all images on the device, mirrored and shifted there, the network compiled with max-autotune, bfloat16, no
              DataLoader, as cifar10-airbench trains: for a GPU

On a GPU the defaults take about four minutes, an estimate. Each measurement is printed on stderr as it is made.
"""

import argparse
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

import trainables.step
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

SHIFT = 5
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 0.001
TRIED_STEPS = 4
"""Of two epochs, the second one counted, for each setting that `tuned` tries."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What is trained, and where."""

    data: Dataset
    variant: str
    batch: int
    device: torch.device

    def network(self) -> nn.Module:
        """Return it newly made, on its device, with torch's own dropout as people write it."""
        torch.manual_seed(0)
        network = build(self.variant, ArchitectureConfig(class_relu=False), self.data.num_classes)
        for name, module in list(network.named_children()):
            if isinstance(module, nn.Dropout):
                setattr(network, name, nn.Dropout(module.p))
        return network.to(self.device)

    def wait(self) -> None:
        """Return once the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


Epochs = tuple[float, float, int]
"""Seconds, mean training loss and images of the second epoch."""


class Pictures(TorchDataset[tuple[Any, int]]):
    """Images as torchvision's data sets hand them out."""

    def __init__(self, data: Dataset, transform: Callable[[Any], Any]) -> None:
        self._images = np.ascontiguousarray(data.train.images.transpose(0, 2, 3, 1))
        self._labels, self._transform = data.train.labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self._transform(Image.fromarray(self._images[number])), int(self._labels[number])


@cache
def best_loader(setting: Setting) -> tuple[int, bool]:
    """Return the number of processes, and whether with bfloat16, whose steps are fastest here."""
    cores = os.cpu_count() or 2
    choices = itertools.product(sorted({0, 1, cores // 2, cores}), (False, True))
    found = {choice: by_loader(setting, tuned=choice, steps=TRIED_STEPS)[0] for choice in choices}
    fastest = min(found, key=lambda choice: found[choice])
    print(f"tuned: {fastest[0]} processes, {'bfloat16' if fastest[1] else 'float32'}", flush=True)
    return fastest


def by_loader(setting: Setting, *, tuned: tuple[int, bool] | None, steps: int | None = None) -> Epochs:
    """Train with a DataLoader.

    Args:
        setting: what.
        tuned: the number of processes, and whether with bfloat16; None for the plain loop.
        steps: of each epoch; None for all.
    """
    mean, deviation = _statistics(setting.data)
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=SHIFT, fill=tuple(round(255 * value) for value in mean)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, deviation),
        ]
    )
    on_gpu = setting.device.type == "cuda"
    processes, bfloat16 = tuned or (2, False)
    loader = DataLoader(
        Pictures(setting.data, transform),
        batch_size=setting.batch,
        shuffle=True,
        num_workers=processes,
        pin_memory=bool(tuned) and on_gpu,
        persistent_workers=bool(tuned) and processes > 0,
        prefetch_factor=4 if tuned and processes else None,
    )
    model = setting.network()
    layout = torch.channels_last if tuned else torch.contiguous_format
    model = model.to(memory_format=layout)
    fused = True if tuned else None
    optimiser = torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=fused)
    for _ in range(2):
        setting.wait()
        start = time.perf_counter()
        # As mostly written, the plain loop asks for the loss at each step.
        total, images = torch.zeros((), device=setting.device), 0
        for pictures, classes in itertools.islice(loader, steps):
            pictures = pictures.to(setting.device, non_blocking=bool(tuned)).contiguous(memory_format=layout)
            labels = classes.to(setting.device, non_blocking=bool(tuned))
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=bfloat16):
                loss = functional.cross_entropy(model(pictures).float(), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(labels) if tuned else loss.item() * len(labels)
            images += len(labels)
        setting.wait()
        seconds = time.perf_counter() - start
    return seconds, float(total) / images, images


def resident(setting: Setting) -> Epochs:
    """Train on images that lie on the device, the network compiled: the kind of loop of cifar10-airbench."""
    mean, deviation = (torch.tensor(numbers, device=setting.device) for numbers in _statistics(setting.data))
    pixels = torch.from_numpy(setting.data.train.images).to(setting.device).float() / 255
    pixels = (pixels - mean[:, None, None]) / deviation[:, None, None]
    padded = functional.pad(pixels, [SHIFT] * 4).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(setting.data.train.labels).to(setting.device)
    model = setting.network().to(memory_format=torch.channels_last)
    compiled = torch.compile(model, mode="max-autotune")
    optimiser = torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    steps = len(labels) // setting.batch  # whole batches alone, as there
    for _ in range(2):
        setting.wait()
        start = time.perf_counter()
        order = torch.randperm(len(labels), device=setting.device)
        total = torch.zeros((), device=setting.device)
        for number in range(steps):
            chosen = order[number * setting.batch : (number + 1) * setting.batch]
            images, classes = _cut(padded[chosen]), labels[chosen]
            with torch.autocast(setting.device.type, torch.bfloat16):
                loss = functional.cross_entropy(compiled(images).float(), classes)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(classes)
        setting.wait()
        seconds = time.perf_counter() - start
    return seconds, float(total) / (steps * setting.batch), steps * setting.batch


def ours(setting: Setting, *, recorded: bool = True, compiled: bool = False) -> Epochs:
    """Train with this project's loop."""
    config = TrialConfig(
        dataset="shapes",
        variant=setting.variant,
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        batch_size=setting.batch,
        epochs=2,
        drops=(),
        evaluate_every=None,
        augmentation="flip-shift",
        preprocessing="standardise",
        architecture=ArchitectureConfig(class_relu=False),
        compiled="yes" if compiled else "no",
    )
    feed = MemoryFeed(prepare(setting.data, "standardise"), config, torch.Generator().manual_seed(0), setting.device)
    reports: list[Any] = []
    before, tf32 = trainables.step.can_be_recorded, torch.backends.cudnn.allow_tf32
    # The float32 that our records state; the peers have torch's usual one.
    torch.backends.cudnn.allow_tf32 = False
    if not recorded:
        trainables.step.can_be_recorded = lambda _model: False
    try:
        arithmetic = choose_arithmetic(config, setting.device)
        train(config, feed, reports.append, device=setting.device, arithmetic=arithmetic)
    finally:
        trainables.step.can_be_recorded = before
        torch.backends.cudnn.allow_tf32 = tf32
    last = reports[-1]
    assert last.compiled is compiled, "a batch is no larger than the data"
    return last.train_s, last.train_loss, last.train_images


@contextmanager
def generated(images: int) -> Iterator[Dataset]:
    """Give so many generated images, in a cache of their own, which holds the choice of arithmetic too."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SWEEP_CACHE"] = cache
        data = open_dataset("shapes", None, images)
        assert isinstance(data, Dataset), "shapes are held in memory"
        yield data


def measure(setting: Setting, names: list[str], repeats: int) -> list[Claim]:
    """Print the table of one network, and return what it claims."""
    loops: dict[str, Callable[[], Epochs]] = {
        "plain": lambda: by_loader(setting, tuned=None),
        "tuned": lambda: by_loader(setting, tuned=best_loader(setting)),
        "resident": lambda: resident(setting),
        "unrecorded": lambda: ours(setting, recorded=False),
        "ours": lambda: ours(setting),
        "compiled": lambda: ours(setting, compiled=True),
    }
    found: dict[str, list[Epochs]] = {name: [] for name in names}
    peaks = []
    for _ in range(repeats):
        peaks.append(matrix_rate(setting.device))
        for name in names:
            started = time.perf_counter()
            found[name].append(loops[name]())
            rate, took = found[name][-1][2] / found[name][-1][0], time.perf_counter() - started
            print(f"{setting.variant} {name}: {rate:,.0f} images/s, {took:.0f} s in all", file=sys.stderr, flush=True)
    peak, each = statistics.median(peaks), operations(setting.network(), setting.device)
    rates = {name: [images / seconds for seconds, _, images in epochs] for name, epochs in found.items()}
    base = statistics.median(rates[names[0]])
    print(
        f"\n{setting.variant}, batch {setting.batch}: {each / 1e9:.2f} GFLOP an image; "
        f"matrices at {peak / 1e12:.2f} TFLOP/s"
    )
    print(f"| loop | images/s | range | x {names[0]} | of the matrix rate | training loss |\n|---|---|---|---|---|---|")
    for name, each_rate in rates.items():
        rate = statistics.median(each_rate)
        loss = statistics.median(loss for _, loss, _ in found[name])
        print(
            f"| {name} | {rate:,.0f} | {min(each_rate):,.0f} to {max(each_rate):,.0f} | {rate / base:.2f} "
            f"| {rate * each / peak:.1%} | {loss:.3f} |",
            flush=True,
        )
    whole = len(setting.data.train) // setting.batch * setting.batch
    # In a few steps nothing is learned, but the loops must come to much the same.
    learned = math.log(setting.data.num_classes) if whole >= 100 * setting.batch else math.inf
    first = found[names[0]][0][1]
    for name, epochs in found.items():
        for _, loss, images in epochs:
            if not (whole <= images <= len(setting.data.train) and loss < learned and abs(loss - first) < 0.1 * first):
                raise SystemExit(
                    f"{name} must train on every image and learn as {names[0]} does, got {images} images and a loss of "
                    f"{loss} beside {first}."
                )
    return _claims(setting, rates, [each / top for top in peaks])


def _claims(setting: Setting, rates: dict[str, list[float]], shares: list[float]) -> list[Claim]:
    """Return the ratios of our loop; `shares` of the matrix rate, by one image a second, by repeat."""
    if "ours" not in rates:
        return []
    on_gpu = setting.device.type == "cuda"
    what = f"{setting.variant} on the {'GPU' if on_gpu else 'CPU'}: images/s over the"
    targets = {"plain": 5.0 if on_gpu else 2.6, "tuned": 1.05, "resident": 1.0}
    found = [
        Claim(
            name=f"{what} {peer} loop's",
            values=[a / b for a, b in zip(rates["ours"], rates[peer], strict=True)],
            unit="x",
            target=target,
        )
        for peer, target in targets.items()
        if peer in rates
    ]
    if "compiled" in rates:
        gains = [a / b for a, b in zip(rates["compiled"], rates["ours"], strict=True)]
        found.append(Claim(name=f"{what.split(':')[0]}: compiled over not compiled", values=gains, unit="x"))
    for loop in ("ours", "compiled"):
        if loop in rates:
            share = [100 * rate * one for rate, one in zip(rates[loop], shares, strict=True)]
            name = f"{what.split(':')[0]}{', compiled' * (loop == 'compiled')}: of the rate of large bfloat16 matrices"
            aim = 50.0 if on_gpu else 90.0 if loop == "ours" else None
            found.append(Claim(name=name, values=share, unit="%", target=aim))
    return found


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if has_gpu else "cpu")
    parser.add_argument("--variants", nargs="+", help="all-cnn-c for a GPU, otherwise all-cnn-c and model-c")
    parser.add_argument("--images", type=int, help="20,000 for a GPU, otherwise 1,536")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    loops = ["plain", "tuned", "unrecorded", "ours", "compiled", "resident"]
    parser.add_argument("--loops", nargs="+", choices=loops, help="all for a GPU, otherwise plain, tuned and ours")
    claims.add_option(parser)
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    options.images = options.images or (20_000 if on_gpu else 1_536)
    options.variants = options.variants or (["all-cnn-c"] if on_gpu else ["all-cnn-c", "model-c"])
    options.loops = options.loops or (loops if on_gpu else ["plain", "tuned", "ours"])
    name = torch.cuda.get_device_name(device) if on_gpu else processor()
    print(f"{name}, torch {torch.__version__}, {options.images:,} images")
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(os.cpu_count() or 1)
    found: list[Claim] = []
    with generated(options.images) as data:
        for variant in options.variants:
            found += measure(Setting(data, variant, options.batch, device), options.loops, options.repeats)
    claims.keep(options.claims, found)


def _statistics(data: Dataset) -> tuple[list[float], list[float]]:
    pixels = data.train.images[:10_000].transpose(1, 0, 2, 3).reshape(3, -1) / 255
    return pixels.mean(1).tolist(), pixels.std(1).tolist()


def _cut(padded: torch.Tensor) -> torch.Tensor:
    """Return each image mirrored or not, and cut at a place of its own."""
    count = len(padded)
    rows, columns = (torch.randint(0, 2 * SHIFT + 1, (count, 1), device=padded.device) for _ in range(2))
    flips = torch.rand(count, 1, device=padded.device) < 0.5
    pixels = torch.arange(32, device=padded.device)
    across = torch.where(flips, pixels.flip(0), pixels) + columns
    of_image = torch.arange(count, device=padded.device)[:, None, None]
    cut = padded[of_image, :, (pixels + rows)[:, :, None], across[:, None, :]]
    return cut.permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
