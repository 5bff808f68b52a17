"""The record: rows are never lost, never doubled, and a reader never sees half a file."""

from pathlib import Path
from typing import Any

import pytest

from sweep.records import EPOCHS, TRIALS
from sweep.recorder import FLUSH_AFTER_S, MERGE_AFTER_PARTS, Recorder
from sweep.store import Store, check_name
from trainables.config import TrialConfig


def epoch_row(trial_id: str, epoch: int, loss: float = 1.0) -> dict[str, Any]:
    return dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": epoch, "train_loss": loss}


@pytest.fixture(params=["folder", "uri"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run") if request.param == "folder" else f"file://{tmp_path}/run")


def test_of_two_rows_for_one_epoch_the_later_counts(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.append_epochs([epoch_row("a", 1, 9.0), epoch_row("b", 1)])
    store.append_epochs([epoch_row("a", 2), epoch_row("a", 1, 3.0)])
    assert store.count_parts() == 2
    before = store.read_epochs()
    assert [(row["trial_id"], row["epoch"], row["train_loss"]) for row in before.to_pylist()] == [
        ("a", 1, 3.0),
        ("a", 2, 1.0),
        ("b", 1, 1.0),
    ]
    store.merge_epochs()
    assert store.count_parts() == 1
    assert store.read_epochs() == before
    store.merge_epochs(keep={"b"})
    assert store.read_epochs()["trial_id"].to_pylist() == ["b"]


def test_no_temporary_file_is_left_beside_the_record(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.write_trials([dict.fromkeys(TRIALS.names) | {"trial_id": "b"}, dict.fromkeys(TRIALS.names) | {"trial_id": "a"}])
    store.write_study({"study": {}})
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["study.json", "trials.parquet"]
    assert store.read_trials()["trial_id"].to_pylist() == ["a", "b"]
    assert store.read_trials().schema.metadata == {b"schema_version": b"1"}


def test_a_file_uri_and_a_folder_hold_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "epochs").mkdir()
    uri = Store(f"file://{folder}")
    uri.write_study({"study": {"name": "x"}})
    uri.append_epochs([epoch_row("a", 1)])
    local = Store(str(folder))
    assert local.read_study()["study"] == {"name": "x"}
    assert len(local.read_epochs()) == 1


def test_an_empty_place_is_no_run(store: Store) -> None:
    assert not store.exists()
    assert store.is_empty()
    assert len(store.read_trials()) == len(store.read_epochs()) == 0
    with pytest.raises(ValueError, match=r"A run's folder must hold study.json, got .*run, which does not\."):
        store.read_study()


def test_broken_records_are_refused_in_words(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study.json must be JSON, got a broken file"):
        store.read_study()
    (tmp_path / "study.json").write_text('{"schema_version": 99}')
    with pytest.raises(ValueError, match=r"must hold a record of version 1, got 99\."):
        store.read_study()
    (tmp_path / "trials.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"trials.parquet must be a whole Parquet file, got one that cannot be read"):
        store.read_trials()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden", "a b", "a" * 101, "a\n"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name must be at most 100 letters, digits, dots, hyphens and underscores"):
        check_name(name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TuneTrial:
    """As much of Ray's Trial as a callback reads."""

    def __init__(self, trial_id: str, epochs: int = 3) -> None:
        config = TrialConfig(dataset="shapes", variant="model-a", lr=0.1, epochs=epochs)
        self.config = {"trial_id": trial_id, "cell": config.cell, "config": config.to_dict()}

    def get_error(self) -> Exception:
        return RuntimeError("Traceback:\n  file.py\nOutOfMemoryError: no memory left\n")


def report(epoch: int, state: str = "running", error: float = 0.5) -> dict[str, Any]:
    return {
        **{"epoch": epoch, "lr": 0.1, "train_loss": 1.0, "train_error": 0.5, "val_error": None, "test_error": error},
        **{"train_images": 100, "test_images": 50, "epoch_s": 2.0, "train_s": 1.0, "state": state, "reason": "why"},
        **{"num_parameters": 7, "precision": "float32", "memory_format": "contiguous", "device": "cpu"},
        "hostname": "here",
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(recorder: Recorder, trial: TuneTrial, *reports: dict[str, Any]) -> None:
    recorder.on_trial_start(0, [], trial)
    for each in reports:
        recorder.on_trial_result(0, [], trial, each)


def test_states_say_how_trials_ended(tmp_path: Path, clock: Clock) -> None:
    store, ended = Store(str(tmp_path / "run")), []
    cut = [False]
    recorder = Recorder(store, is_interrupted=lambda: cut[0], on_end=lambda row: ended.append(row["trial_id"]), clock=clock)
    run(recorder, done := TuneTrial("completed"), report(1), report(2), report(3, "completed"))
    recorder.on_trial_complete(0, [], done)
    run(recorder, early := TuneTrial("stopped"), report(1))
    recorder.on_trial_complete(0, [], early)
    run(recorder, dead := TuneTrial("diverged"), report(1, "diverged", 1.0))
    recorder.on_trial_complete(0, [], dead)
    run(recorder, broken := TuneTrial("failed"), report(1))
    recorder.on_trial_error(0, [], broken)
    cut[0] = True
    run(recorder, late := TuneTrial("pending"), report(1))
    recorder.on_trial_complete(0, [], late)

    rows = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    assert {name: row["state"] for name, row in rows.items()} == {name: name for name in rows}
    assert len(rows) == 5
    assert rows["failed"]["reason"] == "OutOfMemoryError: no memory left"
    assert rows["diverged"]["reason"] == "why"
    assert rows["stopped"]["reason"] == "early stopping after epoch 1"
    assert rows["pending"]["reason"] == "interrupted after epoch 1"
    assert rows["completed"]["epochs_run"] == 3
    assert rows["completed"]["train_s"] == 3.0
    assert rows["completed"]["images_per_s"] == 100.0
    assert ended == ["completed", "stopped", "diverged", "failed"]
    assert len(store.read_epochs()) == 7


def test_a_report_that_comes_twice_is_recorded_once(tmp_path: Path, clock: Clock) -> None:
    store = Store(str(tmp_path / "run"))
    recorder = Recorder(store, clock=clock)
    run(recorder, TuneTrial("a"), report(1), report(1), report(2))
    recorder.close()
    assert store.read_epochs()["epoch"].to_pylist() == [1, 2]
    assert store.read_trials()["state"].to_pylist() == ["pending"]


def test_rows_are_readable_while_the_run_goes_on(tmp_path: Path, clock: Clock) -> None:
    store = Store(str(tmp_path / "run"))
    recorder = Recorder(store, clock=clock)
    run(recorder, trial := TuneTrial("a"), report(1))
    assert store.read_trials()["state"].to_pylist() == ["running"]
    assert len(store.read_epochs()) == 0
    clock.now += FLUSH_AFTER_S
    recorder.on_trial_result(0, [], trial, report(2))
    assert len(store.read_epochs()) == 2


def test_parts_are_merged_before_there_are_too_many(tmp_path: Path, clock: Clock) -> None:
    store = Store(str(tmp_path / "run"))
    recorder = Recorder(store, clock=clock)
    recorder.on_trial_start(0, [], trial := TuneTrial("a", epochs=100))
    for epoch in range(1, MERGE_AFTER_PARTS + 5):
        clock.now += FLUSH_AFTER_S
        recorder.on_trial_result(0, [], trial, report(epoch))
    assert store.count_parts() < 10
    assert store.read_epochs()["epoch"].to_pylist() == list(range(1, MERGE_AFTER_PARTS + 5))


def test_a_run_that_goes_on_keeps_its_rows(tmp_path: Path, clock: Clock) -> None:
    store = Store(str(tmp_path / "run"))
    first = Recorder(store, clock=clock)
    run(first, done := TuneTrial("a", epochs=1), report(1, "completed"))
    first.on_trial_complete(0, [], done)
    first.close()
    recorded = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    second = Recorder(store, recorded=recorded, clock=clock)
    run(second, more := TuneTrial("b", epochs=1), report(1, "completed"))
    second.on_trial_complete(0, [], more)
    assert store.read_trials()["trial_id"].to_pylist() == ["a", "b"]
    assert len(store.read_epochs()) == 2
