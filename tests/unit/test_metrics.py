"""What a run's metrics show, driven by the recorder as a run drives them; only Ray's /metrics page is left out."""

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from sweep.execution.recorder import Recorder
from sweep.monitor.prometheus import METRICS, Instrument, Metric, RunMetrics, run_name
from sweep.monitor.screen import in_background
from sweep.record.params import write_params
from sweep.record.progress import Scope, arrange
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from tests.listening import listening
from tests.monitoring import exported
from trainables.config import ArchitectureConfig, TrialConfig

Shown = dict[tuple[str, ...], float]
STUDY = STUDIES["quickstart"]()
CELL = "shapes/none/all-cnn-c"


class Page:
    """What a /metrics page would hold: counters add, gauges keep the last."""

    def __init__(self) -> None:
        self.shown: Shown = {}
        self.records = 0

    def make(self, metric: Metric) -> Instrument:
        def record(value: float, tags: dict[str, str]) -> None:
            assert tuple(tags) == metric.tags
            self.records += 1
            key = (metric.name, *tags.values())
            self.shown[key] = value + (self.shown.get(key, 0) if metric.kind == "counter" else 0)

        return record

    def states(self) -> dict[str, float]:
        return {key[2]: value for key, value in self.shown.items() if key[0] == "sweep_trials" and value}


class StandIn:
    """What the recorder reads of a Ray trial."""

    error_file: str | None = None
    pickled_error_file: str | None = None

    def __init__(self, trial_id: str, *, phase: str = "search", variant: str = "all-cnn-c", lr: float = 0.05) -> None:
        config = TrialConfig(
            dataset="shapes", variant=variant, lr=lr, epochs=3, architecture=ArchitectureConfig(width=0.5)
        )
        self.config = {"trial_id": trial_id, "phase": phase, "config": config.to_dict()}


def result(epoch: int, val_error: float | None, **values: Any) -> dict[str, Any]:
    words = dict.fromkeys(("node", "device", "precision", "memory_format", "reason"), "") | {
        "compiled": False,
        "dead_classes": 0,
    }
    numbers = {"train_s": 2.0, "train_images": 100, "num_parameters": 1, "test_error": None, "test_top5_error": None}
    return words | numbers | {"epoch": epoch, "val_error": val_error, "state": "running"} | values


class Bench:
    def __init__(self, folder: Path, recorded: Mapping[str, Mapping[str, Any]] | None = None, **options: Any) -> None:
        self.page = Page()
        self.now = 1000.0
        arguments: dict[str, Any] = {"study": STUDY, "planned": 5, "make": self.page.make} | options
        self.metrics = RunMetrics("r", recorded=recorded or {}, clock=lambda: self.now, **arguments)
        self.store = Store(str(folder))
        self.interrupted = False
        self.recorder = Recorder(
            self.store,
            STUDY,
            recorded=recorded,
            is_interrupted=lambda: self.interrupted,
            listener=listening(changed=self.metrics.update),
        )

    def start(self, trial: StandIn) -> None:
        self.recorder.on_trial_start(0, [], trial)  # type: ignore[arg-type]

    def report(self, trial: StandIn, epoch: int, val_error: float | None, **values: Any) -> None:
        self.recorder.on_trial_result(0, [], trial, result(epoch, val_error, **values))  # type: ignore[arg-type]

    def complete(self, trial: StandIn) -> None:
        self.recorder.on_trial_complete(0, [], trial)  # type: ignore[arg-type]

    def fail(self, trial: StandIn) -> None:
        self.recorder.on_trial_error(0, [], trial)  # type: ignore[arg-type]


def test_all_states_together_are_the_planned_trials(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.page.states() == {"pending": 5}
    trials = [StandIn(f"t{number}") for number in range(4)]
    for trial in trials:
        bench.start(trial)
    assert bench.page.states() == {"pending": 1, "running": 4}
    for epoch in (1, 2, 3):
        bench.report(trials[0], epoch, 0.5)
    bench.complete(trials[0])
    bench.report(trials[1], 1, 0.5)
    bench.complete(trials[1])  # stopped
    bench.report(trials[2], 1, 1.0, state="diverged")
    bench.complete(trials[2])
    bench.fail(trials[3])
    assert bench.page.states() == {"pending": 1, "completed": 1, "stopped": 1, "diverged": 1, "failed": 1}
    bench.metrics.plan(4)
    assert bench.page.states() == {"completed": 1, "stopped": 1, "diverged": 1, "failed": 1}
    assert bench.page.shown["sweep_planned_trials", "r"] == 4


def test_what_was_interrupted_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    trial = StandIn("t")
    bench.start(trial)
    bench.report(trial, 1, 0.5)
    bench.interrupted = True
    bench.complete(trial)
    assert bench.page.states() == {"pending": 5}
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 0


def test_a_trial_that_lost_its_node_waits_and_its_epochs_count_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    trial = StandIn("t")
    bench.start(trial)
    bench.report(trial, 1, 0.5)
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(ActorUnavailableError("gone", b"\0" * 16)))
    trial.pickled_error_file = str(file)
    bench.fail(trial)
    assert bench.page.states() == {"pending": 5}
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 0
    trial.pickled_error_file = None
    bench.start(trial)
    for epoch in (1, 2):
        bench.report(trial, epoch, 0.5)
    assert bench.page.states() == {"pending": 4, "running": 1}
    assert bench.page.shown["sweep_epochs", "r", CELL] == 2


