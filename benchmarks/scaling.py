"""How a sweep scales with nodes and with trials, and what the driver needs for each trial and each report.

    python -m benchmarks.scaling [--nodes 1 2 4 8] [--trials 100 1000] [--profile FILE]

Each measurement is a whole run of the project's own machinery (search, early stopping, record, journal, Ray Tune) on a
cluster of nodes simulated on this machine by `ray.cluster_utils.Cluster`, in a process of its own: a head without
slots, as in cluster.yaml, and nodes of `--slots` slots each. Only the training is replaced, by `sleep_and_compute`: a
trial that always takes the same time. It mostly sleeps, so that more trials run at once than this machine has cores;
the rest of what it does competes with the driver for them, which on a real cluster it does not.

Prints ours (the seconds of the run from the first trial's start), the ideal (all slots busy from the first to the
last), and their ratio; how long the first trial took to start; the driver's CPU time per trial; and, with `--profile`,
where the driver's time goes, by cProfile, which itself takes some.
"""

import argparse
import cProfile
import json
import math
import os
import pstats
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray.tune
from ray.cluster_utils import Cluster as SimulatedCluster
from tabulate import tabulate

from search_spaces import LogUniform, Space
from sweep.cluster.connect import connect, ensure_token
from sweep.execution.listener import Listener
from sweep.execution.plan import Plan, check_study, place
from sweep.execution.tune import run_trials
from sweep.record.schema import TrialRow
from sweep.record.store import Store
from sweep.study.study import MAX_TRIALS, Study
from trainables.common.validation import one_line
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.epoch_report import EpochReport

VARIANTS = ("model-c", "strided-cnn-c", "convpool-cnn-c", "all-cnn-c")
STORE_BYTES = 80 * 2**20
"""Of each node's object store: Ray's least, for a trial puts nothing there."""

