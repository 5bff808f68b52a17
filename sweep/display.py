"""What a run says in the terminal: the plan, a line for each trial that ended, what comes next."""

import time
from collections.abc import Callable, Mapping
from typing import Any, final

from rich.console import Console
from rich.table import Table

from sweep.plan import Plan


def show_plan(plan: Plan, console: Console) -> None:
    """Print cells, trials, epochs and what fits."""
    study, base = plan.study, plan.study.base
    table = Table(title=f"Study {study.name}", title_justify="left", box=None, pad_edge=False)
    for heading in ("cell", "parameters", "trials"):
        table.add_column(heading, justify="left" if heading == "cell" else "right")
    for cell, count in plan.parameters.items():
        table.add_row(cell, f"{count:,}", str(study.points_per_cell))
    console.print(table)
    images = ", ".join(f"{name} {len(data.train):,} + {len(data.test):,}" for name, data in plan.datasets.items())
    where = f"{plan.cluster.address} with {plan.cluster.cpus} CPUs and {plan.cluster.gpus} GPUs"
    workers = f"{plan.placement.workers} workers" if plan.placement.workers else "its own process"
    lines = {
        "learning rates": f"{study.learning_rates}, {study.search} search, {study.seeds} seed(s) from {base.seed}",
        "images": f"{images} (training + test), {base.preprocessing}",
        "schedule": f"{base.epochs} epochs, learning rate x {base.drop_factor:g} after {_listed(base.drop_epochs)}",
        "network": f"width {base.architecture.width:g}, dropout {base.architecture.input_dropout:g} and "
        f"{base.architecture.dropout:g}, {base.architecture.initialisation} initialisation",
        "protocol": f"{study.protocol}, early stopping: {study.early_stopping}",
        "total": f"{plan.trials} trials, {plan.epochs:,} epochs, the time is estimated once the first trial has ended",
        "where": f"{where}: {plan.slots} trial(s) at once, each in {workers}",
    }
    for name, value in lines.items():
        console.print(f"{name:>15}  {value}", highlight=False, soft_wrap=True)


@final
class Progress:
    """Prints a line for each trial that ended, with the time that the rest may take."""

    def __init__(
        self, plan: Plan, console: Console, *, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with `done` trials that ended in an earlier execution of the run."""
        self._plan = plan
        self._console = console
        self._done = done
        self._clock = clock
        self._start = clock()
        self._here = 0

    def trial_ended(self, row: Mapping[str, Any]) -> None:
        """Print one trial's outcome."""
        self._done += 1
        self._here += 1
        error = row["test_error"] if row["val_error"] is None else row["val_error"]
        outcome = row["reason"] if row["state"] in ("failed", "diverged") else f"error {100 * error:.2f} %"
        self._console.print(
            f"[{self._done}/{self._plan.trials}] {row['variant']} lr {row['lr']:g} seed {row['seed']}: {row['state']}, "
            f"{outcome}, {row['epochs_run']} epochs in {row['duration_s']:.0f} s{self._left()}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

    def _left(self) -> str:
        left = self._plan.trials - self._done
        if not left:
            return ""
        seconds = (self._clock() - self._start) / self._here * left
        return f"; about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _listed(epochs: tuple[int, ...]) -> str:
    return ", ".join(map(str, epochs)) or "none"
