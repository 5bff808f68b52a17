"""What memory trials take on one node beside the data set, which they share: one, two and more at once.

    python -m benchmarks.memory [--images N] [--together 1 2 4] [--claims FILE]

Real runs of `python -m sweep.run` on generated images, each number of trials once with few images and once with many,
on one node of a cluster that is started here and claims a processor for each trial, whether this machine has it or not.
The data lie in the cache already. Each trial's process is looked at twice a second (Linux's `smaps`, by psutil): what
it has for itself, and its share of what it maps together with others. Prints the highest sums, beside them what as many
processes would take that shared nothing, and how often the data are held: by what the sum grows from few images to
many.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import claims
from benchmarks.claims import Claim
from sweep.cluster.connect import ensure_token  # before Ray is loaded: it turns token authentication on

from benchmarks.scaling import free_port  # isort: skip
from ray.cluster_utils import Cluster as SimulatedCluster  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
IMAGE = 3 * 32 * 32 * 4
"""Bytes of a normalised image, float32."""
TEST_IMAGES = 2_000
FEW_IMAGES = 5_000


@contextmanager
def node(cpus: int, folder: Path) -> Iterator[str]:
    """Start a cluster of one node that claims so many processors, and give its address until the context ends."""
    os.environ |= {"PYTHONPATH": str(ROOT), "SWEEP_CACHE": str(folder / "cache")}
    ensure_token()
    cluster = SimulatedCluster(initialize_head=True, head_node_args={"num_cpus": cpus, "dashboard_port": free_port()})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def look() -> list[tuple[int, int, int]]:
    """Return the own, the shared-out and the resident bytes of each trial's process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name().startswith("ray::Implic"):
                memory = child.memory_full_info()
                found.append((memory.uss, memory.pss, memory.rss))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def measure(
    together: int, images: int, folder: Path, address: str, epochs: int = 1, looks: int = 3
) -> tuple[float, float, float]:
    """Return the MiB that a trial has for itself, that all have with what they share, and that all map.

    Args:
        together: trials.
        images: to train on.
        folder: for the record.
        address: of the cluster.
        epochs: of each trial.
        looks: how often all trials must have been seen at once at least.
    """
    rates = [str(0.001 * (1 + number)) for number in range(together)]
    command = [
        *(sys.executable, "-m", "sweep.run", "quickstart", "--variants", "all-cnn-c", "--learning-rates", *rates),
        *("--train-size", str(images), "--width", "0.05", "--epochs", str(epochs), "--batch-size", "512"),
        *("--protocol", "paper"),
        *("--output", str(folder), "--name", f"of-{together}-{looks}", "--max-concurrent", str(together)),
        *("--gpus-per-trial", "0", "--address", address),
    ]
    highest = (0.0, 0.0, 0.0)
    seen = 0
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    while process.poll() is None:
        found = look()
        if len(found) == together:
            seen += 1
            sums = (max(u for u, _, _ in found), sum(p for _, p, _ in found), sum(r for _, _, r in found))
            highest = tuple(max(a, b / MIB) for a, b in zip(highest, sums, strict=True))  # type: ignore[assignment]
        time.sleep(0.5)
    assert process.returncode == 0, (folder / "said").read_text()
    assert seen >= looks, f"{together} trials must be at work at once, which was seen {seen} times"
    return highest


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4])
    claims.add_option(parser)
    options = parser.parse_args()
    print("| trials at once | data, MiB | own, MiB each | all, what is shared counted once | did they share nothing |")
    print("|---|---|---|---|---|")
    found: list[Claim] = []
    for together in options.together:
        sums = []
        for images in (FEW_IMAGES, options.images):
            with tempfile.TemporaryDirectory() as folder, node(together, Path(folder)) as address:
                measure(1, images, Path(folder), address, looks=0)
                # As many steps with few images as with many: what a step takes for a while is seen as often.
                epochs = options.images // images
                own, shared, resident = measure(together, images, Path(folder), address, epochs)
            data = (images + TEST_IMAGES) * IMAGE / MIB
            print(f"| {together} | {data:,.0f} | {own:,.0f} | {shared:,.0f} | {resident:,.0f} |", flush=True)
            sums.append((data, shared))
        (few, less), (many, more) = sums
        times = (more - less) / (many - few)
        name = f"memory of {together} trials at once: times that the data are held"
        found.append(Claim(name=name, values=[times], unit="x", target=1.1, at_least=False))
    claims.keep(options.claims, found)


if __name__ == "__main__":
    main()