def test_the_best_error_stays_through_epochs_without_a_measurement(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one, other = StandIn("one"), StandIn("other", lr=0.1)
    bench.start(one)
    bench.start(other)
    bench.report(other, 1, 0.5)
    for epoch, error in ((1, None), (2, 0.3), (3, None)):
        bench.report(one, epoch, error)
        best = bench.page.shown["sweep_best_error_ratio", "r", CELL]
        assert best == (0.5 if epoch == 1 else 0.3)
    # One that diverges has no error to be best by.
    bench.report(one, 4, 1.0, state="diverged")
    assert bench.page.shown["sweep_best_error_ratio", "r", CELL] == 0.5


def test_epochs_and_times(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one, other = StandIn("one"), StandIn("other")
    assert bench.page.shown["sweep_last_epoch_timestamp_seconds", "r"] == 1000
    bench.start(one)
    bench.start(other)
    bench.now = 1060.0
    bench.report(one, 1, 0.5)  # 100 images in 2 s
    assert bench.page.shown["sweep_last_epoch_timestamp_seconds", "r"] == 1060
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 50
    bench.report(one, 2, 0.5, train_s=6.0)  # 200 in 8 s
    bench.report(other, 1, 0.5)
    assert bench.page.shown["sweep_epochs", "r", CELL] == 3
    assert bench.page.shown["sweep_epoch_seconds", "r", CELL] == 2
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 25 + 50
    bench.complete(other)
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 25


def test_the_best_error_is_the_lowest_that_a_trial_of_the_cell_has_now(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    best = ("sweep_best_error_ratio", "r", CELL)
    one, other, elsewhere = StandIn("one"), StandIn("other", lr=0.1), StandIn("elsewhere", variant="model-c")
    for trial in (one, other, elsewhere):
        bench.start(trial)
    assert best not in bench.page.shown
    bench.report(elsewhere, 1, 0.1)
    bench.report(one, 1, 0.5)
    bench.report(other, 1, 0.6)
    assert bench.page.shown[best] == 0.5
    bench.report(one, 2, 0.7)  # worse: the other one is now the best
    assert bench.page.shown[best] == 0.6
    bench.report(other, 2, 1.0, state="diverged")
    assert bench.page.shown[best] == 0.7
    assert bench.page.shown["sweep_best_error_ratio", "r", "shapes/none/model-c"] == 0.1


def test_seeds_of_a_configuration_are_averaged_as_in_the_grid(tmp_path: Path) -> None:
    bench = Bench(tmp_path, study=replace(STUDY, protocol="paper", seeds=2), planned=16)
    trials = [StandIn("one"), StandIn("other"), StandIn("third", lr=0.1)]
    for trial, error in zip(trials, (0.2, 0.6, 0.5), strict=True):
        bench.start(trial)
        bench.report(trial, 1, None, test_error=error)
    shown = bench.page.shown["sweep_best_error_ratio", "r", CELL]
    scope = Scope.of(replace(STUDY, protocol="paper", seeds=2, variants=("all-cnn-c",)), "r", 4)
    (cell,) = arrange(scope, bench.recorder.rows)
    assert cell.best is not None
    assert shown == cell.best[0] == pytest.approx(0.4)


def test_an_error_whose_trial_failed_is_shown_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    best = ("sweep_best_error_ratio", "r", CELL)
    trial = StandIn("t")
    bench.start(trial)
    bench.report(trial, 1, 0.5)
    bench.fail(trial)
    bench.page.shown.clear()  # as Ray does with gauges that are not set again
    bench.metrics.refresh()
    assert best not in bench.page.shown
    assert bench.page.states() == {"failed": 1, "pending": 4}
    again = StandIn("again")
    bench.start(again)
    bench.report(again, 1, 0.9)
    assert bench.page.shown[best] == 0.9


def test_what_confirms_is_no_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    trial = StandIn("t", phase="confirm")
    bench.start(trial)
    for epoch in (1, 2, 3):
        bench.report(trial, epoch, None, test_error=0.25 if epoch == 3 else None)
    bench.complete(trial)
    assert not [key for key in bench.page.shown if key[0] == "sweep_best_error_ratio"]
    assert bench.page.shown["sweep_epochs", "r", CELL] == 3


def test_a_run_that_goes_on_begins_with_what_ended(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    one, other = StandIn("one"), StandIn("other", lr=0.1)
    first.start(one)
    first.start(other)
    for epoch in (1, 2, 3):
        first.report(one, epoch, 0.4)
    first.complete(one)
    first.report(other, 1, 0.6)
    first.recorder.flush()  # and the process is killed: the other's row says running
    rows = {row["trial_id"]: row for row in first.store.read_trials().to_pylist()}
    assert rows["other"]["state"] == "running"

    bench = Bench(tmp_path, rows)
    assert bench.page.states() == {"completed": 1, "pending": 4}
    assert bench.page.shown["sweep_best_error_ratio", "r", CELL] == 0.4
    bench.start(other)
    assert bench.page.states() == {"completed": 1, "running": 1, "pending": 3}
    assert bench.page.shown["sweep_images_per_second", "r", CELL] == 0  # the old speed is not today's
    bench.report(other, 1, 0.6)  # reported again, trained once
    bench.report(other, 2, 0.3)
    assert bench.page.shown["sweep_epochs", "r", CELL] == 1
    assert bench.page.shown["sweep_best_error_ratio", "r", CELL] == 0.3


def test_gauges_are_set_again_and_counters_are_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    trial = StandIn("t")
    bench.start(trial)
    bench.report(trial, 1, 0.5)
    before = dict(bench.page.shown)
    assert {key[0] for key in before} == {metric.name for metric in METRICS}
    bench.page.shown.clear()
    bench.metrics.refresh()
    assert bench.page.shown == {key: value for key, value in before.items() if key[0] != "sweep_epochs"}


@pytest.mark.parametrize("trials", [1, 2000])
def test_a_report_records_as_much_with_many_trials_as_with_one(tmp_path: Path, trials: int) -> None:
    rows = {}
    bench = Bench(tmp_path)
    trial = StandIn("t")
    bench.start(trial)
    row = bench.recorder.rows[0] | {"state": "completed", "epochs_run": 3, "val_error": 0.4}
    rows = {
        f"r{number}": row | {"trial_id": f"r{number}", "params": write_params({"lr": 1.0 + number})}
        for number in range(trials)
    }
    bench = Bench(tmp_path, rows, planned=trials + 1)
    bench.start(trial)
    before = bench.page.records
    bench.report(trial, 1, 0.5)
    assert bench.page.records - before == 4  # the epoch, when it ended, how long it took, images per second


def breaking(after: int) -> Callable[[Metric], Instrument]:
    """Return what makes instruments that together work `after` times."""
    left = [after]

    def make(metric: Metric) -> Instrument:
        def record(value: float, tags: dict[str, str]) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("no room")

        return record

    return make


@pytest.mark.parametrize("after", [0, 9, 12])
def test_a_failing_metric_is_said_once_and_the_record_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    with caplog.at_level(logging.WARNING):
        bench = Bench(tmp_path, make=breaking(after))
        trial = StandIn("t")
        bench.start(trial)
        for epoch in (1, 2, 3):
            bench.report(trial, epoch, 0.5)
        bench.complete(trial)
        bench.metrics.plan(3)
        bench.metrics.refresh()
        bench.recorder.close()
    assert [record.getMessage() for record in caplog.records] == [
        "No metrics from here on, the run goes on: RuntimeError: no room"
    ]
    assert [(row["state"], row["epochs_run"]) for row in bench.store.read_trials().to_pylist()] == [("completed", 3)]


def test_a_metric_that_cannot_be_made_is_no_error_of_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def make(metric: Metric) -> Instrument:
        raise OSError("none of that")

    bench = Bench(tmp_path, make=make)
    bench.start(StandIn("t"))
    assert caplog.messages == ["No metrics from here on, the run goes on: OSError: none of that"]


def test_the_thread_that_refreshes_ends_with_its_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr("sweep.monitor.prometheus.REFRESH_S", 0.001)
    bench = Bench(tmp_path)
    refreshed = threading.Event()
    monkeypatch.setattr(bench.metrics, "refresh", refreshed.set)
    with in_background(bench.metrics.keep_shown, "metrics"):
        assert refreshed.wait(60)
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_names_follow_prometheus_conventions() -> None:
    names = [exported(metric) for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.name.startswith("sweep_")
        assert not metric.name.endswith("_total")  # Ray adds it
        assert exported(metric).endswith("_total") == (metric.kind == "counter")
        assert metric.tags[0] == "run"
        assert metric.about.endswith(".")


@pytest.mark.parametrize(
    ("location", "name"),
    [("/runs/a", "a"), ("/ru?ns/a", "a"), ("s3://bucket/runs/a?region=x/y", "a"), ("file:///runs/a", "a")],
)
def test_a_run_is_called_as_its_folder(location: str, name: str) -> None:
    assert run_name(location) == name