PARTS = {
    "record: trial starts": ("recorder.py", "on_trial_start"),
    "record: reports": ("recorder.py", "on_trial_result"),
    "record: trial ends": ("recorder.py", "on_trial_complete"),
    "all of these: writing rows and journal": ("recorder.py", "flush"),
    "all of these: journal, unwritten": ("optuna_journal.py", "update"),
    "search: points": ("searcher.py", "suggest"),
    "search: results": ("searcher.py", "on_trial_complete"),
    "early stopping": ("schedulers.py", "on_trial_result"),
    "Tune's loop, all": ("tune_controller.py", "step"),
    "in the loop: waiting": ("worker.py", "wait"),
    "in the loop: Tune's own state": ("tune_controller.py", "checkpoint"),
}
"""What of the driver a profile shows: file and function of the code that does it."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One measurement.

    Raises:
        ValueError: a number is not one to measure with.
    """

    nodes: int
    slots: int
    """Trials that a node runs at once."""
    trials: int
    epochs: int
    epoch_s: float
    """Seconds of an epoch, sleep and computing together."""
    compute_s: float
    """Seconds of an epoch that a core computes."""
    search: str
    early_stopping: str

    def __post_init__(self) -> None:
        for name, most in (("nodes", 64), ("slots", 64), ("trials", MAX_TRIALS), ("epochs", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be at least 1 and at most {most}, got {getattr(self, name)}.")
        if self.trials % len(VARIANTS):
            raise ValueError(f"trials must be a multiple of {len(VARIANTS)}, the cells, got {self.trials}.")
        if not 0 <= self.compute_s <= self.epoch_s < math.inf:
            raise ValueError(
                f"compute_s must be at least 0 and at most epoch_s, {self.epoch_s:g}, got {self.compute_s:g}."
            )

    @property
    def ideal_s(self) -> float:
        """Seconds of the run if every slot were busy until no trial is left to start."""
        return math.ceil(self.trials / (self.nodes * self.slots)) * self.epochs * self.epoch_s

    def study(self) -> Study:
        """Return the study: a quarter of the trials in each of four cells."""
        return Study(
            name="scaling",
            datasets=("shapes",),
            variants=VARIANTS,
            space=Space(lr=LogUniform(0.001, 0.1)),
            search=self.search,
            trials_per_cell=self.trials // len(VARIANTS),
            early_stopping=self.early_stopping,  # type: ignore[arg-type]
            protocol="paper",
            base=TrialConfig(
                dataset="shapes",
                variant=VARIANTS[0],
                lr=0.01,
                epochs=self.epochs,
                architecture=ArchitectureConfig(width=0.1),
            ),
        )


def sleep_and_compute(
    parameters: Mapping[str, Any], *, epochs: int, epoch_s: float, compute_s: float, report: Callable[[Any], object]
) -> None:
    """Take a trial's time: each epoch computes for `compute_s` and sleeps for the rest of `epoch_s`, then reports.

    Epochs end at multiples of `epoch_s` after the trial's start, so that what a report takes is not added to the
    trial's time unless it is more than the sleep.

    Args:
        parameters: as `sweep.execution.trial.run_trial`.
        epochs: how many.
        epoch_s: seconds of each.
        compute_s: seconds of it that one core computes.
        report: where each epoch's numbers go.
    """
    config = TrialConfig.from_dict(parameters["config"])
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        until = time.perf_counter() + compute_s
        while time.perf_counter() < until:
            sum(range(1000))
        time.sleep(max(0.0, started + epoch * epoch_s - time.perf_counter()))
        error = 0.1 + 0.1 * abs(math.log10(config.lr / 0.01)) + 0.5 / epoch
        numbers = EpochReport(
            epoch=epoch,
            lr=config.lr,
            train_loss=error,
            train_error=error,
            val_error=None,
            test_error=error,
            test_top5_error=None,
            averaged_error=None,
            error=error,
            train_images=1,
            val_images=0,
            test_images=1,
            epoch_s=epoch_s,
            train_s=epoch_s,
            state="completed" if epoch == epochs else "running",
            num_parameters=1,
            precision="float32",
            memory_format="contiguous",
            compiled=False,
            device="cpu",
            node=ray.util.get_node_ip_address(),
        )
        report(numbers.to_dict())


def measure(setting: Setting, profile: Path | None = None) -> dict[str, float]:
    """Run one setting here and return its seconds by name; write the profile of the run where one is wanted."""
    study = setting.study()
    ensure_token()
    simulated = SimulatedCluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": free_port(),
            "object_store_memory": STORE_BYTES,
        },
    )
    try:
        for _ in range(setting.nodes):
            simulated.add_node(num_cpus=setting.slots, object_store_memory=STORE_BYTES)
        with connect(simulated.address) as cluster, tempfile.TemporaryDirectory() as folder:
            placement, slots = place(cluster, workers=None, gpus=0.0, max_concurrent=None)
            plan = Plan(
                study=study,
                datasets={},
                parameters=check_study(study),
                placement=placement,
                slots=slots,
                cluster=cluster,
                asked={},
            )
            store = Store(f"{folder}/run")
            with store.locked():
                return _timed(setting, plan, store, profile)
    finally:
        simulated.shutdown()


def free_port() -> int:
    """Return a port of this machine that nothing listens at."""
    # Where a cluster is simulated Ray takes no other port for its dashboard when the usual one is in use.
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _timed(setting: Setting, plan: Plan, store: Store, profile: Path | None) -> dict[str, float]:
    starts: list[float] = []
    ends: list[float] = []

    class Timed(Listener):
        def ended(self, row: TrialRow) -> None:
            ends.append(time.perf_counter())
            starts.append(ends[-1] - (row["duration_s"] or 0.0))

    trainable = partial(
        sleep_and_compute,
        epochs=setting.epochs,
        epoch_s=setting.epoch_s,
        compute_s=setting.compute_s,
        report=ray.tune.report,
    )
    profiler = cProfile.Profile()
    cpu, own, started = time.process_time(), time.thread_time(), time.perf_counter()
    if profile is not None:
        profiler.enable()
    rows = run_trials(
        plan,
        store,
        recorded={},
        is_interrupted=lambda: False,
        listener=Timed(),
        trainable=trainable,
    )
    profiler.disable()
    cpu, own = time.process_time() - cpu, time.thread_time() - own
    if profile is not None:
        profiler.dump_stats(profile)
    if setting.early_stopping == "none":
        states = {row["state"] for row in rows}
        assert len(rows) == setting.trials, f"{len(rows)} trials of {setting.trials} are in the record"
        assert states == {"completed"}, f"all trials complete, got {states}"
    reports = sum(row["epochs_run"] for row in rows)
    return {
        "ideal_s": setting.ideal_s,
        "first_start_s": min(starts) - started,
        "run_s": ends[-1] - min(starts),
        "close_s": time.perf_counter() - ends[-1],
        "cpu_s": cpu,
        "loop_cpu_s": own,
        "reports": reports,
        "trials": len(rows),
    }


