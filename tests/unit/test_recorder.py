import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from search_spaces import Choice, Space
from sweep.execution.recorder import FLUSH_AFTER_S, MERGE_AFTER_PARTS, Recorder
from sweep.execution.restart import restarted
from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store
from sweep.search.halving import Decision
from sweep.study.catalog import STUDIES
from tests.listening import listening
from trainables.config import ArchitectureConfig, TrialConfig

STUDY = replace(
    STUDIES["quickstart"](),
    variants=("all-cnn-c",),
    space=Space(lr=Choice((0.05,)), width=Choice((0.5, 1.0)), momentum_form=Choice(("pytorch", "caffe"))),
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class StandIn:
    """What the recorder reads of a Ray trial."""

    error_file: str | None = None
    pickled_error_file: str | None = None

    def __init__(self, trial_id: str, *, epochs: int = 3) -> None:
        config = TrialConfig(
            dataset="shapes", variant="all-cnn-c", lr=0.05, epochs=epochs, architecture=ArchitectureConfig(width=0.5)
        )
        self.config = {"trial_id": trial_id, "phase": "search", "cell": config.cell, "config": config.to_dict()}


def result(epoch: int, **values: Any) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "lr": 0.05,
        "train_loss": 1.0,
        "train_error": 0.5,
        "val_error": None,
        "test_error": 0.4 - epoch / 100,
        "test_top5_error": 0.1,
        "train_images": 100,
        "test_images": 50,
        "epoch_s": 2.5,
        "train_s": 2.0,
        "num_parameters": 1234,
        "node": "here",
        "device": "cpu",
        "precision": "float32",
        "memory_format": "contiguous",
        "compiled": True,
        "dead_classes": 0,
        "state": "running",
        "reason": "",
    } | values


