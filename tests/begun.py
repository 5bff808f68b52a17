"""A run that has just begun, rows of its trials, and the command line that resumes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.record.params import write_params
from sweep.record.schema import TRIALS
from sweep.record.store import Store
from sweep.run import main
from sweep.search.searcher import CellSearch
from sweep.study.study import Study

Begin = Callable[..., Study]
LEAVE_OR_NEW = "Leave these options out, or begin a new run under another --name."
LEAVE_EXTEND_OR_NEW = (
    "Leave these options out, or add --extend, which keeps what is done and runs the rest, or begin a new run under "
    "another --name."
)
WITH_EXTEND = (
    "error: With --extend the study given must be the recorded one or hold more values of "
    "hyperparameters, variants, trials_per_cell, seeds, confirm_top and epochs, got one that differs in "
)


def searched(study: Study, count: int | None = None, **values: Any) -> list[Any]:
    """Return the rows of the first trials of each cell's grid as completed, the lower the learning rate the better."""
    rows = []
    for cell in study.cells():
        search = CellSearch(study, cell, {})
        for _ in range(search.remaining if count is None else count):
            trial_id, config = search.ask()
            rows.append(row(trial_id, study, variant=cell.variant, lr=config.lr, seed=config.seed) | values)
    return rows


def row(trial_id: str, study: Study, **values: Any) -> Any:
    """Return a row of `trials`; a value that is none of its columns is a hyperparameter that was searched."""
    base = study.base
    searched = {name: values.pop(name) for name in list(values) if name not in TRIALS.names}
    lr = values.get("lr", base.lr)
    return (
        dict.fromkeys(TRIALS.names)
        | {"trial_id": trial_id, "phase": "search", "dataset": "shapes", "augmentation": "none", "state": "completed"}
        | {"variant": "all-cnn-c", "params": write_params({"lr": lr, **searched}), "lr": lr, "seed": 0}
        | {"epochs_run": base.epochs, "epochs_budget": base.epochs, "val_error": values.get("lr"), "preemptions": 0}
        | {"precision": "float32", "memory_format": "contiguous", "compiled": False, "reason": "", "train_s": 0.0}
        | {"retries": 0, "retry_reasons": "", "isolated": False}
        | values
    )


def confirmed(study: Study, lr: float, count: int, rank: int = 0, **values: Any) -> list[Any]:
    return [
        row(f"shapes_none_all-cnn-c_confirm_{rank}_{number}", study, phase="confirm", lr=lr, seed=10_000 + number)
        | {"val_error": None, "test_error": 0.5}
        | values
        for number in range(count)
    ]


def run(store: Store, *arguments: str) -> int:
    output, name = store.location.rsplit("/", 1)
    return main([*arguments, "--resume", "--output", output, "--name", name])


def contents(store: Store) -> dict[str, bytes]:
    # A lock is taken before anything is looked at closely, and is no part of the record.
    files = (file for file in Path(store.location).rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file): file.read_bytes() for file in files}


def refused(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Go on with the run, check that it was refused and that nothing was written, and return the lines that it said."""
    before = contents(store)
    assert run(store, *arguments) == 2
    assert contents(store) == before
    said = capsys.readouterr().err
    assert said.endswith("\n")
    return said.splitlines()


SAME = ("quickstart", "--train-size", "100", "--epochs", "2", "--width", "0.05", "--variants", "all-cnn-c")
