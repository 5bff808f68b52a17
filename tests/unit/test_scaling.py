"""The benchmark of scaling: what it refuses, what it calls ideal, and the trial that only takes time."""

import cProfile
import pstats
import re
from pathlib import Path
from typing import Any

import pytest

import sweep
from benchmarks.scaling import PARTS, VARIANTS, Setting, main, profile_rows, sleep_and_compute
from sweep.execution.recorder import Recorder
from sweep.record.store import Store
from trainables.epoch_report import EpochReport


def setting(**values: Any) -> Setting:
    usual = {"nodes": 2, "slots": 2, "trials": 40, "epochs": 4, "epoch_s": 0.5, "compute_s": 0.0}
    return Setting(**usual | {"search": "random", "early_stopping": "none"} | values)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nodes", "0"], "nodes must be at least 1 and at most 64, got 0."),
        (["--nodes", "2", "65"], "nodes must be at least 1 and at most 64, got 65."),
        (["--slots", "0"], "slots must be at least 1 and at most 64, got 0."),
        (["--trials", "10"], "trials must be a multiple of 4, the cells, got 10."),
        (["--trials", "20000"], "trials must be at least 1 and at most 10000, got 20000."),
        (["--epochs", "0"], "epochs must be at least 1 and at most 1000, got 0."),
        (["--compute-s", "1"], "compute_s must be at least 0 and at most epoch_s, 0.5, got 1."),
        (["--epoch-s", "nan"], "compute_s must be at least 0 and at most epoch_s, nan, got 0.005."),
        (["--early-stopping", "maybe"], "early_stopping must be one of none, asha, halving, got 'maybe'."),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"error: {sentence}\n")


@pytest.mark.parametrize(("trials", "nodes", "ideal_s"), [(40, 1, 40.0), (40, 2, 20.0), (100, 8, 14.0), (4, 8, 2.0)])
def test_the_ideal_is_full_slots_to_the_last_trial(trials: int, nodes: int, ideal_s: float) -> None:
    # 100 trials in 16 slots are 7 rounds of 4 epochs of half a second.
    assert setting(trials=trials, nodes=nodes).ideal_s == ideal_s


def test_the_trials_are_spread_over_the_cells() -> None:
    study = setting(trials=40).study()
    assert len(study.cells()) == len(VARIANTS)
    assert [study.points_of(variant) for variant in VARIANTS] == [10] * 4


def test_a_trial_reports_as_the_loop_does(tmp_path: Path) -> None:
    study = setting(epochs=3).study()
    parameters = {"trial_id": "shapes_none_model-c_0000", "phase": "search", "config": study.cells()[0].to_dict()}
    reports: list[dict[str, Any]] = []
    sleep_and_compute(parameters, epochs=3, epoch_s=0.0, compute_s=0.0, report=reports.append)
    assert [EpochReport(**report).epoch for report in reports] == [1, 2, 3]
    assert [report["state"] for report in reports] == ["running", "running", "completed"]
    assert [report["error"] for report in reports] == pytest.approx([0.6, 0.35, 0.1 + 0.5 / 3])


def test_a_profile_is_read_by_the_functions_of_the_driver(tmp_path: Path) -> None:
    profiler = cProfile.Profile()
    recorder = Recorder(Store(str(tmp_path)), setting().study())
    with profiler:
        for _ in range(3):
            recorder.flush()
    rows = {row["part"]: row for row in profile_rows(pstats.Stats(profiler), trials=2, reports=10)}
    writing = rows["all of these: writing rows and journal"]
    assert writing["calls"] == "3"
    assert rows["early stopping"]["calls"] == "0"
    assert rows["early stopping"]["ms per call"] == "-"
    assert float(writing["ms per trial"]) == pytest.approx(5 * float(writing["ms per report"]), abs=0.1)


def test_the_functions_of_the_driver_that_a_profile_is_read_by_are_there() -> None:
    own = Path(sweep.__file__).parent
    found = {(file.name, name) for file in own.rglob("*.py") for name in re.findall(r"def (\w+)\(", file.read_text())}
    of_ray = {("tune_controller.py", "step"), ("tune_controller.py", "checkpoint"), ("worker.py", "wait")}
    assert set(PARTS.values()) - of_ray <= found
