"""A run that was interrupted, packed, and resumed in another folder from what was packed."""

import subprocess
from pathlib import Path

from sweep.record.pack import main, pack
from sweep.record.store import Store
from tests.e2e.conftest import command, without_times
from tests.e2e.test_interrupt import GRID, interrupted, run

# At once, and the second one is the larger network: when the first one has ended it is on its way.
TWO_AT_ONCE = (
    *("quickstart", "--train-size", "400", "--epochs", "8", "--width", "0.1", "--protocol", "holdout", "--seeds", "1"),
    *("--variants", "strided-cnn-a", "convpool-cnn-c", "--learning-rates", "0.01", "--max-concurrent", "2"),
)


def resume(output: Path) -> subprocess.CompletedProcess[str]:
    return run(command(output, "--resume", "--name", "cut")[1:])


def test_without_checkpoints_both_phases_come_to_the_record_of_the_run_that_stayed(tmp_path: Path) -> None:
    interrupted(tmp_path, TWO_AT_ONCE, "[1/4]", "cut")
    store = Store(str(tmp_path / "cut"))
    before = {row["trial_id"]: row for row in store.read_trials().to_pylist() if row["state"] == "completed"}
    assert main([store.location, str(tmp_path / "cut.tar.gz")]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "cut.tar.gz"), "-C", str(elsewhere)], check=True)
    packed = Store(str(elsewhere / "cut"))
    assert without_times(packed) == without_times(store)

    for output in (tmp_path, elsewhere):
        resumed = resume(output)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert "lost" not in resumed.stdout
    assert without_times(packed) == without_times(store)
    trials = {row["trial_id"]: row for row in packed.read_trials().to_pylist()}
    assert len(trials) == 4
    # Those that had ended were not trained again: that would have taken another time.
    assert before.items() <= trials.items()
    assert packed.read_run().study == store.read_run().study


def test_with_checkpoints_no_epoch_is_trained_again(tmp_path: Path) -> None:
    interrupted(tmp_path, GRID, "[1/2]", "cut")
    trained = Store(str(tmp_path / "cut")).read_epochs().to_pylist()
    pack(str(tmp_path / "cut"), str(tmp_path / "elsewhere" / "cut"), checkpoints=True)
    resumed = resume(tmp_path / "elsewhere")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    packed = Store(str(tmp_path / "elsewhere" / "cut"))
    kept = packed.read_epochs().to_pylist()
    assert len(kept) == 16
    assert all(epoch in kept for epoch in trained)
    assert {row["state"] for row in packed.read_trials().to_pylist()} == {"completed"}
