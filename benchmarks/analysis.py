"""How long tables and reports of large records take, and how much memory, beside the same by hand from Tune's files.

    python -m benchmarks.analysis [TRIALS ...] [--epochs N] [--no-report] [--peer-up-to N] [--repeats N]
                                  [--claims FILE]

Records of 100, 1,000 and 10,000 trials of 350 epochs are made of drawn numbers, twelve variants under the protocol
`paper`. Each command is a process of its own, from its start to its end, and they take turns. The peers read each
trial's `result.json`, as Ray Tune writes it, one all of it with pandas, one its last line, and take each variant's
lowest error of a last epoch, as the table does; they must agree. The table reads and checks every epoch. Prints the
median and the range of the seconds, and the peak resident memory.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks import claims
from benchmarks.claims import Claim
from search_spaces import LogUniform, Space
from sweep.record.document import Code, Data, Execution, Hardware, PlacementOptions, RunDocument
from sweep.record.params import write_params
from sweep.record.schema import EpochRow, TrialRow
from sweep.record.store import Store
from sweep.study.catalog import cifar10

VARIANTS = [f"{prefix}-{base}" for base in "abc" for prefix in ("model", "strided-cnn", "convpool-cnn", "all-cnn")]
LARGE = 10_000
"""Trials for which there are limits."""
AT_ONCE = 200
"""Trials whose epochs are written as one part, as a driver that runs as many would."""

SCRIPT = """
import sys
from pathlib import Path
import pandas
frames = [pandas.read_json(path, lines=True) for path in sorted(Path(sys.argv[1]).glob("*/result.json"))]
every = pandas.concat(frames, ignore_index=True)
last = every.sort_values("training_iteration").groupby("trial_id").tail(1)
last = last.assign(variant=[config["variant"] for config in last["config"]])
print(last.groupby("variant")["error"].min().to_json())
"""
"""What a notebook does with Tune's folder."""

LAST_LINES = """
import json, sys
from pathlib import Path
import pandas
lasts = [json.loads(path.read_text().splitlines()[-1]) for path in sorted(Path(sys.argv[1]).glob("*/result.json"))]
frame = pandas.DataFrame([{"variant": last["config"]["variant"], "error": last["error"]} for last in lasts])
print(frame.groupby("variant")["error"].min().to_json())
"""
"""What one does who knows that it suffices for this table, and parses nothing else."""

PEERS = {"by pandas from Tune's files": SCRIPT, "from the last lines of Tune's files": LAST_LINES}

Measured = tuple[float, float]
"""Seconds and peak MiB."""


def make(location: str, tune: Path | None, trials: int, epochs: int) -> dict[str, float]:
    """Write a record, and beside it Tune's files of the same trials; return each variant's lowest last error."""
    draws, store = random.Random(0), Store(location)  # noqa: S311 - numbers to show, no secret
    store.write_run(_document(trials, epochs))
    rows: list[TrialRow] = []
    part: list[EpochRow] = []
    lowest = dict.fromkeys(VARIANTS, 1.0)
    for number in range(trials):
        variant, lr = VARIANTS[number % len(VARIANTS)], 10 ** draws.uniform(-3, 0)
        name = f"cifar10_none_{variant}_{number:05d}"
        errors = [0.1 + 0.8 / (1 + epoch * lr) + 0.02 * draws.random() for epoch in range(1, epochs + 1)]
        lowest[variant] = min(lowest[variant], errors[-1])
        rows.append(_trial(name, variant, lr, errors))
        part += [_epoch(name, epoch, lr, error) for epoch, error in enumerate(errors, start=1)]
        if (number + 1) % AT_ONCE == 0 or number + 1 == trials:
            store.append_epochs(part)
            part = []
        if tune is not None:
            folder = tune / name
            folder.mkdir(parents=True)
            with (folder / "result.json").open("w") as file:
                file.writelines(_of_tune(name, variant, lr, number, error) for number, error in enumerate(errors, 1))
    store.write_trials(rows)
    return lowest