class Bench:
    def __init__(self, folder: Path, recorded: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.store = Store(str(folder))
        self.clock = Clock()
        self.interrupted = False
        self.ended: list[dict[str, Any]] = []
        self.lost: list[dict[str, Any]] = []
        self.troubles: list[OSError | None] = []
        self.recorder = Recorder(
            self.store,
            STUDY,
            recorded=recorded,
            is_interrupted=lambda: self.interrupted,
            listener=listening(
                ended=lambda row: self.ended.append(dict(row)),
                restarted=lambda row: self.lost.append(dict(row)),
                troubled=self.troubles.append,
            ),
            clock=self.clock,
        )

    def start(self, trial: StandIn) -> None:
        self.recorder.on_trial_start(0, [], trial)  # type: ignore[arg-type]

    def report(self, trial: StandIn, epoch: int, **values: Any) -> None:
        self.recorder.on_trial_result(0, [], trial, result(epoch, **values))  # type: ignore[arg-type]

    def complete(self, trial: StandIn) -> None:
        self.recorder.on_trial_complete(0, [], trial)  # type: ignore[arg-type]

    def fail(self, trial: StandIn) -> None:
        self.recorder.on_trial_error(0, [], trial)  # type: ignore[arg-type]

    def written(self) -> dict[str, dict[str, Any]]:
        return {row["trial_id"]: row for row in self.store.read_trials().to_pylist()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


def test_a_full_length_trial_is_completed_with_all_its_numbers(bench: Bench) -> None:
    trial = StandIn("t0", epochs=2)
    bench.start(trial)
    bench.clock.now += 3
    bench.report(trial, 1)
    bench.report(trial, 2)
    bench.clock.now += 4
    bench.complete(trial)
    row = bench.written()["t0"]
    assert row["state"] == "completed"
    assert (row["epochs_run"], row["epochs_budget"], row["reason"]) == (2, 2, "")
    assert (row["variant"], row["dataset"], row["lr"], row["params"], row["seed"]) == (
        "all-cnn-c",
        "shapes",
        0.05,
        '{"lr":0.05,"momentum_form":"pytorch","width":0.5}',
        0,
    )
    assert row["test_error"] == pytest.approx(0.38)
    assert row["val_error"] is None
    assert row["train_s"] == 4.0
    assert row["images_per_s"] == 50.0  # 100 images, 2 epochs, 4 s
    assert row["duration_s"] == 7.0
    assert (row["num_parameters"], row["node"], row["device"], row["compiled"]) == (1234, "here", "cpu", True)
    assert [entry["trial_id"] for entry in bench.ended] == ["t0"]
    epochs = bench.store.read_epochs().to_pylist()
    assert [(e["trial_id"], e["epoch"], e["train_images"]) for e in epochs] == [("t0", 1, 100), ("t0", 2, 100)]


def test_a_started_trial_is_written_as_running(bench: Bench) -> None:
    bench.start(StandIn("t0"))
    assert bench.written()["t0"]["state"] == "running"
    assert bench.ended == []


def test_a_trial_that_ends_early_is_stopped(bench: Bench) -> None:
    trial = StandIn("t0")
    bench.start(trial)
    bench.report(trial, 1)
    bench.complete(trial)
    assert bench.written()["t0"]["state"] == "stopped"
    assert bench.written()["t0"]["reason"] == "early stopping after epoch 1"
    assert bench.ended[0]["state"] == "stopped"


def test_a_trial_that_reports_divergence_stays_diverged(bench: Bench) -> None:
    trial = StandIn("t0")
    bench.start(trial)
    bench.report(trial, 1, state="diverged", reason="the loss is nan", test_error=1.0)
    bench.complete(trial)
    row = bench.written()["t0"]
    assert (row["state"], row["reason"], row["test_error"]) == ("diverged", "the loss is nan", 1.0)
    assert bench.ended[0]["state"] == "diverged"


def test_divergence_at_the_last_epoch_is_not_completion(bench: Bench) -> None:
    trial = StandIn("t0", epochs=1)
    bench.start(trial)
    bench.report(trial, 1, state="diverged", reason="the loss is nan")
    bench.complete(trial)
    assert bench.written()["t0"]["state"] == "diverged"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Traceback (most recent call last):\n  File x\nValueError: no such thing\n\n", "ValueError: no such thing"),
        ("  one line ", "one line"),
        (None, "no traceback was left"),
    ],
)
def test_a_failed_trial_keeps_the_last_line_of_its_traceback(
    bench: Bench, tmp_path: Path, error: str | None, reason: str
) -> None:
    trial = StandIn("t0")
    if error is not None:
        trial.error_file = str(tmp_path / "error.txt")
        Path(trial.error_file).write_text(f"Failure # 1 (occurred at some time)\n{error}")
    bench.start(trial)
    bench.fail(trial)
    row = bench.written()["t0"]
    assert (row["state"], row["reason"]) == ("failed", reason)
    assert [entry["state"] for entry in bench.ended] == ["failed"]


def test_a_trial_that_lost_its_node_goes_on_and_nobody_is_told_that_it_failed(bench: Bench, tmp_path: Path) -> None:
    trial = StandIn("t0", epochs=2)
    bench.start(trial)
    bench.clock.now += 3
    bench.report(trial, 1)
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(ActorUnavailableError("gone", b"\0" * 16)))
    trial.pickled_error_file = str(file)
    bench.fail(trial)
    row = bench.written()["t0"]
    assert (row["state"], row["reason"], row["preemptions"]) == ("pending", "lost its node after epoch 1", 1)
    assert (bench.ended, [entry["trial_id"] for entry in bench.lost]) == ([], ["t0"])
    # Elsewhere: the old epochs come once more.
    trial.pickled_error_file = None
    bench.start(trial)
    for epoch in (1, 2):
        bench.report(trial, epoch)
    bench.clock.now += 4
    bench.complete(trial)
    row = bench.written()["t0"]
    assert (row["state"], row["reason"], row["preemptions"], row["epochs_run"]) == ("completed", "", 1, 2)
    assert row["duration_s"] == 7.0
    assert [epoch["epoch"] for epoch in bench.store.read_epochs().to_pylist()] == [1, 2]


