import io
import json
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import pytest
from rich.console import Console

from sweep.monitor import status
from sweep.monitor.status import main
from sweep.record.store import Store
from tests.standings import RATES, document, row

CONFIRMED = [row("model-a", 0.1, "completed", number=n, phase="confirm", test_error=0.25) for n in range(3)]


def run_in(folder: Path, name: str, rows: list[dict[str, Any]], **changes: Any) -> Store:
    store = Store(str(folder / name))
    store.write_run(document(**changes))
    store.write_trials(rows)
    return store


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("SWEEP_OUTPUT", raising=False)


def test_runs_in_a_folder_are_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(tmp_path, "cut", [row("model-a", 0.1, "running", val_error=0.4), row("model-a", 0.05, "failed")])
    whole = [row("model-a", rate, "completed", val_error=rate) for rate in RATES]
    run_in(tmp_path, "whole", [*whole, *CONFIRMED], variants=("model-a",))
    (tmp_path / "no-run").mkdir()
    lines = said(capsys, str(tmp_path)).splitlines()
    assert lines[0].split()[:5] == ["run", "study", "state", "alive", "ended"]
    assert lines[1].split()[:6] == ["cut", "cifar10", "interrupted", "no", "1/14", "1"]
    assert "model-a 40.00" in lines[1]
    assert lines[2].split()[:6] == ["whole", "cifar10", "ended", "no", "7/7", "0"]
    assert "model-a 1.00" in lines[2]
    assert len(lines) == 3


def test_a_run_cut_off_after_an_epoch_without_a_measurement_has_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = run_in(tmp_path, "cut", [row("model-a", 0.1, "pending", epochs_run=3), row("model-a", 0.05, "running")])
    (_, line) = said(capsys, str(tmp_path)).splitlines()
    assert line.split()[:6] == ["cut", "cifar10", "interrupted", "no", "0/14", "0"]
    assert "model-a" not in line
    assert "model-a" in said(capsys, store.location)
    cell, _ = json.loads(said(capsys, store.location, "--format", "json"))["cells"]
    assert (cell["best_error"], cell["params"]) == (None, None)


def test_a_run_that_a_process_writes_is_alive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = run_in(tmp_path, "mine", [row("model-a", 0.1, "running", val_error=0.4)])
    assert store.is_alive() is False
    with filelock.FileLock(f"{store.location}/.lock", is_singleton=False):
        # The lock of another file object is held as that of another process.
        assert store.is_alive() is True
        assert "mine  cifar10  running, alive, begun" in said(capsys, store.location)
    assert store.is_alive() is False
    assert "mine  cifar10  interrupted, no process writes it, begun" in said(capsys, store.location)
    assert not any(line.startswith("running 1") for line in said(capsys, store.location).splitlines())


def test_of_a_run_on_another_machine_it_is_not_told_whether_it_is_alive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = run_in(tmp_path, "mine", [row("model-a", 0.1, "running", val_error=0.4)])
    held = {"token": "a", "host": "elsewhere", "pid": 1, "since": "", "beat": 1, "format": 1}
    (tmp_path / "mine" / "lease.json").write_text(json.dumps(held))
    assert store.is_alive() is None
    assert "not ended, whether a process writes it cannot be told" in said(capsys, store.location)
    (tmp_path / "mine" / "lease.json").write_text(json.dumps(held | {"host": platform.node(), "pid": os.getpid()}))
    assert store.is_alive() is False, "its lock is free: another process has its number now"


def test_one_run_is_its_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = run_in(tmp_path, "mine", [row("model-a", 0.1, "completed", val_error=0.4)])
    shown = said(capsys, store.location)
    assert "1 of 14 trials ended" in shown
    assert "c 40.0* 10" in shown
    assert "\x1b" not in shown


def test_json_holds_all_that_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("model-a", rate, "completed", val_error=rate) for rate in RATES]
    store = run_in(tmp_path, "mine", [*rows, *CONFIRMED])
    found = json.loads(said(capsys, store.location, "--format", "json"))
    assert (found["name"], found["state"], found["alive"]) == ("mine", "interrupted", False)
    assert (found["planned"], found["ended"], found["left_s"]) == (14, 7, None)
    assert found["cells"][0] == {
        "cell": "cifar10/none/model-a",
        "trials": 4,
        "ended": 4,
        "states": {"completed": 4},
        "best_error": 0.01,
        "params": {"lr": 0.01},
        "confirm_trials": 3,
        "confirm_ended": 3,
        "confirm_error": 0.25,
    }
    assert json.loads(said(capsys, str(tmp_path), "--format", "json")) == {"runs": [found]}


