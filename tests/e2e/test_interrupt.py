"""Ctrl-C in the middle of a run, and going on afterwards."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sweep.cli.run import OUT_OF_TIME
from sweep.record.store import Store
from tests.dashboard import check_shown
from tests.e2e.conftest import command, environment, without_times

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

STUDY = (
    *("quickstart", "--train-size", "400", "--epochs", "8", "--width", "0.1"),
    *("--variants", "strided-cnn-a", "--max-concurrent", "1"),
)
PAPER = (*STUDY, "--protocol", "paper")
GRID = (*PAPER, "--learning-rates", "0.01", "0.02")
# Cut in its second phase: the search is not run again, and the choice stays.
HOLDOUT = (*STUDY, "--protocol", "holdout", "--learning-rates", "0.01", "0.001", "--seeds", "2")
# Two workers, and points that a resumed search must not draw anew.
RANDOM_IN_GROUPS = (*PAPER, "--search", "random", "--trials-per-cell", "2", "--workers-per-trial", "2")


def interrupted(output: Path, study: tuple[str, ...], after: str, name: str) -> tuple[str, str]:
    """Start the study, press Ctrl-C once a line starts with `after`, and return what was said before and after it."""
    process = subprocess.Popen(
        command(output, *study, "--name", name),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A terminal sends Ctrl-C to every process of the group, the trials' too.
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip().startswith(after):
            os.killpg(process.pid, signal.SIGINT)
            break
    rest, errors = process.communicate()
    assert process.returncode == 130, rest + errors
    assert "Traceback" not in errors
    return rest, errors


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment())


def go_on(said: str, before: str = "Resume with: ") -> list[str]:
    """Return the arguments of the command that an interrupted run names."""
    arguments = shlex.split(said.split(before)[1].splitlines()[0])
    # `python` where that is the environment's own, else its path: the command works as it is printed.
    assert arguments[0] in ("python", sys.executable)
    assert arguments[1:4] == ["-m", "sweep.run", "--resume"]
    return arguments[1:]


@pytest.mark.parametrize(
    "study",
    [pytest.param(GRID, id="grid"), pytest.param(RANDOM_IN_GROUPS, id="random-in-groups", marks=pytest.mark.chaos)],
)
def test_an_interrupted_run_goes_on_to_the_record_of_an_undisturbed_one(tmp_path: Path, study: tuple[str, ...]) -> None:
    rest, errors = interrupted(tmp_path, study, "[1/2]", "cut")
    assert "Stopping the trials and closing the record" in errors
    store = Store(str(tmp_path / "cut"))
    states = sorted(row["state"] for row in store.read_trials().to_pylist())
    assert states in (["completed"], ["completed", "pending"])
    trained = store.read_epochs().to_pylist()
    check_shown(tmp_path / "cut")

    refused = run([*go_on(rest), "--epochs", "9"])
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "error: The study must be the recorded one, got one that differs in epochs.",
        "  epochs: recorded 8, given 9",
        "Leave these options out, or begin a new run under another --name.",
    ]
    refused = run([*go_on(rest), "--workers-per-trial", "1"])
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: The study must be the recorded one, got one that differs in workers_per_")
    # The whole command, as what starts it anew after a failure gives it.
    assert run([*go_on(rest), *study, "--dry-run"]).returncode == 0

    resumed = run(go_on(rest))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "2 trials, 16 epochs; ended before: 1 trial" in resumed.stdout
    # Not an epoch was trained a second time: that would have taken another time.
    kept = store.read_epochs().to_pylist()
    assert all(epoch in kept for epoch in trained)
    check_shown(tmp_path / "cut")

    whole = run(command(tmp_path, *study, "--name", "whole")[1:])
    assert whole.returncode == 0
    assert without_times(store) == without_times(Store(str(tmp_path / "whole")))


def test_an_interrupted_confirmation_goes_on_to_the_record_of_an_undisturbed_run(tmp_path: Path) -> None:
    rest, _ = interrupted(tmp_path, HOLDOUT, "[3/4]", "cut")
    store = Store(str(tmp_path / "cut"))
    before = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    assert sorted(row["phase"] for row in before.values() if row["state"] == "completed") == [
        "confirm",
        "search",
        "search",
    ]
    resumed = run(go_on(rest))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "4 trials, 32 epochs; ended before: 3 trials" in resumed.stdout
    first, second = store.read_run().executions
    assert second.code == first.code
    after = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    assert {key: after[key] for key, row in before.items() if row["state"] == "completed"}.items() <= before.items()

    whole = run(command(tmp_path, *HOLDOUT, "--name", "whole")[1:])
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert without_times(store) == without_times(Store(str(tmp_path / "whole")))

    searched, confirmed = ([row for row in after.values() if row["phase"] == name] for name in ("search", "confirm"))
    assert all(row["test_error"] is None and row["val_error"] is not None for row in searched)
    assert all(row["test_error"] is not None and row["val_error"] is None for row in confirmed)
    best = min(searched, key=lambda row: (row["val_error"], row["lr"]))
    assert {(row["lr"], row["seed"]) for row in confirmed} == {(best["lr"], 10_000), (best["lr"], 10_001)}
    epochs = store.read_epochs().to_pylist()
    phase = {row["trial_id"]: row["phase"] for row in after.values()}
    for row in epochs:
        images = row["train_images"], row["val_images"], row["test_images"]
        if phase[row["trial_id"]] == "search":
            # A tenth of each class, rounded.
            assert (images[0] + images[1], images[2]) == (400, 0)
            assert 35 <= images[1] <= 45
        else:
            assert images == (400, 0, 2000 if row["epoch"] == 8 else 0)
    table = [sys.executable, "-m", "analysis", "table", store.location]
    shown = subprocess.run(table, capture_output=True, text=True, check=True).stdout
    assert "F2 strided-cnn-a: fewer than 3 seeds" in shown


def test_trials_put_aside_come_to_the_same_record_interrupted_or_not_one_at_a_time_or_two(tmp_path: Path) -> None:
    study = (*STUDY[:-2], "--protocol", "paper", "--learning-rates", "0.02", "0.01", "0.005", "0.0001")
    study = (*study, "--early-stopping", "halving")
    rest, _ = interrupted(tmp_path, (*study, "--max-concurrent", "1"), "[1/4]", "cut")
    resumed = run(go_on(rest))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    whole = run(command(tmp_path, *study, "--max-concurrent", "2", "--name", "whole")[1:])
    assert whole.returncode == 0, whole.stdout + whole.stderr
    stores = [Store(str(tmp_path / name)) for name in ("cut", "whole")]
    assert without_times(stores[0]) == without_times(stores[1])
    decisions = [
        sorted(store.read_decisions().to_pylist(), key=lambda d: (d["trial_id"], d["epoch"])) for store in stores
    ]
    assert decisions[0] == decisions[1]
    # The learning rate first drops after epoch 5 of 8: trials wait after epoch 2, and after epoch 6.
    assert sorted((d["epoch"], d["num_results"]) for d in decisions[0]) == [(2, 4)] * 4 + [(6, 2)] * 2
    states = sorted((row["state"], row["epochs_run"]) for row in stores[0].read_trials().to_pylist())
    assert states == [("completed", 8), ("stopped", 2), ("stopped", 2), ("stopped", 6)]
    best = min((d for d in decisions[0] if d["epoch"] == 6), key=lambda d: d["error"])
    (completed,) = (row["trial_id"] for row in stores[0].read_trials().to_pylist() if row["state"] == "completed")
    assert completed == best["trial_id"]
    check_shown(tmp_path / "cut")


def test_a_terminated_run_is_resumed_until_its_record_is_that_of_an_undisturbed_one(tmp_path: Path) -> None:
    study = (*STUDY, "--learning-rates", "0.01", "0.001", "--seeds", "1")
    again = [sys.executable, str(ROOT / "scripts" / "begin-or-resume"), "cut", *study]
    variables = environment() | {"SWEEP_OUTPUT": str(tmp_path), "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stdout is not None
    store = Store(str(tmp_path / "cut"))
    while not any(row["epochs_run"] for row in _rows(store)):  # in the midst of the first trial
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate()
    assert process.returncode == OUT_OF_TIME, said + errors
    assert "SIGTERM: trials stop after this epoch" in errors
    assert "Stopped by SIGTERM. Everything is saved; " in said
    rows = _rows(store)
    assert {"pending"} <= {row["state"] for row in rows} <= {"pending", "completed"}
    trained = store.read_epochs().to_pylist()

    done = subprocess.run(again, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = store.read_epochs().to_pylist()
    assert all(epoch in kept for epoch in trained)
    whole = run(command(tmp_path, *study, "--name", "whole")[1:])
    assert whole.returncode == 0
    assert without_times(store) == without_times(Store(str(tmp_path / "whole")))


def test_a_time_limit_too_short_for_an_epoch_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    said = subprocess.run(
        [*command(tmp_path, *GRID, "--name", "none"), "--time-limit", "1s"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert said.returncode == 1, said.stdout + said.stderr
    assert "No epoch ended within the time limit. Everything is saved; 2 trials are left. Resume with a" in said.stdout
    assert Store(str(tmp_path / "none")).read_trials().num_rows == 0
    resumed = run([*go_on(said.stdout, "--time-limit: "), "--time-limit", "2h"])
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "trials stop after their epoch, by " in resumed.stdout
    assert {row["state"] for row in _rows(Store(str(tmp_path / "none")))} == {"completed"}


def _rows(store: Store) -> list[dict[str, Any]]:
    return store.read_trials().to_pylist() if store.exists() else []


def test_a_run_interrupted_before_its_first_trial_goes_on_too(tmp_path: Path) -> None:
    rest, _ = interrupted(tmp_path, GRID, "dashboard", "early")
    resumed = run(go_on(rest))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    rows = Store(str(tmp_path / "early")).read_trials().to_pylist()
    assert [row["state"] for row in rows] == ["completed", "completed"]


# Ctrl-C in a terminal, which reaches the whole group, while Ray would shut down and the table is on its way.
AT_THE_TABLE = """
import os, signal, sys
from pathlib import Path
from rich.console import Console
from sweep.preparation import show_table
from sweep.record.store import Store

# Whoever starts tests in a shell's background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def press_while_it_loads():
    (table,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    while "pyarrow" not in Path(f"/proc/{table}/maps").read_text():
        pass
    os.killpg(0, signal.SIGINT)

try:
    show_table(Store(sys.argv[1]), Console(), press_while_it_loads)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_while_the_table_is_made_ends_it_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_TABLE, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (130, "", "")
