"""What a run's record costs its driver for each trial, as the run grows.

    python -m benchmarks.record_cost [ROWS ...] [--repeats N] [--claims FILE]

Beside 100, 1,000 and 10,000 trials that have ended, `TRIALS` more begin, report `EPOCHS` times and end, a report every
`EVERY_S` seconds of a clock of their own, to which the time that the record takes is added. Prints ours, the same with
every begin and end written at once, and their ratio; and what a report adds, by what trials of three times as many
take more: at that pace, at which writing fills the fortieth of the driver's time that it may take, and as fast as the
driver can. No Ray is started.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import sweep.execution.recorder
from benchmarks import claims
from benchmarks.claims import Claim
from search_spaces import LogUniform, Space
from sweep.execution.listener import Listener
from sweep.execution.recorder import Recorder
from sweep.monitor.optuna_journal import JOURNAL, Journal
from sweep.record.params import write_params
from sweep.record.schema import TRIALS as COLUMNS
from sweep.record.store import Store
from sweep.study.study import Study
from trainables.config import TrialConfig

TRIALS, EPOCHS, EVERY_S = 200, 4, 0.025
CONFIG = TrialConfig(dataset="shapes", variant="all-cnn-c", lr=0.01, epochs=EPOCHS)
STUDY = Study(
    name="cost",
    datasets=("shapes",),
    variants=("all-cnn-c",),
    space=Space(lr=LogUniform(0.001, 0.1)),
    search="random",
    trials_per_cell=10_000,
    protocol="paper",
    base=CONFIG,
)


class Clock:
    """Time that passes as this process works, and by what is added to it."""

    added = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return time.perf_counter() + self.added


class Trial:
    """What a recorder reads of Ray's."""

    error_file: str | None = None
    pickled_error_file: str | None = None

    def __init__(self, number: int) -> None:
        config = CONFIG.to_dict() | {"lr": 0.01 + 1e-6 * number}
        name = f"shapes_none_all-cnn-c_{number:05d}"
        self.config = {"trial_id": name, "phase": "search", "cell": CONFIG.cell, "config": config}


def ended(number: int) -> dict[str, Any]:
    """Return the row of a trial that has ended."""
    known = {
        "trial_id": f"shapes_none_all-cnn-c_{number:05d}",
        "phase": "search",
        "dataset": "shapes",
        "augmentation": "none",
        "variant": "all-cnn-c",
        "params": write_params({"lr": 0.01 + 1e-6 * number}),
        "lr": 0.01 + 1e-6 * number,
        "seed": 0,
        "state": "completed",
        "epochs_run": EPOCHS,
        "epochs_budget": EPOCHS,
        "test_error": 1e-5 * number,
        "duration_s": 1.0 + 1e-3 * number,
        "node": "node",
        "device": "cpu",
        "reason": "",
        "train_s": 1.0,
        "isolated": False,
        "preemptions": 0,
        "retries": 0,
        "retry_reasons": "",
    }
    return dict.fromkeys(COLUMNS.names) | known


class Journaled(Listener):
    """Passes on what a run's journal takes."""

    def __init__(self, journal: Journal) -> None:
        self.changed, self.flushed = journal.update, journal.flush  # type: ignore[method-assign]


def cost(rows: int, epochs: int = EPOCHS, every_s: float = EVERY_S) -> float:
    """Return the driver's seconds for each trial of so many epochs beside `rows` trials that have ended."""
    recorded = {row["trial_id"]: row for row in map(ended, range(rows))}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"{folder}/{JOURNAL}", STUDY, recorded.values(), [])
        store = Store(folder)
        recorder = Recorder(store, STUDY, recorded=recorded, listener=Journaled(journal), clock=clock)
        started = time.perf_counter()
        for number in range(rows, rows + TRIALS):
            trial: Any = Trial(number)
            recorder.on_trial_start(0, [], trial)
            for epoch in range(1, epochs + 1):
                recorder.on_trial_result(0, [], trial, _report(epoch))
                recorder.on_step_end(0, [])
                clock.added += every_s
            recorder.on_trial_complete(0, [], trial)
        recorder.close()
        seconds = time.perf_counter() - started
        assert store.read_trials().num_rows == rows + TRIALS, "each trial has its row"
        assert store.read_epochs().num_rows == TRIALS * epochs, "each epoch has its row"
    return seconds / TRIALS


def _report(epoch: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("lr", "train_loss", "train_error", "test_error", "epoch_s", "train_s"), 0.5)
    counts = dict.fromkeys(("train_images", "val_images", "test_images", "num_parameters"), 1)
    words = dict.fromkeys(("node", "device", "precision", "memory_format", "reason"), "as it is")
    nothing = dict.fromkeys(("val_error", "test_top5_error", "averaged_error"))
    return {
        **numbers,
        **counts,
        **words,
        **nothing,
        "compiled": False,
        "dead_classes": 0,
        "epoch": epoch,
        "state": "running",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    claims.add_option(parser)
    options = parser.parse_args()
    print("trials ended   at once, ms a trial   ours, ms a trial   ratio")
    pause = sweep.execution.recorder.PAUSE_PER_FLUSH
    found: list[Claim] = []
    for rows in options.rows:
        at_once, ours, longer, fast, fast_longer = [], [], [], [], []
        for _ in range(options.repeats):
            sweep.execution.recorder.PAUSE_PER_FLUSH = 0.0
            at_once.append(cost(rows))
            sweep.execution.recorder.PAUSE_PER_FLUSH = pause
            ours.append(cost(rows))
            longer.append(cost(rows, 3 * EPOCHS))
            fast.append(cost(rows, every_s=0.0))
            fast_longer.append(cost(rows, 3 * EPOCHS, every_s=0.0))
        first, second = statistics.median(at_once), statistics.median(ours)
        print(f"{rows:12,}   {1000 * first:19.1f}   {1000 * second:16.1f}   {first / second:5.1f}", flush=True)
        beside = f"beside {rows:,} trials that have ended"
        found += [
            *(
                Claim(
                    name=f"the record {beside}: driver's time for each report more, {pace}",
                    values=[1000 * (b - a) / (2 * EPOCHS) for a, b in zip(few, many, strict=True)],
                    unit="ms",
                    target=1.0,
                    at_least=False,
                )
                for pace, few, many in (
                    (f"{1 / EVERY_S:.0f} a second", ours, longer),
                    ("as many as it can take", fast, fast_longer),
                )
            ),
            Claim(
                name=f"the record {beside}: driver's time for a trial of {EPOCHS} reports, from begin to end",
                values=[1000 * seconds for seconds in ours],
                unit="ms",
            ),
            Claim(
                name=f"the record {beside}: each change written at once over ours",
                values=[a / b for a, b in zip(at_once, ours, strict=True)],
                unit="x",
            ),
        ]
    claims.keep(options.claims, found)


if __name__ == "__main__":
    main()
