"""A run that is resumed from its record, and records that cannot be: refused before Ray is started."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.cluster.connect import Cluster
from sweep.execution.plan import check_study, make_plan, open_data
from sweep.record.store import Store
from sweep.resume.provenance import describe_run
from sweep.run import main
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from tests.image_sets import tiny_cifar10
from tests.refusals import refused
from tests.reported import trial

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def parquet_data(tmp_path: Path) -> Path:
    """Return a folder with a CIFAR-10 of 20 training and 10 test images."""
    return tiny_cifar10(tmp_path / "data")


@pytest.fixture
def recorded(tmp_path: Path, parquet_data: Path) -> list[str]:
    """Return the options that go on with a run of the twenty images that has just begun."""
    study = RunOptions(data=str(parquet_data), variants=("all-cnn-c", "model-c")).apply(STUDIES["cifar10"]())
    machine = Cluster(nodes=((2, 0),), address="this machine")
    plan = make_plan(
        study, parameters=check_study(study), datasets=open_data(study), cluster=machine, workers=1, gpus=0
    )
    Store(str(tmp_path / "runs" / "mine")).write_run(describe_run(plan, []))
    return ["--resume", "--name", "mine", "--dry-run"]


def test_a_run_goes_on_as_recorded(tmp_path: Path, recorded: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*recorded, "--output", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "14 trials, 4,900 epochs" in said
    assert "each in 1 worker of its own" in said


def test_a_resumed_run_keeps_its_arithmetic_and_says_what_has_changed(
    tmp_path: Path, recorded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "runs" / "mine"))
    run = store.read_run()
    (began,) = run.executions
    store.write_run(replace(run, executions=(replace(began, packages={**began.packages, "torch": "1.0"}),)))
    done = trial(0, variant="all-cnn-c", state="completed", epochs_budget=350)
    store.write_trials([done | {"precision": "float32", "memory_format": "contiguous", "compiled": False}])
    assert main([*recorded, "--output", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    assert "note  packages torch was 1.0 when the run began and is " in said
    assert "ended before: 1 trial" in said
    assert "float32, contiguous, compiled where a trial is long enough on a GPU" in said


def test_a_run_that_another_process_writes_is_refused(
    tmp_path: Path, recorded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(str(tmp_path / "runs" / "mine")).locked():
        said = refused(tmp_path, capsys, *recorded[:-1])
    assert "A run must be written by one process, got " in said


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({"variants": None}, "variants must be a tuple, each item text, got None."),
        ({"space": {"lr": {"kind": "choice"}}}, "lr: must hold values, got nothing."),
        ({"space": {"lrr": {"kind": "choice", "values": [1]}}}, "There is no hyperparameter 'lrr'"),
        ({"nope": 1}, "A study must hold known fields only, got 'nope'."),
        ({"variants": ...}, "A study must hold variants, got none."),
        ({"base": ...}, "A study must hold base, got none."),
    ],
)
def test_a_damaged_study_is_refused(
    tmp_path: Path, recorded: list[str], capsys: pytest.CaptureFixture[str], damage: dict[str, Any], text: str
) -> None:
    file = tmp_path / "runs" / "mine" / "study.json"
    document = json.loads(file.read_text())
    document["study"] |= damage
    document["study"] = {name: value for name, value in document["study"].items() if value is not ...}
    file.write_text(json.dumps(document))
    said = refused(tmp_path, capsys, *recorded)
    assert f"study.json must hold what a run writes, got something else ({text}" in said


@pytest.mark.parametrize("name", ["plugins", "workers", "placement", "executions"])
def test_a_document_that_lacks_a_part_is_refused(
    tmp_path: Path, recorded: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / "runs" / "mine" / "study.json"
    document = json.loads(file.read_text())
    del document[name]
    file.write_text(json.dumps(document))
    assert f"study.json must hold what a run writes, got something else (A run must hold {name}, got none.)" in refused(
        tmp_path, capsys, *recorded
    )
