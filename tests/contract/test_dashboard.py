"""optuna-dashboard shows the states of the record, from a journal that the recorder's changes made."""

from pathlib import Path
from typing import Any

from sweep.execution.recorder import Recorder
from sweep.monitor.optuna_journal import JOURNAL, Journal
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from tests.dashboard import STATES, check_shown, studies_shown
from tests.listening import listening

STUDY = STUDIES["quickstart"]()
RATES = STUDY.space["lr"].listed()


class StandIn:
    """What the recorder reads of a Ray trial."""

    error_file: str | None = None
    pickled_error_file: str | None = None

    def __init__(self, number: int, phase: str = "search") -> None:
        cell = STUDY.cells()[number % 4]
        config = cell.to_dict() | {"lr": RATES[number // 4]}
        last = f"{number // 4:04d}" if phase == "search" else f"confirm_0_{number // 4}"
        self.config = {"trial_id": f"{cell.cell.replace('/', '_')}_{last}", "phase": phase, "config": config}


def report(epoch: int, state: str = "running") -> dict[str, Any]:
    times = dict.fromkeys(("train_s", "train_images", "num_parameters"), 1)
    words = dict.fromkeys(("node", "device", "precision", "memory_format", "reason"), "") | {
        "compiled": False,
        "dead_classes": 0,
    }
    errors = {"val_error": 1.0 if state == "diverged" else 0.5 / epoch, "test_error": None, "test_top5_error": None}
    return times | words | errors | {"epoch": epoch, "state": state}


def test_the_dashboard_counts_what_the_record_counts(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    journal = Journal(str(tmp_path / JOURNAL), STUDY, [], [])
    recorder = Recorder(
        store, STUDY, listener=listening(changed=journal.update, flushed=journal.flush), clock=lambda: 0.0
    )
    trials: list[Any] = [StandIn(number) for number in range(8)]
    for trial in trials:
        recorder.on_trial_start(0, [], trial)
    recorder.flush()
    check_shown(tmp_path)
    for trial in trials[:5]:
        for epoch in range(1, 6):
            recorder.on_trial_result(0, [], trial, report(epoch))
        recorder.on_trial_complete(0, [], trial)
    recorder.on_trial_result(0, [], trials[5], report(1))
    recorder.on_trial_complete(0, [], trials[5])  # stopped
    recorder.on_trial_result(0, [], trials[6], report(1, "diverged"))
    recorder.on_trial_complete(0, [], trials[6])
    recorder.on_trial_error(0, [], trials[7])
    check_shown(tmp_path)

    shown = studies_shown(tmp_path / JOURNAL)
    rows = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    attributes = [
        {item["key"]: item["value"] for item in trial["user_attrs"]} for trials in shown.values() for trial in trials
    ]
    assert {each["trial_id"].strip('"') for each in attributes} == set(rows)
    assert sorted(row["state"] for row in rows.values()) == ["completed"] * 5 + ["diverged", "failed", "stopped"]
    curve = shown[STUDY.cells()[0].cell][0]["intermediate_values"]
    assert [(point["step"], point["value"]) for point in curve] == [(epoch, 0.5 / epoch) for epoch in range(1, 6)]

    Journal(str(tmp_path / JOURNAL), STUDY, rows.values(), store.read_epochs().to_pylist())
    check_shown(tmp_path)
    assert studies_shown(tmp_path / JOURNAL)[STUDY.cells()[0].cell][0]["intermediate_values"] == curve


def test_what_confirms_is_counted_beside_the_search_and_not_in_it(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / JOURNAL), STUDY, [], [])
    store = Store(str(tmp_path))
    recorder = Recorder(
        store, STUDY, listener=listening(changed=journal.update, flushed=journal.flush), clock=lambda: 0.0
    )
    searched: list[Any] = [StandIn(number) for number in range(4)]
    confirmed: list[Any] = [StandIn(number, "confirm") for number in (0, 4, 1, 5)]
    for trial in [*searched, *confirmed[:3]]:
        recorder.on_trial_start(0, [], trial)
    for trial in searched:
        recorder.on_trial_result(0, [], trial, report(5))
        recorder.on_trial_complete(0, [], trial)
    check_shown(tmp_path)
    for trial in confirmed[:2]:
        recorder.on_trial_result(0, [], trial, report(1) | {"val_error": None})
        recorder.on_trial_result(0, [], trial, report(5) | {"val_error": None, "test_error": 0.25})
        recorder.on_trial_complete(0, [], trial)
    recorder.on_trial_result(0, [], confirmed[2], report(1, "diverged") | {"val_error": None})
    recorder.on_trial_complete(0, [], confirmed[2])
    recorder.on_trial_error(0, [], confirmed[3])
    recorder.flush()
    check_shown(tmp_path)
    shown = studies_shown(tmp_path / JOURNAL)
    one, other = (f"{STUDY.cells()[number].cell} confirm" for number in (0, 1))
    assert [(trial["state"], trial.get("values")) for trial in shown[one]] == [("Complete", [0.25])] * 2
    assert [trial["state"] for trial in shown[other]] == ["Fail", "Fail"]
    assert len(shown) == 6

    rows = store.read_trials().to_pylist()
    Journal(str(tmp_path / JOURNAL), STUDY, rows, store.read_epochs().to_pylist())
    check_shown(tmp_path)


def test_every_state_of_the_record_has_a_word() -> None:
    from sweep.record.schema import STATES as RECORDED

    assert set(STATES) == set(RECORDED)