def measured(command: list[str], output: Path) -> tuple[float, float]:
    """Run a command to its end and return its seconds and its peak resident memory in MiB."""
    start = time.perf_counter()
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {output.read_text()[-2000:]}")
    return seconds, usage.ru_maxrss / 1024  # Linux counts in KiB


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--epochs", type=int, default=350)
    parser.add_argument("--no-report", action="store_true", help="leave the report out")
    parser.add_argument("--peer-up-to", type=int, default=1_000, help="most trials for which Tune's files are made")
    parser.add_argument("--repeats", type=int, default=3)
    claims.add_option(parser)
    options = parser.parse_args()
    print("| trials | epochs' rows | what | s | range | peak MiB |\n|---|---|---|---|---|---|")
    every = {trials: measure(trials, options) for trials in options.trials}
    claims.keep(options.claims, [claim for trials, found in every.items() for claim in _claims(trials, found, every)])


def measure(trials: int, options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Make a record of so many trials, run each command as often as asked for, and print a row for each."""
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        tune = here / "tune" if trials <= options.peer_up_to else None
        # Not here: a process's peak of memory is at least what the one had that started it.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            lowest = pool.submit(make, str(here / "run"), tune, trials, options.epochs).result()
        commands = {"table": [sys.executable, "-m", "analysis", "table", str(here / "run"), "--format", "csv"]}
        if tune is not None:
            commands |= {name: [sys.executable, "-c", script, str(tune)] for name, script in PEERS.items()}
        if not options.no_report:
            commands["report"] = [sys.executable, "-m", "analysis", "report", str(here / "run")]
        for _ in range(options.repeats):
            for what, command in commands.items():
                found.setdefault(what, []).append(measured(command, here / "said"))
                check(what, (here / "said").read_text(), lowest)
    for what, each in found.items():
        seconds, memory = [s for s, _ in each], max(m for _, m in each)
        print(
            f"| {trials:,} | {trials * options.epochs:,} | {what} | {statistics.median(seconds):.2f} "
            f"| {min(seconds):.2f} to {max(seconds):.2f} | {memory:,.0f} |",
            flush=True,
        )
    return found


def check(what: str, said: str, lowest: dict[str, float]) -> None:
    """Raise AssertionError where a command did not say what it should."""
    if what == "report":
        page = Path(said.split()[-1]).read_text(encoding="utf-8")
        assert all(f"{100 * error:.2f}" in page for error in lowest.values()), lowest
        return
    errors = _lowest(said) if what == "table" else {name: 100 * error for name, error in json.loads(said).items()}
    assert all(abs(errors[name] - 100 * error) < 0.006 for name, error in lowest.items()), (errors, lowest)


def _claims(trials: int, found: dict[str, list[Measured]], every: dict[int, dict[str, list[Measured]]]) -> list[Claim]:
    """Return what one size claims; limits are those of 10,000 trials."""
    most_s, most_mib = {"table": 2.0, "report": 20.0}, 1e9 / 2**20
    made: list[Claim] = []
    for what in ("table", "report"):
        if what not in found:
            continue
        name, seconds = f"{what} of {trials:,} trials", [s for s, _ in found[what]]
        limit = most_s[what] if trials == LARGE else None
        made.append(Claim(name=f"{name}, start to end", values=seconds, unit="s", target=limit, at_least=False))
        if trials == LARGE:
            memory = [m for _, m in found[what]]
            made.append(Claim(name=f"{name}, peak memory", values=memory, unit="MiB", target=most_mib, at_least=False))
        if trials == max(every) and len(every) > 2:
            made += _growth(what, every)
    for peer in PEERS:
        if peer in found:
            ratios = [theirs / ours for (theirs, _), (ours, _) in zip(found[peer], found["table"], strict=True)]
            made.append(Claim(name=f"table of {trials:,} trials: {peer}, over ours", values=ratios, unit="x"))
    return made


def _growth(what: str, every: dict[int, dict[str, list[Measured]]]) -> list[Claim]:
    """Return how much more each further trial takes in large records than in small ones, if that can be told."""
    small, middle, large = sorted(every)[-3:]
    taken = {trials: [s for s, _ in every[trials][what]] for trials in (small, middle, large)}
    if min(taken[middle]) <= max(taken[small]):
        print(f"\nWhat {what} takes for {middle:,} trials is too near to its start to tell how it grows.")
        return []
    ratios = [
        (last - between) / (large - middle) / ((between - first) / (middle - small))
        for first, between, last in zip(taken[small], taken[middle], taken[large], strict=True)
    ]
    name = f"{what}: time of each trial from {middle:,} to {large:,}, over that from {small:,} to {middle:,}"
    return [Claim(name=name, values=ratios, unit="x", target=1.2, at_least=False)]


def _document(trials: int, epochs: int) -> RunDocument:
    study = replace(
        cifar10(),
        base=replace(cifar10().base, epochs=epochs),
        protocol="paper",
        search="random",
        trials_per_cell=max(1, trials // len(VARIANTS)),
        space=Space(lr=LogUniform(1e-3, 1)),
    )
    return RunDocument(
        study=study,
        planned_trials=trials,
        placement=PlacementOptions(workers_per_trial=None, gpus_per_trial=None, max_concurrent=None),
        workers=0,
        plugins=(),
        data={
            "cifar10": Data(
                checksum="0123abcd", train_images=50_000, test_images=10_000, num_classes=10, generated=True
            )
        },
        executions=(
            Execution(
                created="2026-01-02T03:04:05+00:00",
                command=("python", "-m", "benchmarks.analysis"),
                code=Code(commit="c0ffee", altered=False),
                packages={},
                hardware=Hardware(cpus=2, gpus=0, gpu=None, machine="x86_64", system="linux"),
            ),
        ),
    )


def _trial(name: str, variant: str, lr: float, errors: list[float]) -> TrialRow:
    return {
        "trial_id": name,
        "phase": "search",
        "dataset": "cifar10",
        "augmentation": "none",
        "variant": variant,
        "params": write_params({"lr": lr}),
        "lr": lr,
        "seed": 0,
        "num_parameters": 1_000_000,
        "state": "completed",
        "epochs_run": len(errors),
        "epochs_budget": len(errors),
        "val_error": None,
        "test_error": errors[-1],
        "test_top5_error": None,
        "dead_classes": None,
        "duration_s": 1_000.0,
        "train_s": 900.0,
        "images_per_s": 20_000.0,
        "node": "node",
        "device": "GPU",
        "precision": "bfloat16",
        "memory_format": "channels_last",
        "compiled": None,
        "reason": "",
        "fault": None,
        "isolated": False,
        "preemptions": 0,
        "retries": 0,
        "retry_reasons": "",
    }


def _epoch(name: str, epoch: int, lr: float, error: float) -> EpochRow:
    return {
        "trial_id": name,
        "epoch": epoch,
        "lr": lr,
        "train_loss": 2 * error,
        "train_error": 0.9 * error,
        "val_error": None,
        "test_error": error,
        "test_top5_error": None,
        "averaged_error": None,
        "dead_classes": None,
        "train_images": 50_000,
        "val_images": 0,
        "test_images": 10_000,
        "epoch_s": 2.5 + error,
        "train_s": 2.4 + error,
    }


def _of_tune(name: str, variant: str, lr: float, epoch: int, error: float) -> str:
    """Return a line as Ray Tune's JSON logger writes it."""
    return (
        json.dumps(
            {
                "error": error,
                "train_loss": 2 * error,
                "epoch": epoch,
                "timestamp": 1_700_000_000 + epoch,
                "checkpoint_dir_name": None,
                "done": False,
                "training_iteration": epoch,
                "trial_id": name,
                "date": "2026-01-02_03-04-05",
                "time_this_iter_s": 2.5,
                "time_total_s": 2.5 * epoch,
                "pid": 1234,
                "hostname": "node",
                "node_ip": "127.0.0.1",
                "config": {"variant": variant, "lr": lr, "weight_decay": 0.001, "batch_size": 128},
                "time_since_restore": 2.5 * epoch,
                "iterations_since_restore": epoch,
            }
        )
        + "\n"
    )


def _lowest(text: str) -> dict[str, float]:
    """Return the errors, in %, of a table in CSV."""
    lines = [line.split(",") for line in text.splitlines() if line.strip()]
    head = lines[0]
    error = next(place for place, name in enumerate(head) if "error" in name)
    return {line[head.index("variant")]: float(line[error]) for line in lines[1:] if line[0] in VARIANTS}


if __name__ == "__main__":
    main()
