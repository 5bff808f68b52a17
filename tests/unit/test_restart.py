"""Trials that were cut off and have lost their checkpoints: their rows are as before their first epoch."""

from pathlib import Path
from typing import Any

import pytest

from sweep.cluster.connect import Cluster
from sweep.execution.plan import check_study, make_plan, open_data
from sweep.execution.restart import restarted, without_checkpoint
from sweep.execution.tune import run_trials
from sweep.record.damage import salvage_record
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from tests.standings import row

KEPT = {"preemptions": 1, "retries": 2, "retry_reasons": "a; b", "duration_s": 8.0}
MEASURED = {"val_error": 0.4, "test_error": 0.5, "test_top5_error": 0.1, "num_parameters": 9, "images_per_s": 5.0}
PLACE = {"node": "a", "device": "NVIDIA H100", "precision": "bfloat16", "memory_format": "channels_last"}
PLACE |= {"compiled": True}


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """Return a run of five trials: one ended, one with a checkpoint, and three without, of which one has no epochs."""
    store = Store(str(tmp_path / "run"))
    rows = [
        row("model-a", 0.1, state, number=number, epochs_run=epochs, train_s=3.0, **KEPT, **MEASURED, **PLACE)
        | {"trial_id": f"t{number}"}
        for number, (state, epochs) in enumerate(
            (("completed", 2), ("pending", 2), ("running", 2), ("pending", 0), ("pending", 0))
        )
    ]
    # A process that was killed had written epochs of t3 and not yet the row that counts them.
    reported = [(name, epoch) for name in ("t0", "t1", "t2", "t3") for epoch in (1, 2)]
    store.append_epochs([{"trial_id": name, "epoch": epoch, "test_error": 0.5} for name, epoch in reported[:5]])
    store.append_epochs([{"trial_id": name, "epoch": epoch, "test_error": 0.5} for name, epoch in reported[5:]])
    store.write_trials(rows)
    store.write_file("checkpoints/t1/previous.pt", b"network")
    return store


def rows_of(store: Store) -> dict[str, dict[str, Any]]:
    return {one["trial_id"]: one for one in store.read_trials().to_pylist()}


def test_trials_without_a_checkpoint_lose_what_their_epochs_said_and_others_nothing(run: Store) -> None:
    before = rows_of(run)
    assert without_checkpoint(run, before) == {"t2", "t3", "t4"}
    after = restarted(run, before)
    assert rows_of(run) == after
    assert {name: after[name] for name in ("t0", "t1", "t4")} == {name: before[name] for name in ("t0", "t1", "t4")}
    for name in ("t2", "t3"):
        assert after[name] == before[name] | dict.fromkeys([*MEASURED, *PLACE]) | {
            "epochs_run": 0,
            "train_s": 0.0,
            "state": "pending",
            "reason": "no checkpoint: restarts from epoch 1",
        }
    assert run.read_epochs()["trial_id"].to_pylist() == ["t0", "t0", "t1", "t1"]
    assert salvage_record(run).damages == ()


def test_a_second_time_nothing_is_written(run: Store) -> None:
    after = restarted(run, rows_of(run))
    before = {file: file.stat().st_mtime_ns for file in Path(run.location).rglob("*")}
    assert restarted(run, after) == after
    assert {file: file.stat().st_mtime_ns for file in Path(run.location).rglob("*")} == before


def test_a_run_in_which_every_trial_ended_is_not_read(tmp_path: Path) -> None:
    ended = {"t0": row("model-a", 0.1, "completed")}
    assert restarted(Store(str(tmp_path / "nowhere")), ended) == ended
    assert not (tmp_path / "nowhere").exists()


def test_trials_of_variants_that_do_not_run_now_keep_their_rows_and_epochs(run: Store) -> None:
    before = rows_of(run)
    before["t3"] |= {"variant": "model-b", "epochs_run": 2}
    run.write_trials(list(before.values()))
    assert without_checkpoint(run, before, ("model-a",)) == {"t2", "t4"}
    after = restarted(run, before, ("model-a",))
    assert (after["t3"], after["t2"]["epochs_run"]) == (before["t3"], 0)
    assert rows_of(run) == after
    assert run.read_epochs()["trial_id"].to_pylist() == ["t0", "t0", "t1", "t1", "t3", "t3"]


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(("only", "restarts"), [(("model-c",), {"model-c"}), (None, {"model-c", "all-cnn-c"})])
def test_a_run_restarts_the_variants_that_it_deals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: tuple[str, ...] | None, restarts: set[str]
) -> None:
    options = RunOptions(variants=("model-c", "all-cnn-c"), train_size=100, epochs=3, learning_rates=(0.01,))
    study = options.apply(STUDIES["quickstart"]())
    machine = Cluster(nodes=((2, 0),), address="this machine")
    plan = make_plan(
        study, parameters=check_study(study), datasets=open_data(study), cluster=machine, workers=None, gpus=0
    )
    store = Store(str(tmp_path / "run"))
    rows = {
        f"shapes_none_{variant}_0000": row(variant, 0.01, "pending", epochs_run=2, **KEPT, **MEASURED, **PLACE)
        | {"trial_id": f"shapes_none_{variant}_0000", "dataset": "shapes"}
        for variant in study.variants
    }
    store.write_trials(list(rows.values()))
    store.append_epochs([{"trial_id": name, "epoch": epoch} for name in rows for epoch in (1, 2)])
    # All but Ray.
    monkeypatch.setattr("sweep.execution.tune._tune", lambda *_: None)
    run_trials(plan, store, recorded=restarted(store, rows, only), is_interrupted=lambda: False, only=only)
    assert {row["variant"] for row in rows_of(store).values() if row["epochs_run"] == 0} == restarts
    kept = {name for name, row in rows.items() if row["variant"] not in restarts}
    assert set(store.read_epochs()["trial_id"].to_pylist()) == kept
