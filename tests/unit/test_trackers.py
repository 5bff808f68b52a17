"""What other tools are told, read back with their own readers; and that none of them can disturb a run."""

import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.monitor import trackers
from sweep.monitor.trackers import Tracker, Trackers, check_logs, make_trackers
from sweep.record.params import write_params
from sweep.record.store import Store
from sweep.run import main
from sweep.study.catalog import STUDIES

TRIAL = {
    "trial_id": "shapes_none_model-c_search_0_0",
    "phase": "search",
    "dataset": "shapes",
    "augmentation": "none",
    "variant": "model-c",
    "lr": 0.01,
    "params": write_params(
        {"lr": 0.01, "bias_weight_decay": False, "max_grad_norm": None, "initialisation": "he", "options.depth": 3}
    ),
    "seed": 0,
    "state": "running",
    "reason": "",
    "epochs_run": 2,
    "val_error": 0.25,
    "test_error": None,
}
PARAMS = {
    "phase": "search",
    "dataset": "shapes",
    "augmentation": "none",
    "variant": "model-c",
    "lr": 0.01,
    "seed": 0,
    "bias_weight_decay": "false",
    "max_grad_norm": "none",
    "initialisation": "he",
    "options.depth": 3,
}
"""What the tools are told of `TRIAL`."""

EPOCHS = [
    {"epoch": 1, "train_loss": 2.0, "train_error": 0.75, "val_error": 0.5, "test_error": None},
    {"epoch": 2, "train_loss": 1.0, "train_error": 0.5, "val_error": 0.25, "test_error": None},
]


def logged(name: str, folder: Path, *, state: str = "completed") -> list[str]:
    """Write one trial to a tool as a run would, and return what was said."""
    said: list[str] = []
    following = make_trackers([name], Store(str(folder)), STUDIES["quickstart"](), said.append)
    for epoch in EPOCHS:
        following.epoch(TRIAL, epoch)
        following.change(TRIAL)
    following.change(TRIAL | {"state": state})
    following.close()
    return said


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_each_trials_curves(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    assert logged("tensorboard", tmp_path) == []
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name == TRIAL["trial_id"]
    events = accumulator.EventAccumulator(str(folder)).Reload()
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert curves == {
        "train_loss": [(1, 2.0), (2, 1.0)],
        "train_error": [(1, 0.75), (2, 0.5)],
        "val_error": [(1, 0.5), (2, 0.25)],
        "final/val_error": [(2, 0.25)],
    }
    # What the page HPARAMS shows: the settings.
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    kinds = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    assert {name: getattr(value, kinds[name]) for name, value in start.hparams.items()} == PARAMS
    assert (kinds["lr"], kinds["options.depth"]) == ("number_value", "number_value")


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_each_trial_and_a_resumed_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert logged("mlflow", tmp_path, state="pending") == []
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("quickstart")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert logged("mlflow", tmp_path) == []
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (TRIAL["trial_id"], "FINISHED")
    assert run.data.params == {name: str(value) for name, value in PARAMS.items()}
    assert run.data.tags["state"] == "completed"
    assert run.data.metrics["val_error"] == 0.25
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert {(m.step, m.value) for m in history} == {(1, 2.0), (2, 1.0)}


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Return a file's records: LevelDB's log format behind 7 bytes of W&B's own. The library has no reader of it."""
    block, header = 32_768, 7
    assert data[:4] == b":W&B"
    at, record = header, b""
    while at + header <= len(data):
        if block - at % block < header:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + header])
        record += data[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline_into_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert logged("wandb", tmp_path) == []
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    names, losses, configs = [], [], []
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            names.append(record.run.display_name)
            configs.append({item.key: json.loads(item.value_json) for item in record.run.config.update})
        if record.HasField("history"):
            items = {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
            losses.append((items["_step"], items["train_loss"]))
    assert names[0] == TRIAL["trial_id"]
    assert configs[0].items() >= PARAMS.items()
    assert [(int(step), float(loss)) for step, loss in losses] == [(1, 2.0), (2, 1.0)]


class Broken(Tracker):
    def _begin(self, trial: Any) -> str:
        return "begun"

    def _log(self, run: Any, numbers: Any, step: int) -> None:
        raise OSError("no such\nserver")

    def _finish(self, run: Any, trial: Any) -> None:
        raise KeyError("no such trial")


def test_a_tool_that_fails_is_said_once_and_fails_nothing() -> None:
    said: list[str] = []
    following = Trackers({"broken": Broken}, said.append)
    for epoch in EPOCHS:
        following.epoch(TRIAL, epoch)
    following.change(TRIAL | {"state": "failed"})
    following.close()
    assert said == ["The log broken is not complete (OSError: no such server); the run and its record go on."]


def test_a_tool_that_cannot_begin_is_said_once() -> None:
    said: list[str] = []

    def make() -> Tracker:
        raise RuntimeError("no login")

    following = Trackers({"mine": make}, said.append)
    following.epoch(TRIAL, EPOCHS[0])
    following.close()
    assert said == ["The log mine is not complete (RuntimeError: no login); the run and its record go on."]


def test_a_tool_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "DRAIN_S", 0.05)
    said: list[str] = []
    go_on = threading.Event()

    def make() -> Tracker:
        go_on.wait()
        return Broken()

    following = Trackers({"slow": make}, said.append)
    following.epoch(TRIAL, EPOCHS[0])
    following.close()
    assert said == [
        "The log slow is not complete (it has not taken everything within 0.05 s); the run and its record go on."
    ]
    go_on.set()


def test_what_was_passed_on_does_not_change_with_the_row() -> None:
    taken: list[Any] = []
    may_take = threading.Event()

    class Slow(Tracker):
        def _begin(self, trial: Any) -> Any:
            may_take.wait()
            return trial["epochs_run"]

        def _log(self, run: Any, numbers: Any, step: int) -> None:
            taken.append((run, step))

        def _finish(self, run: Any, trial: Any) -> None:
            taken.append(trial and trial["state"])

    following = Trackers({"slow": Slow}, print)
    row = dict(TRIAL)
    following.epoch(row, EPOCHS[0])
    row["epochs_run"] = 9
    following.change(row)
    following.change(row | {"state": "diverged"})
    following.epoch(row | {"trial_id": "another"}, EPOCHS[1])
    may_take.set()
    following.close()
    assert taken == [(2, 1), "diverged", (9, 2), None], "the other one has not ended"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "log must name at least one of tensorboard, mlflow, wandb, got none."),
        (("tensorbord",), "log must be one of tensorboard, mlflow, wandb, got 'tensorbord'."),
    ],
)
def test_tools_that_are_none_are_refused(
    names: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", "--dry-run", "--output", str(tmp_path / "runs"), "--log", *names]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_tool_whose_library_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.LIBRARIES, "wandb", "no_such_library_anywhere")
    with pytest.raises(ValueError, match=r"^log must name tools whose library is installed, got 'wandb'; pip install "):
        check_logs(["wandb"], "/runs/x")


def test_an_object_store_takes_no_event_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trackers.LIBRARIES:
        monkeypatch.setitem(trackers.LIBRARIES, name, "json")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in trackers.LIBRARIES:
        with pytest.raises(ValueError, match="log must be left out where a run lies in an object store, got "):
            check_logs([name], "s3://bucket/run")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    check_logs(["mlflow"], "s3://bucket/run")