def test_each_trial_is_completed_by_its_own_budget(bench: Bench) -> None:
    short, long = StandIn("t0", epochs=1), StandIn("t1", epochs=2)
    for trial in (short, long):
        bench.start(trial)
        bench.report(trial, 1)
        bench.complete(trial)
    assert {name: (row["state"], row["epochs_budget"]) for name, row in bench.written().items()} == {
        "t0": ("completed", 1),
        "t1": ("stopped", 2),
    }


def test_a_trial_that_never_came_up_has_a_row_and_keeps_its_old_epochs(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.append_epochs([dict.fromkeys(EPOCHS.names) | {"trial_id": "t0", "epoch": 1}])
    earlier = {"t0": dict.fromkeys(TRIALS.names) | {"trial_id": "t0", "state": "pending", "epochs_run": 1}}
    bench = Bench(tmp_path / "run", earlier)
    for name in ("t0", "t1"):
        bench.fail(StandIn(name))
    assert {name: row["state"] for name, row in bench.written().items()} == {"t0": "failed", "t1": "failed"}
    assert store.read_epochs().num_rows == 1


@pytest.mark.parametrize("state", ["completed", "diverged"])
def test_what_fails_after_a_trial_s_end_takes_nothing_back(bench: Bench, state: str) -> None:
    trial = StandIn("t0", epochs=1)
    bench.start(trial)
    bench.report(trial, 1, state=state, reason="why" if state == "diverged" else "")
    bench.complete(trial)
    bench.fail(trial)
    assert bench.written()["t0"]["state"] == state
    assert [entry["state"] for entry in bench.ended] == [state]


@pytest.mark.parametrize("way", ["complete", "fail"])
def test_an_interrupted_trial_is_pending_and_nobody_is_told(bench: Bench, way: str) -> None:
    trial = StandIn("t0")
    bench.start(trial)
    bench.report(trial, 2)
    bench.interrupted = True
    getattr(bench, way)(trial)
    row = bench.written()["t0"]
    assert (row["state"], row["reason"]) == ("pending", "interrupted after epoch 2")
    assert bench.ended == []


def test_a_trial_that_completes_during_an_interruption_is_completed(bench: Bench) -> None:
    trial = StandIn("t0", epochs=1)
    bench.start(trial)
    bench.report(trial, 1)
    bench.interrupted = True
    bench.complete(trial)
    assert bench.written()["t0"]["state"] == "completed"


def test_a_repeated_epoch_is_not_doubled(bench: Bench) -> None:
    trial = StandIn("t0")
    bench.start(trial)
    for epoch in (1, 2, 2, 1):
        bench.report(trial, epoch, train_s=2.0)
    bench.complete(trial)
    assert bench.store.read_epochs()["epoch"].to_pylist() == [1, 2]
    assert bench.written()["t0"]["train_s"] == 4.0


def test_rows_are_written_at_a_trials_end_and_after_ten_seconds(bench: Bench) -> None:
    assert FLUSH_AFTER_S == 10.0
    trial, other = StandIn("t0"), StandIn("t1")
    bench.start(trial)
    bench.start(other)
    bench.clock.now += 9.9
    bench.report(trial, 1)
    assert bench.store.read_epochs().num_rows == 0
    bench.clock.now += 0.1
    bench.report(trial, 2)
    assert bench.store.read_epochs().num_rows == 2
    assert bench.written()["t0"]["epochs_run"] == 2
    bench.report(other, 1)
    assert bench.store.read_epochs().num_rows == 2
    bench.complete(trial)
    assert bench.store.read_epochs().num_rows == 3


def test_parts_are_merged_before_they_grow_too_many(bench: Bench) -> None:
    trial = StandIn("t0", epochs=MERGE_AFTER_PARTS + 2)
    bench.start(trial)
    for epoch in range(1, MERGE_AFTER_PARTS + 2):
        bench.report(trial, epoch)
        bench.recorder.flush()
    assert bench.store.count_parts() == 1
    assert bench.store.read_epochs()["epoch"].to_pylist() == list(range(1, MERGE_AFTER_PARTS + 2))


def test_closing_makes_running_trials_pending_and_leaves_the_others(bench: Bench) -> None:
    done, running = StandIn("t0", epochs=1), StandIn("t1")
    for trial in (done, running):
        bench.start(trial)
        bench.report(trial, 1)
    bench.complete(done)
    bench.recorder.close()
    states = {name: row["state"] for name, row in bench.written().items()}
    assert states == {"t0": "completed", "t1": "pending"}
    assert bench.store.read_epochs().num_rows == 2


def test_rows_of_an_earlier_execution_stay_and_an_interrupted_trial_goes_on(tmp_path: Path) -> None:
    first = Bench(tmp_path / "run")
    done, cut = StandIn("t0", epochs=1), StandIn("t1")
    first.clock.now = 100.0
    for trial in (done, cut):
        first.start(trial)
        first.report(trial, 1)
    first.complete(done)
    first.clock.now += 5
    first.report(cut, 2)
    first.recorder.close()
    recorded = first.written()
    second = Bench(tmp_path / "run", recorded=recorded)
    second.start(cut)
    assert second.written()["t0"] == recorded["t0"]
    assert second.written()["t1"] == recorded["t1"] | {"state": "running", "reason": ""}
    # It reports its first epochs once more, and trains the others.
    second.clock.now += 3
    for epoch in (1, 2, 3):
        second.report(cut, epoch, train_s=2.0)
    second.complete(cut)
    row = second.written()["t1"]
    assert (row["state"], row["epochs_run"], row["train_s"], row["duration_s"]) == ("completed", 3, 6.0, 8.0)
    assert second.store.read_epochs()["epoch"].to_pylist() == [1, 1, 2, 3]
    assert len(second.recorder.rows) == 2


def test_what_an_earlier_attempt_reported_gives_way_to_what_the_latest_one_did(tmp_path: Path) -> None:
    first = Bench(tmp_path / "run")
    cut = StandIn("t0")
    first.start(cut)
    first.report(cut, 1, train_loss=1.0)
    first.recorder.close()
    second = Bench(tmp_path / "run", recorded=first.written())
    second.start(cut)
    second.report(cut, 1, train_loss=1.001)
    second.recorder.close()
    assert second.store.read_epochs()["train_loss"].to_pylist() == [1.001]


def decision(trial_id: str, epoch: int = 2, error: float = 0.4, **values: Any) -> Decision:
    defaults = {"cutoff": 0.3, "num_results": 3, "verdict": "stop"}
    return Decision(**{"trial_id": trial_id, "epoch": epoch, "error": error} | defaults | values)  # type: ignore[arg-type]


def test_decisions_are_flushed_with_the_epochs_in_the_order_they_were_made(bench: Bench) -> None:
    trial = StandIn("t1")
    bench.start(trial)
    assert not (Path(bench.store.location) / "decisions.parquet").exists()
    bench.recorder.decided(decision("t1", verdict="continue", error=0.2, cutoff=0.2))
    bench.recorder.decided(decision("t0"))
    bench.report(trial, 1)
    assert bench.store.read_decisions().num_rows == 0
    bench.clock.now += FLUSH_AFTER_S
    bench.report(trial, 2)
    assert bench.store.read_decisions().to_pylist() == [
        {"trial_id": "t1", "epoch": 2, "error": 0.2, "cutoff": 0.2, "num_results": 3, "verdict": "continue"},
        {"trial_id": "t0", "epoch": 2, "error": 0.4, "cutoff": 0.3, "num_results": 3, "verdict": "stop"},
    ]


def test_a_decision_told_twice_is_one_row_and_no_cut_is_null(bench: Bench) -> None:
    for _ in range(2):
        bench.recorder.decided(decision("t0", error=math.nan, cutoff=math.inf))
    bench.recorder.close()
    (row,) = bench.store.read_decisions().to_pylist()
    assert row["cutoff"] is None
    assert math.isnan(row["error"])


def test_decisions_outlive_a_resume_once_each(tmp_path: Path) -> None:
    first = Bench(tmp_path / "run")
    ended, cut = StandIn("t0"), StandIn("t1")
    for trial in (ended, cut):
        first.start(trial)
        first.report(trial, 1)
        first.recorder.decided(decision(trial.config["trial_id"], epoch=1))
    first.complete(ended)
    first.recorder.close()
    second = Bench(tmp_path / "run", recorded=first.written())
    assert second.recorder.decisions == first.store.read_decisions().to_pylist()
    second.start(cut)
    second.report(cut, 1)
    second.recorder.decided(decision("t1", epoch=1))
    second.recorder.close()
    assert second.store.read_decisions()["trial_id"].to_pylist() == ["t0", "t1"]


def test_a_trial_that_waits_is_pending_until_it_is_decided(bench: Bench) -> None:
    loser, winner = StandIn("t0"), StandIn("t1")
    for trial in (loser, winner):
        bench.start(trial)
        bench.report(trial, 1)
        bench.recorder.decided(decision(trial.config["trial_id"], epoch=1, verdict="pause"))
        bench.complete(trial)
    assert {row["reason"] for row in bench.written().values()} == {"waits after epoch 1 for others of its cell"}
    assert bench.ended == []
    assert bench.store.read_decisions().num_rows == 0, "to wait is no verdict"
    bench.recorder.decided(decision("t1", epoch=1, verdict="continue"))
    bench.recorder.decided(decision("t0", epoch=1))
    assert bench.written()["t0"]["state"] == "stopped"
    assert [row["trial_id"] for row in bench.ended] == ["t0"]
    bench.start(winner)
    for epoch in (1, 2, 3):
        bench.report(winner, epoch)
    bench.complete(winner)
    assert bench.written()["t1"]["state"] == "completed"
    assert bench.store.read_decisions()["verdict"].to_pylist() == ["continue", "stop"]


def test_what_tune_pickles_of_a_recorder_is_empty(bench: Bench) -> None:
    assert bench.recorder.__getstate__() == {}


def test_a_listener_hears_of_each_change(tmp_path: Path) -> None:
    heard: list[tuple[str, str, int]] = []
    recorder = Recorder(
        Store(str(tmp_path)),
        STUDY,
        listener=listening(changed=lambda row: heard.append((row["trial_id"], row["state"], row["epochs_run"]))),
    )
    one, other = StandIn("one", epochs=2), StandIn("other")
    recorder.on_trial_start(0, [], one)  # type: ignore[arg-type]
    recorder.on_trial_start(0, [], other)  # type: ignore[arg-type]
    for epoch in (1, 2):
        recorder.on_trial_result(0, [], one, result(epoch))  # type: ignore[arg-type]
    recorder.on_trial_complete(0, [], one)  # type: ignore[arg-type]
    recorder.on_trial_result(0, [], other, result(1))  # type: ignore[arg-type]
    recorder.close()
    assert heard == [
        ("one", "running", 0),
        ("other", "running", 0),
        ("one", "running", 1),
        ("one", "running", 2),
        ("one", "completed", 2),
        ("other", "running", 1),
        ("other", "pending", 1),
    ]


def test_a_trial_that_restarts_without_a_checkpoint_may_end_sooner_than_it_was_cut_off(tmp_path: Path) -> None:
    first = Bench(tmp_path / "run")
    trial = StandIn("t0")
    first.start(trial)
    first.report(trial, 1)
    first.report(trial, 2)
    first.interrupted = True
    first.complete(trial)
    second = Bench(tmp_path / "run", recorded=restarted(first.store, first.written()))
    second.start(trial)
    second.report(trial, 1, device="another", train_s=7.0, state="diverged", reason="loss is nan", test_error=1.0)
    second.complete(trial)
    row = second.written()["t0"]
    assert (row["state"], row["reason"], row["epochs_run"], row["test_error"]) == ("diverged", "loss is nan", 1, 1.0)
    assert (row["device"], row["train_s"]) == ("another", 7.0)
    assert [(r["epoch"], r["train_s"]) for r in second.store.read_epochs().to_pylist()] == [(1, 7.0)]
