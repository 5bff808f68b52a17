"""A run is extended: what it has done stays, and what comes is what a run that had it from the start would have."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, Space
from sweep.record.document import Change
from sweep.record.store import Store
from tests.e2e.conftest import command, environment, without_times
from tests.e2e.test_interrupt import interrupted

STUDY = ("quickstart", "--train-size", "60", "--epochs", "3", "--width", "0.05", "--variants", "strided-cnn-a")
PAPER = (*STUDY, "--max-concurrent", "1", "--protocol", "paper")
HOLDOUT = ("quickstart", "--train-size", "200", *STUDY[3:], "--max-concurrent", "1", "--protocol", "holdout")
POINT = ("phase", "variant", "params", "seed")


def sweep(output: Path, name: str, *arguments: str) -> str:
    """Run the command line to its end, check that it succeeded, and return what it printed."""
    done = subprocess.run(
        command(output, *arguments, "--name", name), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_point(store: Store) -> tuple[dict[Any, Mapping[str, Any]], dict[Any, Mapping[str, Any]]]:
    """Return the rows of both tables without times, by the trial's point in place of its id."""
    trials, epochs = without_times(store)
    point = {row["trial_id"]: tuple(row[name] for name in POINT) for row in trials}

    def rest(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name != "trial_id"}

    found = (
        {point[row["trial_id"]]: rest(row) for row in trials},
        {(*point[row["trial_id"]], row["epoch"]): rest(row) for row in epochs},
    )
    assert [len(table) for table in found] == [len(trials), len(epochs)], "a point is there twice"
    return found


def unchanged(before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]) -> bool:
    held = list(after)
    return all(row in held for row in before)


def test_a_grid_that_is_extended_comes_to_the_record_of_the_larger_grid(tmp_path: Path) -> None:
    sweep(tmp_path, "mine", *PAPER, "--learning-rates", "0.01")
    store = Store(str(tmp_path / "mine"))
    trials, epochs = store.read_trials().to_pylist(), store.read_epochs().to_pylist()
    ended = sweep(tmp_path, "mine", "--resume")
    assert "The run mine has ended: 1 completed; nothing is left to run." in ended
    assert len(store.read_run().executions) == 1

    more = ("--resume", "--extend", "--learning-rates", "0.01", "0.005", "--seeds", "2")
    shown = sweep(tmp_path, "mine", *more, "--dry-run")
    assert shown.count("lr 0.005 seed") == 2
    assert shown.count("lr 0.01 seed 1") == 1
    assert shown.count("lr 0.01 seed 0") == 0
    assert store.read_trials().to_pylist() == trials
    assert not store.read_run().extended

    said = sweep(tmp_path, "mine", *more)
    assert "4 trials, 12 epochs; ended before: 1 trial" in said
    # Times too: no epoch was trained again.
    assert unchanged(trials, store.read_trials().to_pylist())
    assert unchanged(epochs, store.read_epochs().to_pylist())
    document = store.read_run()
    (entry,) = document.extended
    assert entry.changes == {
        "lr": Change(recorded="{0.01}", given="{0.01, 0.005}"),
        "seeds": Change(recorded="1", given="2"),
    }
    assert "--extend" in entry.command
    assert document.planned_trials == 4
    assert document.study.space == Space(lr=Choice((0.01, 0.005)))

    sweep(tmp_path, "whole", *PAPER, "--learning-rates", "0.01", "0.005", "--seeds", "2")
    assert by_point(store) == by_point(Store(str(tmp_path / "whole")))
    # The command that extended it may come again.
    assert "The run mine has ended: 4 completed" in sweep(tmp_path, "mine", *more)
    assert store.read_run() == document


