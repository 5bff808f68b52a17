"""Runs the command line as a user does, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.record.store import Store

TIME_COLUMNS: frozenset[str] = frozenset(
    {
        *("duration_s", "train_s", "images_per_s", "epoch_s", "node"),
        *("preemptions", "retries", "retry_reasons", "fault", "isolated"),
    }
)
"""Columns that differ between two runs of the same study on the same kind of machine."""

Sweep = Callable[..., subprocess.CompletedProcess[str]]

TINY = ("--train-size", "100", "--epochs", "2", "--width", "0.05", "--batch-size", "32", "--protocol", "paper")
"""Options of a study small enough for a test, of one phase: some seconds a trial."""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Return a function that runs `python -m sweep.run ARGUMENTS --output TMP` to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(tmp_path, *arguments), capture_output=True, text=True, env=environment())

    return run


def command(output: Path, *arguments: str) -> list[str]:
    where = () if "--output" in arguments else ("--output", str(output))
    return [sys.executable, "-m", "sweep.run", *arguments, *where]


def environment() -> dict[str, str]:
    """Return this process's variables, without those by which Ray would find another cluster."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONUNBUFFERED": "1"}


def without_times(store: Store) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return all rows of both tables without the columns that hold times."""
    tables = store.read_trials(), store.read_epochs()
    trials, epochs = (
        table.drop_columns([name for name in table.column_names if name in TIME_COLUMNS]).to_pylist()
        for table in tables
    )
    return trials, epochs
