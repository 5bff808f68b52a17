"""What the live grid costs a run's driver: python -m benchmarks.grid_cost [--trials N] [--seconds S].

Trials report in turn, some 200 epochs a second of all together, once without and once with the grid drawn in a
pseudo-terminal. Prints the drawings a second, the share of the time that they took, and what a report took in both.
"""

import os
import pty
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated

import cyclopts

from search_spaces import LogUniform, Space
from search_spaces.paper import VARIANTS
from sweep.monitor.screen import Events, Screen, Trials, in_background
from sweep.record.params import write_params
from sweep.record.progress import Scope
from sweep.record.schema import TRIALS
from sweep.study.catalog import cifar10

EPOCHS = 350


def _scope(trials: int) -> Scope:
    study = replace(
        cifar10(),
        variants=VARIANTS,
        space=Space(lr=LogUniform(0.001, 0.25)),
        search="random",
        trials_per_cell=-(-trials // len(VARIANTS)),
        seeds=0,
        base=replace(cifar10().base, epochs=EPOCHS),
    )
    return Scope.of(study, "benchmark", trials)


def _rows(trials: int) -> list[dict[str, object]]:
    return [
        dict.fromkeys(TRIALS.names)
        | {
            "trial_id": f"cifar10_none_{VARIANTS[number % len(VARIANTS)]}_{number // len(VARIANTS):04d}",
            "phase": "search",
            "dataset": "cifar10",
            "augmentation": "none",
            "variant": VARIANTS[number % len(VARIANTS)],
            "lr": 0.01 + number / 10_000,
            "params": write_params({"lr": 0.01 + number / 10_000}),
            "seed": 0,
            "state": "running",
            "epochs_run": 0,
            "epochs_budget": EPOCHS,
            "duration_s": 0.0,
            "device": "cpu",
            "node": "node",
        }
        for number in range(trials)
    ]


def _report(update: Callable[[dict[str, object]], None], rows: list[dict[str, object]], seconds: float) -> list[float]:
    """Report at 200 epochs a second for some time; return what each report took, s."""
    took = []
    began = time.perf_counter()
    number = 0
    while time.perf_counter() - began < seconds:
        row = rows[number % len(rows)]
        epoch = number // len(rows) + 1
        row.update(epochs_run=min(epoch, EPOCHS), duration_s=2.0 * epoch, val_error=0.9 / epoch)
        start = time.perf_counter()
        update(row)
        took.append(time.perf_counter() - start)
        number += 1
        time.sleep(0.005)
    return took


def main(
    *, trials: int = 1000, seconds: Annotated[float, cyclopts.Parameter(help="of each measurement")] = 20.0
) -> None:
    """Measure and print."""
    os.environ["TERM"] = "xterm-256color"
    reader, writer = pty.openpty()
    threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reader, 65536), b"")], daemon=True).start()
    for drawn in (False, True):
        rows = _rows(trials)
        shown = Trials(_scope(trials), {str(row["trial_id"]): row for row in rows})
        screen = Screen(os.fdopen(os.dup(writer), "w", encoding="utf-8"), shown, Events(None))
        if drawn:
            screen.show()
        with in_background(screen.run, "grid") if drawn else nullcontext():
            took = _report(shown.update, rows, seconds)
        screen.close()
        median, high = 1e6 * statistics.median(took), 1e6 * sorted(took)[int(0.99 * len(took))]
        print(
            f"{'with' if drawn else 'without'} the grid: {len(took):,} reports, "
            f"{median:.1f} us each (99th percentile {high:.0f} us)"
        )
        if drawn:
            print(
                f"{screen.drawings / seconds:.2f} drawings a second of {1e3 * screen.draw_s / screen.drawings:.1f} ms: "
                f"{100 * screen.draw_s / seconds:.2f} % of the driver's time"
            )


if __name__ == "__main__":
    cyclopts.run(main)
