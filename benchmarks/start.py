"""How long commands take that do next to nothing: what anybody waits for before each answer.

    python -m benchmarks.start [--repeats N] [--claims FILE]

Prints the median and the range of the seconds of each command from its start to its end, and its ratio to an empty
Python. The commands take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import claims
from benchmarks.analysis import make
from benchmarks.claims import Claim

ROOT = Path(__file__).resolve().parents[1]
RECORD = "run"
"""The run of 24 trials of 7 epochs in the folder where the commands run."""

COMMANDS = {
    "python": ["-c", "pass"],
    "sweep.run --help": ["-m", "sweep.run", "--help"],
    "sweep.run with a slip": ["-m", "sweep.run", "--epoks", "3"],
    "sweep.status of a run": ["-m", "sweep.status", RECORD],
    "analysis table of a small run": ["-m", "analysis", "table", RECORD],
    "import torch": ["-c", "import torch"],
    "import ray.tune, ray.train.torch": ["-c", "import ray.tune, ray.train.torch"],
    "a driver's imports": ["-c", "import sweep.session"],
}

EXPECTED = {
    "sweep.run --help": (0, "--learning-rates"),
    "sweep.run with a slip": (2, "--epochs"),
    "sweep.status of a run": (0, "strided-cnn-a"),
    "analysis table of a small run": (0, "strided-cnn-a"),
}
"""Exit status, and a word that is printed; of others 0."""


def main() -> None:
    """Measure every command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    claims.add_option(parser)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        make(f"{folder}/{RECORD}", None, trials=24, epochs=7)
        for _ in range(options.repeats):
            for name, words in COMMANDS.items():
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, *words],
                    capture_output=True,
                    cwd=folder,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                )
                found[name].append(time.perf_counter() - start)
                status, word = EXPECTED.get(name, (0, ""))
                assert done.returncode == status, f"{name}: {done.stderr.decode()}"
                assert word in (done.stdout + done.stderr).decode(), f"{name}: {done.stdout.decode()}"
    base = statistics.median(found["python"])
    print("| command | s | range | x empty Python |\n|---|---|---|---|")
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {middle:.2f} | {min(seconds):.2f} to {max(seconds):.2f} | {middle / base:.0f} |")
    small = "analysis table of a small run"
    claims.keep(
        options.claims,
        [
            *(
                Claim(name=f"{name}, start to end", values=found[name], unit="s", target=most, at_least=False)
                for name, most in (("sweep.run --help", 0.5), (small, 1.0))
            ),
            # What a command that imports it would take at least; a figure that does not go by the machine.
            *(
                Claim(
                    name=f"import torch over {name}",
                    values=[a / b for a, b in zip(found["import torch"], found[name], strict=True)],
                    unit="x",
                )
                for name in ("sweep.run --help", small)
            ),
        ],
    )


if __name__ == "__main__":
    main()
