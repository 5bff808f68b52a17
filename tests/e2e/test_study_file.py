"""A study of one's own from `sweep.init`: cut off with Ctrl-C, gone on with without being named again."""

from pathlib import Path

from sweep.init import main as init
from sweep.store import Store
from tests.e2e.test_interrupt import go_on, interrupted, run


def test_a_study_of_ones_own_runs_is_cut_off_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "my_study.py"
    assert init([str(file)]) == 0
    study = (f"{file}:study", "--train-size", "1000", "--epochs", "2", "--variants", "my-net", "--max-concurrent", "1")
    rest, _ = interrupted(tmp_path, (*study, "--seeds", "2"), "[1/4]", "own")
    done = run(go_on(rest))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| my-net" in done.stdout
    store = Store(str(tmp_path / "own"))
    rows = store.read_trials().to_pylist()
    assert [row["state"] for row in rows] == ["completed"] * 4
    assert {(row["dataset"], row["variant"]) for row in rows} == {("my-stripes", "my-net")}
    assert store.read_study()["study"]["base"]["plugins"] == [str(file)]