@pytest.mark.chaos
def test_what_was_confirmed_stays_and_what_is_chosen_now_is_confirmed_also_when_cut_off(tmp_path: Path) -> None:
    # The first rate is too small to learn anything, so that the choice changes.
    sweep(tmp_path, "mine", *HOLDOUT, "--learning-rates", "0.0001", "--seeds", "1")
    store = Store(str(tmp_path / "mine"))
    before = store.read_trials().to_pylist()
    more = ("--learning-rates", "0.0001", "0.01", "--seeds", "2")
    interrupted(tmp_path, ("--resume", "--extend", *more), "[3/", "mine")
    assert len(store.read_run().extended) == 1
    sweep(tmp_path, "mine", "--resume")
    after = store.read_trials().to_pylist()
    assert unchanged(before, after)
    sweep(tmp_path, "whole", *HOLDOUT, *more)
    ours, theirs = by_point(store), by_point(Store(str(tmp_path / "whole")))
    for mine, whole in zip(ours, theirs, strict=True):
        assert {key: mine[key] for key in whole} == whole
    (superseded,) = (key for key in ours[0] if key not in theirs[0])
    assert dict(zip(POINT, superseded, strict=True)).items() >= {"phase": "confirm", "params": '{"lr":0.0001}'}.items()
    assert store.read_run().planned_trials == len(after) == 5
    assert len(store.read_run().extended) == 1
    assert "The run mine has ended: 5 completed" in sweep(tmp_path, "mine", "--resume")

    # The table shows the choice's errors, and none of what is confirmed no longer.
    tables = []
    for name in ("mine", "whole"):
        table = [*command(tmp_path)[:2], "analysis", "table", str(tmp_path / name), "--format", "csv"]
        shown = subprocess.run(table, capture_output=True, text=True, env=environment(), check=True).stdout
        tables.append(shown.splitlines()[1].split(",")[:9])
    assert tables[0] == tables[1]


CONSTANT = """
from dataclasses import replace

from sweep.study.catalog import STUDIES, register_study


@register_study("constant")
def constant():
    quickstart = STUDIES["quickstart"]()
    return replace(quickstart, name="constant", base=replace(quickstart.base, drops=()))
"""


def test_trials_with_a_constant_rate_go_on_to_more_epochs(tmp_path: Path) -> None:
    plugin = tmp_path / "constant.py"
    plugin.write_text(CONSTANT)
    study = ("constant", "--plugins", str(plugin), *STUDY[1:3], *STUDY[5:], "--max-concurrent", "1")
    study = (*study, "--protocol", "paper")
    sweep(tmp_path, "mine", *study, "--epochs", "2")
    store = Store(str(tmp_path / "mine"))
    epochs = store.read_epochs().to_pylist()
    said = sweep(tmp_path, "mine", "--resume", "--extend", "--epochs", "4")
    assert "[2/2]" in said
    assert unchanged(epochs, store.read_epochs().to_pylist()), "no epoch was trained again"
    sweep(tmp_path, "whole", *study, "--epochs", "4")
    assert without_times(store) == without_times(Store(str(tmp_path / "whole")))


def test_the_variants_of_a_run_are_trained_one_at_a_time(tmp_path: Path) -> None:
    begun = ("quickstart", "--train-size", "200", "--epochs", "1", "--width", "0.05", "--max-concurrent", "1")
    begun = (*begun, "--protocol", "holdout", "--learning-rates", "0.01", "--seeds", "1")
    sweep(tmp_path, "mine", *begun, "--variants", "strided-cnn-a")
    store = Store(str(tmp_path / "mine"))
    more = ("--variants", "strided-cnn-a", "strided-cnn-b", "strided-cnn-c")
    said = sweep(tmp_path, "mine", "--resume", "--extend", *more, "--only", "strided-cnn-b")
    assert "Only strided-cnn-b ran; 3 other trials are left. Resume with: " in said

    def trained() -> list[tuple[str, str]]:
        rows = store.read_trials().to_pylist()
        assert {row["state"] for row in rows} == {"completed"}
        return sorted((row["variant"][-1], row["phase"]) for row in rows)

    assert trained() == [("a", "confirm"), ("a", "search"), ("b", "search")]
    # With its search that of every variant has ended, so that the second phase begins, of this variant alone.
    said = sweep(tmp_path, "mine", "--resume", "--only", "strided-cnn-c")
    assert "confirming  shapes/none/strided-cnn-c: learning rate 0.01" in said
    assert "strided-cnn-b: learning rate" not in said
    assert "Only strided-cnn-c ran; 1 other trial is left. Resume with: " in said
    assert trained() == [("a", "confirm"), ("a", "search"), ("b", "search"), ("c", "confirm"), ("c", "search")]
    said = sweep(tmp_path, "mine", "--resume", "--only", "strided-cnn-c")
    assert "Only strided-cnn-c ran; 1 other trial is left." in said
    assert len(trained()) == 5