def profile_rows(stats: pstats.Stats, trials: int, reports: int) -> list[dict[str, str]]:
    """Return what the parts of the driver took, the time that they waited included: all, per trial and per report."""
    table: dict[tuple[str, str], tuple[int, float]] = {}
    for (file, _, function), (_, calls, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        key = Path(file).name, function
        before = table.get(key, (0, 0.0))
        table[key] = before[0] + calls, max(before[1], cumulative)
    rows = []
    for name, key in PARTS.items():
        calls, seconds = table.get(key, (0, 0.0))
        rows.append(
            {
                "part": name,
                "calls": f"{calls:,}",
                "all s": f"{seconds:.2f}",
                "ms per call": f"{1000 * seconds / calls:.2f}" if calls else "-",
                "ms per trial": f"{1000 * seconds / trials:.2f}",
                "ms per report": f"{1000 * seconds / reports:.2f}",
            }
        )
    return rows


def _in_a_process(setting: Setting, profile: Path | None) -> dict[str, float]:
    # A cluster and a Ray of its own for each: what one leaves behind is not measured with the next.
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", json.dumps(asdict(setting))]
    if profile is not None:
        command += ["--profile", str(profile)]
    with tempfile.TemporaryDirectory() as folder:
        # Ray's files too: another Ray of this machine keeps its own idea of which cluster is the current one.
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {"RAY_TMPDIR": folder}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"The measurement {setting} ended with exit status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _settings(options: argparse.Namespace) -> list[Setting]:
    shared = {name: getattr(options, name) for name in ("slots", "epochs", "epoch_s", "compute_s")}
    shared |= {name: getattr(options, name) for name in ("search", "early_stopping")}
    settings = [Setting(nodes=nodes, trials=trials, **shared) for trials in options.trials for nodes in options.nodes]
    for setting in settings:
        setting.study()  # refuses what cannot be searched before anything starts
    return settings


def _row(setting: Setting, found: Mapping[str, float]) -> dict[str, str]:
    return {
        "trials": f"{setting.trials:,}",
        "nodes": str(setting.nodes),
        "slots": str(setting.nodes * setting.slots),
        "ideal s": f"{found['ideal_s']:.1f}",
        "ours s": f"{found['run_s']:.1f}",
        "ideal / ours": f"{found['ideal_s'] / found['run_s']:.3f}",
        "first start s": f"{found['first_start_s']:.1f}",
        "driver CPU, ms per trial": f"{1000 * found['cpu_s'] / found['trials']:.1f}",
        "its loop, ms per trial": f"{1000 * found['loop_cpu_s'] / found['trials']:.1f}",
        "its loop, ms per report": f"{1000 * found['loop_cpu_s'] / found['reports']:.1f}",
    }


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit status: 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--slots", type=int, default=2, help="trials at once on each node")
    parser.add_argument("--epochs", type=int, default=4, help="reports of each trial")
    parser.add_argument("--epoch-s", type=float, default=0.5, help="seconds of an epoch")
    parser.add_argument("--compute-s", type=float, default=0.005, help="seconds of an epoch that a core computes")
    parser.add_argument("--search", default="random", help="as --search of sweep.run, but for the grid")
    parser.add_argument("--early-stopping", default="none", help="as --early-stopping of sweep.run")
    parser.add_argument("--profile", type=Path, help="write cProfile's statistics of the last measurement here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(measure(Setting(**json.loads(options.one)), options.profile)))
        return 0
    try:
        settings = _settings(options)
    except ValueError as error:
        print(f"error: {one_line(error, longest=None)}", file=sys.stderr)
        return 2
    rows = []
    for setting in settings:
        last = setting is settings[-1]
        found = _in_a_process(setting, options.profile if last else None)
        rows.append(_row(setting, found))
        print(f"{rows[-1]}", file=sys.stderr, flush=True)
    print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))
    if options.profile is not None:
        stats = pstats.Stats(str(options.profile))
        parts = profile_rows(stats, int(found["trials"]), int(found["reports"]))
        print(f"\nThe driver of the last one, under cProfile; {found['trials']:,.0f} trials:\n")
        print(tabulate(parts, headers="keys", tablefmt="github", disable_numparse=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