def test_a_run_that_ended_is_followed_no_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [row("model-a", rate, "completed", val_error=rate) for rate in RATES]
    store = run_in(tmp_path, "mine", [*whole, *CONFIRMED], variants=("model-a",))
    assert said(capsys, store.location, "--follow").splitlines() == [
        "       progress  7 of 7 trials ended, 0 running",
        "mine: ended.",
    ]


def test_a_run_is_followed_by_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    store = run_in(tmp_path, "mine", [], variants=("model-a",), protocol="paper")
    ended: list[dict[str, Any]] = []
    waits: list[float] = []
    out = io.StringIO()

    def wait(seconds: float) -> None:
        """In the time that is waited one more trial ends."""
        waits.append(seconds)
        ended.append(row("model-a", RATES[len(ended)], "completed", test_error=0.5))
        store.write_trials(ended)

    with filelock.FileLock(f"{store.location}/.lock", is_singleton=False):
        status.follow_run(store, Console(file=out, width=20), wait, plain=False, every_s=30.0)
    assert waits == [30.0] * 4
    assert out.getvalue().splitlines() == [
        "       progress  0 of 4 trials ended, 0 running",
        "model-a lr 0.25 seed 0: completed, error 50.00 %",
        "model-a lr 0.1 seed 0: completed, error 50.00 %",
        "       progress  2 of 4 trials ended, 0 running",
        "model-a lr 0.05 seed 0: completed, error 50.00 %",
        "model-a lr 0.01 seed 0: completed, error 50.00 %",
        "       progress  4 of 4 trials ended, 0 running",
        "mine: ended.",
    ]


def test_ctrl_c_while_a_run_is_followed_is_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = run_in(tmp_path, "mine", [])

    def interrupt(_: object, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event.wait", interrupt)
    with filelock.FileLock(f"{store.location}/.lock", is_singleton=False):
        assert main([store.location, "--follow"]) == 130


def test_a_broken_run_is_named_and_the_others_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in(tmp_path, "whole", [])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.json").write_text("{")
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "whole" in out
    assert err.startswith(f"{tmp_path}/broken cannot be read: ")
    assert err.count("\n") == 1


def test_a_folder_without_runs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, str(tmp_path)) == f"No run lies directly in {tmp_path}.\n"
    assert json.loads(said(capsys, str(tmp_path), "--format", "json")) == {"runs": []}


def test_runs_at_a_uri_are_listed_and_their_life_is_not_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path, "mine", [])
    found = json.loads(said(capsys, tmp_path.as_uri(), "--format", "json"))
    assert [run["name"] for run in found["runs"]] == ["mine"]


def test_markup_in_a_name_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]net"
    run_in(tmp_path, "mine", [row(name, 0.1, "completed", val_error=0.4)], variants=(name,))
    assert "[red]net 40.00" in said(capsys, str(tmp_path))
    assert "[red]net" in said(capsys, str(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{folder}/none"], "There is no folder '{folder}/none': name an existing folder or URI."),
        ([" "], "DIR must be a folder or a URI, got ' '."),
        (["{folder}", "more"], "The command line must hold one WHERE and then options, got 'more' besides."),
        (
            ["{folder}", "--follow"],
            "DIR must be one run's folder or URI where a run is followed, got '{folder}', which holds no run.",
        ),
        (
            ["{folder}", "--follow", "--format", "json"],
            "format must be text where a run is followed, got 'json'; leave --follow out.",
        ),
        (["{folder}", "--format", "xml"], 'Invalid value "xml" for --format. Choose from: "text", "json".'),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main([part.format(folder=tmp_path) for part in arguments]) == 2
    assert capsys.readouterr().err == f"error: {sentence.format(folder=tmp_path)}\n"


def test_an_age_is_in_words() -> None:
    now = datetime.fromisoformat("2026-01-02T05:04:05+00:00")
    assert status.age("2026-01-02T03:04:05+00:00", now) == "2.0 h"
    assert status.age("2026-01-02T03:04:05", now) == ""
    assert status.age("yesterday", now) == ""
