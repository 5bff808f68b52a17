"""Does memory stay flat as a streamed set grows? `python benchmarks/stream_memory.py [SMALL LARGE]`.

Writes two generated sets of JPEG files in class folders, 2,000 and 20,000 images by default, streams one pass over
each, in a process and a Ray of its own, and prints the images per second and two peaks for each: the resident memory of
the process that trains, and the memory of all of Ray's processes together, each shared page counted once. Linux only.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from PIL import Image

from sweep.cluster.connect import connect
from trainables.config import TrialConfig
from trainables.data import StreamedDataset, open_dataset
from trainables.data.shapes import make_shapes
from trainables.data.stream import StreamFeed

BATCH, LOOK_EVERY = 64, 10
"""Images a step, and steps between two looks at the memory."""


def write_set(folder: Path, train: int, val: int = 20) -> None:
    """Write a generated set; its pixels are blown up shapes of 260 to 400 px."""
    for split, count in (("train", train), ("val", val)):
        made, draws = make_shapes(split, min(count, 1000), 1), torch.Generator().manual_seed(0)
        for number in range(count):
            pixels = made.images[number % len(made.images)].transpose(1, 2, 0)
            width, height = torch.randint(260, 400, (2,), generator=draws).tolist()
            file = folder / "imagenet" / split / f"class-{number % 10}" / f"{number:06d}.jpeg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((width, height)).save(file, quality=80)


def together() -> float:
    """Return the memory of this process and all below it in MiB, shared pages divided among those that share them."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total / 2**20


def stream(folder: str) -> None:
    """Take one pass over the set and print what it needed."""
    with connect(None):
        data = open_dataset("imagenet", folder)
        assert isinstance(data, StreamedDataset)
        config = TrialConfig(
            dataset="imagenet",
            variant="imagenet-all-cnn-b",
            lr=0.01,
            augmentation="crop-flip",
            preprocessing="standardise",
            batch_size=BATCH,
        )
        feed = StreamFeed(data, config, 0, torch.device("cpu"))
        own, whole, images, start = 0.0, 0.0, 0, time.perf_counter()
        for step, batch in enumerate(feed.train_batches()):
            images += len(batch.labels)
            if step % LOOK_EVERY == 0:
                own, whole = max(own, psutil.Process().memory_info().rss / 2**20), max(whole, together())
        seconds = time.perf_counter() - start
    assert images == len(data.train), "each image once"
    print(images, images / seconds, own, whole)


def main(sizes: list[int]) -> None:
    """Stream a set of each size and print the peaks and their ratios."""
    peaks = []
    print("images   images/s   training process, MiB   all processes, MiB")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_set(Path(folder), size)
            done = subprocess.run(
                [sys.executable, __file__, "--stream", folder],
                capture_output=True,
                text=True,
                env=os.environ | {"RAY_DATA_DISABLE_PROGRESS_BARS": "1"},
            )
        if done.returncode:
            sys.exit(done.stderr)
        images, rate, own, whole = map(float, done.stdout.splitlines()[-1].split())
        print(f"{images:6,.0f}   {rate:8.0f}   {own:21,.0f}   {whole:18,.0f}", flush=True)
        peaks.append((own, whole))
    (small, small_whole), (large, large_whole) = peaks
    print(f" ratio              {large / small:21.3f}   {large_whole / small_whole:18.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stream"]:
        stream(sys.argv[2])
    else:
        main([int(size) for size in sys.argv[1:]] or [2000, 20000])
