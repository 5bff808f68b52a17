"""Runs the benchmarks of speed and writes what they claim into docs/results.md, or guards their ratios.

    python -m benchmarks.run [NAME ...]              with names, those alone
    python -m benchmarks.run --write                 all of them, an hour and a half on two cores
    python -m benchmarks.run --guard                 the cheap ones, two minutes: exit status 1 where a ratio is too low

Each benchmark is a process of its own, one after another, and nothing else should run beside them: the load at the
start is written down. `--write` replaces what stands in docs/results.md between the two marks. The guard compares
ratios of two things measured in turns on the same machine, never a time, with `GUARD`.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import torch

from benchmarks.claims import HEAD, Claim, read
from trainables.hardware import processor

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- what `python -m benchmarks.run --write` writes: begin -->", "<!-- end -->"
PACKAGES = ("torch", "torchvision", "ray", "optuna", "pyarrow", "pandas", "joblib", "syne-tune")


@final
@dataclass(frozen=True)
class Benchmark:
    """A module of this folder, and what it is given."""

    module: str
    options: str = ""

    @property
    def command(self) -> str:
        """As anyone may type it."""
        return f"python -m benchmarks.{self.module} {self.options}".strip()


EVERY = (
    Benchmark("step", "--repeats 5"),
    Benchmark("step_profile"),
    # Without `quick`, in which a trial of Ray's may never end: see docs/lab_log.md.
    Benchmark("overhead", "--trials 12 --repeats 3 --without quick"),
    Benchmark("overhead", "--trials 48 --ways ours guide function optuna"),
    Benchmark("overhead", "--trials 48 --ways ours --epochs 10 --images 4000 --share 90"),
    Benchmark("analysis", "--repeats 5"),
    Benchmark("record_cost"),
    Benchmark("start"),
    Benchmark("memory"),
    *((Benchmark("packed"),) if torch.cuda.is_available() else ()),
)

GUARD: dict[Benchmark, dict[str, float]] = {
    Benchmark("step", "--device cpu --variants all-cnn-c --images 512 --repeats 3"): {
        "all-cnn-c on the CPU: images/s over the plain loop's": 2.3,
        "all-cnn-c on the CPU: images/s over the tuned loop's": 0.85,
    },
    Benchmark("start", "--repeats 5"): {
        "import torch over sweep.run --help": 4.0,
        "import torch over analysis table of a small run": 2.6,
    },
    Benchmark("analysis", "100 --no-report"): {
        "table of 100 trials: by pandas from Tune's files, over ours": 1.5,
    },
    Benchmark("record_cost", "1000"): {
        "the record beside 1,000 trials that have ended: each change written at once over ours": 2.7,
    },
}
"""By the claim's name, the lowest ratio that the guard lets pass: three quarters of what was measured."""


def run(benchmark: Benchmark) -> tuple[str, list[Claim], float]:
    """Run one, printing as it goes; return what it printed, what it claims and its seconds."""
    print(f"\n$ {benchmark.command}", flush=True)
    started, said = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims"
        words = [sys.executable, "-u", "-m", f"benchmarks.{benchmark.module}", *benchmark.options.split()]
        process = subprocess.Popen([*words, "--claims", str(file)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
        if process.wait():
            raise SystemExit(f"{benchmark.command} must end with 0, ended with {process.returncode}.")
        return "".join(said), read(file), time.perf_counter() - started


def machine() -> str:
    """Return this machine and what is installed, in a sentence or two."""
    installed = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.strip()
    return f"{processor()}{gpu}; Python {platform.python_version()}, {versions}; commit {commit or 'unknown'}."


def section(parts: list[tuple[Benchmark, str, list[Claim], float]], head: str) -> str:
    """Return the part of docs/results.md: all claims first, then what each benchmark printed."""
    lines = [BEGIN, "", head, "", HEAD]
    lines += [claim.line() for _, _, found, _ in parts for claim in found]
    for benchmark, said, _, seconds in parts:
        # The claims at its end stand above already.
        table = said.split(HEAD)[0].strip()
        lines += ["", f"`{benchmark.command}`, {seconds:,.0f} s:", "", table]
    return "\n".join([*lines, "", END])


def guard(found: list[Claim], floors: Mapping[str, float]) -> list[str]:
    """Return a sentence for each ratio that is too low, or that the benchmark does not give."""
    values = {claim.name: claim.value for claim in found}
    wrong = [f"'{name}' must be claimed, and is not: see GUARD." for name in floors if name not in values]
    return wrong + [
        f"{name} must be at least {floor:g} x, got {values[name]:.2f}."
        for name, floor in floors.items()
        if name in values and not values[name] >= floor
    ]


def guarded() -> list[str]:
    """Run the cheap ones, and return a sentence for each ratio that is too low twice in a row."""
    wrong: list[str] = []
    for benchmark, floors in GUARD.items():
        found = run(benchmark)[1]
        low = {name: floor for name, floor in floors.items() if guard(found, {name: floor})}
        if low:
            # Once may be somebody else who used the machine.
            wrong += guard(run(benchmark)[1], low)
    return wrong


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *sorted({each.module for each in EVERY})])
    parser.add_argument("--write", action="store_true", help="replace the figures in docs/results.md")
    parser.add_argument("--guard", action="store_true", help="run the cheap ones and compare ratios")
    options = parser.parse_args()
    if options.write and (options.names or options.guard):
        parser.error("--write must stand alone: what is written are the figures of all benchmarks from one run.")
    head = f"{datetime.now(UTC):%Y-%m-%d}, load {os.getloadavg()[0]:.2f} at the start: {machine()}"
    if options.guard:
        wrong = guarded()
        print("\n" + ("\n".join(wrong) or f"All {sum(map(len, GUARD.values()))} ratios are as they should be."))
        return 1 if wrong else 0
    chosen = [each for each in EVERY if not options.names or each.module in options.names]
    parts, failed = [], []
    for each in chosen:
        try:
            parts.append((each, *run(each)))
        except SystemExit as error:
            # What the others found would be lost, an hour of it.
            failed.append(str(error))
    text = section(parts, head)
    print(f"\n{text}")
    if options.write:
        before, rest = RESULTS.read_text(encoding="utf-8").split(BEGIN)
        RESULTS.write_text(before + text + rest.split(END, 1)[1], encoding="utf-8")
    print(*failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
