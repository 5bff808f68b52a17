"""The journal for optuna-dashboard says of each trial what the record says, also of a run that goes on."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from search_spaces import Choice, LogUniform, Space, Uniform
from sweep.monitor.optuna_journal import Journal
from sweep.record.params import write_params
from sweep.record.schema import TRIALS
from sweep.search.searcher import StudySearcher, sampler_seed
from sweep.study.catalog import STUDIES
from sweep.study.study import params_of
from trainables.config import TrialConfig

STUDY = replace(
    STUDIES["quickstart"](),
    protocol="paper",
    variants=("model-c", "all-cnn-c"),
    space=Space(lr=LogUniform(0.01, 0.1), batch_size=Choice((32, 64))),
    search="tpe",
    trials_per_cell=5,
)


def row(number: int, state: str, **values: Any) -> dict[str, Any]:
    known = {
        "trial_id": f"shapes_none_model-c_{number:04d}",
        "phase": "search",
        "dataset": "shapes",
        "augmentation": "none",
        "variant": "model-c",
        "params": write_params({"lr": 0.05, "batch_size": 64}),
        "lr": 0.05,
        "seed": number,
        "state": state,
        "epochs_run": 0,
        "reason": "",
    }
    return dict.fromkeys(TRIALS.names) | known | values


def trials(path: Path, cell: str = "shapes/none/model-c") -> list[FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=cell, storage=storage).trials


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


def live(journal: Journal, number: int, *errors: float, end: str, **values: Any) -> None:
    """Update the journal as the recorder does in a trial's life."""
    journal.update(row(number, "running"))
    for epoch, error in enumerate(errors, start=1):
        journal.update(row(number, "running", epochs_run=epoch, test_error=error))
    last = errors[-1] if errors else None
    journal.update(row(number, end, epochs_run=len(errors), test_error=last, **values))
    journal.flush()


def test_there_is_one_study_per_cell_from_the_beginning(path: Path) -> None:
    Journal(str(path), STUDY, [], [])
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert optuna.get_all_study_names(storage) == ["shapes/none/model-c", "shapes/none/all-cnn-c"]
    study = optuna.load_study(study_name="shapes/none/model-c", storage=storage)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.user_attrs == {
        "phase": "search",
        "search": "tpe",
        "protocol": "paper",
        "minimises": "test_error",
        "seed": 0,
        "first_sampler_seed": sampler_seed(STUDY, "shapes/none/model-c", 0),
    }


def test_a_trial_is_followed_epoch_by_epoch(path: Path) -> None:
    journal = Journal(str(path), STUDY, [], [])
    journal.update(row(3, "running"))
    journal.flush()
    (trial,) = trials(path)
    assert (trial.state.name, trial.params, trial.value) == ("RUNNING", {"lr": 0.05, "batch_size": 64}, None)
    assert trial.user_attrs["trial_id"] == "shapes_none_model-c_0003"
    assert (trial.user_attrs["seed"], trial.user_attrs["state"]) == (3, "running")
    assert trial.user_attrs["sampler_seed"] == sampler_seed(STUDY, "shapes/none/model-c", 3)
    journal.update(row(3, "running", epochs_run=1, test_error=0.5))
    journal.flush()
    assert trials(path)[0].intermediate_values == {1: 0.5}
    journal.update(row(3, "completed", epochs_run=2, test_error=0.25))
    journal.flush()
    (trial,) = trials(path)
    assert (trial.state.name, trial.value, trial.intermediate_values) == ("COMPLETE", 0.25, {1: 0.5, 2: 0.25})
    assert trial.user_attrs["state"] == "completed"
    assert trials(path, "shapes/none/all-cnn-c") == []


@pytest.mark.parametrize(
    ("state", "errors", "shown", "value"),
    [
        ("completed", (0.5, 0.25), "COMPLETE", 0.25),
        ("stopped", (0.5,), "PRUNED", 0.5),
        ("diverged", (0.5, 1.0), "FAIL", None),
        ("failed", (), "FAIL", None),
        ("pending", (0.5,), "WAITING", None),
    ],
)
def test_each_state_of_the_record_has_its_own(
    path: Path, state: str, errors: tuple[float, ...], shown: str, value: float | None
) -> None:
    live(Journal(str(path), STUDY, [], []), 0, *errors, end=state, reason="why")
    (trial,) = trials(path)
    assert (trial.state.name, trial.value) == (shown, value)
    assert trial.intermediate_values == dict(enumerate(errors, start=1))
    assert (trial.user_attrs["state"], trial.user_attrs["reason"]) == (state, "why")


def test_a_trial_that_ended_is_left_alone(path: Path) -> None:
    journal = Journal(str(path), STUDY, [], [])
    live(journal, 0, 0.5, end="diverged")
    journal.update(row(0, "diverged", epochs_run=1, test_error=0.5))
    journal.flush()
    assert [trial.state.name for trial in trials(path)] == ["FAIL"]


def test_a_trial_that_was_put_aside_is_one_trial_whether_it_goes_on_or_not(path: Path) -> None:
    journal = Journal(str(path), STUDY, [], [])
    for number in range(2):
        live(journal, number, 0.5, 0.4, end="pending", reason="waits")
    assert [trial.state.name for trial in trials(path)] == ["WAITING", "WAITING"]
    same = {"epochs_run": 2, "test_error": 0.4}
    journal.update(row(0, "stopped", **same, reason="early stopping after epoch 2"))
    journal.update(row(1, "running", **same))
    journal.flush()
    assert [trial.state.name for trial in trials(path)] == ["PRUNED", "RUNNING"]
    assert trials(path)[1].user_attrs["state"] == "running"
    journal.update(row(1, "running", epochs_run=3, test_error=0.3))
    journal.update(row(1, "completed", epochs_run=3, test_error=0.3))
    journal.flush()
    stopped, completed = trials(path)
    assert (stopped.state.name, stopped.value, stopped.intermediate_values) == ("PRUNED", 0.4, {1: 0.5, 2: 0.4})
    assert (completed.state.name, completed.value) == ("COMPLETE", 0.3)
    assert completed.intermediate_values == {1: 0.5, 2: 0.4, 3: 0.3}
    assert [trial.user_attrs["state"] for trial in (stopped, completed)] == ["stopped", "completed"]


def test_what_is_noted_is_in_the_file_once_it_is_flushed_and_once_only(path: Path) -> None:
    journal = Journal(str(path), STUDY, [], [])
    before = path.read_bytes()
    for number in range(3):
        journal.update(row(number, "running"))
        journal.update(row(number, "running", epochs_run=1, test_error=0.5))
    assert path.read_bytes() == before
    journal.flush()
    written = path.read_bytes()
    assert written.startswith(before)
    journal.flush()
    assert path.read_bytes() == written
    for number in range(3):
        journal.update(row(number, "completed", epochs_run=2, test_error=0.25))
    journal.flush()
    assert [(trial.value, trial.intermediate_values) for trial in trials(path)] == [(0.25, {1: 0.5, 2: 0.25})] * 3


CONFIRM = "shapes/none/model-c confirm"


def test_what_confirms_is_a_study_of_its_own_with_its_test_errors(path: Path) -> None:
    study = replace(STUDY, protocol="holdout")
    journal = Journal(str(path), study, [row(0, "completed", val_error=0.3)], [])
    assert CONFIRM not in optuna.get_all_study_names(JournalStorage(JournalFileBackend(str(path))))
    ends = ["completed", "diverged", "failed", "pending"]
    names = [f"shapes_none_model-c_confirm_0_{number}" for number in range(len(ends))]
    for number, (name, end) in enumerate(zip(names, ends, strict=True)):
        same = {"trial_id": name, "phase": "confirm", "val_error": None}
        journal.update(row(number, "running", **same))
        journal.update(row(number, "running", **same, epochs_run=1, test_error=None))
        journal.update(row(number, end, **same, epochs_run=2, test_error=0.25 if end == "completed" else None))
    journal.flush()
    shown = trials(path, CONFIRM)
    assert [trial.state.name for trial in shown] == ["COMPLETE", "FAIL", "FAIL", "WAITING"]
    assert [trial.value for trial in shown] == [0.25, None, None, None]
    assert [trial.intermediate_values for trial in shown] == [{2: 0.25}, {}, {}, {}]
    assert [trial.user_attrs["trial_id"] for trial in shown] == names
    assert shown[0].params == {"lr": 0.05, "batch_size": 64}
    assert "sampler_seed" not in shown[0].user_attrs
    assert len(trials(path)) == 1
    storage = JournalStorage(JournalFileBackend(str(path)))
    about = optuna.load_study(study_name=CONFIRM, storage=storage).user_attrs
    assert about == {"phase": "confirm", "protocol": "holdout", "seed": 0, "measures": "test_error"}

    rows = [
        row(9, end, trial_id=name, phase="confirm", epochs_run=2, test_error=0.25 if end == "completed" else None)
        for name, end in zip(names, ends, strict=True)
    ]
    epochs = [
        {"trial_id": names[0], "epoch": epoch, "val_error": None, "test_error": error}
        for epoch, error in ((1, None), (2, 0.25))
    ]
    second = Journal(str(path), study, iter(rows), epochs)
    assert [trial.state.name for trial in trials(path, CONFIRM)] == ["COMPLETE", "FAIL", "FAIL"]
    assert trials(path, CONFIRM)[0].intermediate_values == {2: 0.25}
    second.update(row(3, "running", trial_id=names[3], phase="confirm"))
    second.flush()
    assert trials(path, CONFIRM)[3].state.name == "RUNNING"


def test_a_run_that_goes_on_doubles_no_trial(path: Path) -> None:
    first = Journal(str(path), STUDY, [], [])
    for number, state in enumerate(["completed", "stopped", "diverged", "failed", "pending"]):
        live(first, number, 0.5, 0.4, end=state)
    rows = [
        row(number, state, epochs_run=2, test_error=0.4, duration_s=30.0)
        for number, state in enumerate(["completed", "stopped", "diverged", "failed", "pending"])
    ]
    epochs = [
        {"trial_id": each["trial_id"], "epoch": epoch, "test_error": error, "val_error": None}
        for each in rows
        for epoch, error in ((1, 0.5), (2, 0.4))
    ]
    before = trials(path)
    second = Journal(str(path), STUDY, rows, epochs)
    after = trials(path)
    assert [trial.user_attrs["seed"] for trial in after] == [0, 1, 2, 3]
    for one, other in zip(before, after, strict=False):
        same = ("state", "values", "params", "intermediate_values", "user_attrs")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    assert after[0].duration is not None
    assert after[0].duration.total_seconds() == pytest.approx(30)
    live(second, 4, 0.5, 0.4, end="completed")
    assert Counter(trial.state.name for trial in trials(path)) == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 2}
    assert sorted(file.name for file in path.parent.iterdir()) == ["optuna.journal"]


OWN = replace(
    STUDIES["quickstart"](),
    protocol="paper",
    variants=("model-c", "all-cnn-c"),
    space=Space(
        lr=Choice((0.05, 0.01)),
        momentum_form=Choice(("pytorch", "caffe")),
        momentum=Uniform(0.8, 0.95, step=0.1).when("momentum_form", "caffe"),
    ),
    spaces={"model-c": Space({"max_grad_norm": Choice((None, 1, 2.5)), "bias_weight_decay": Choice((True, False))})},
    search="tpe",
    trials_per_cell=3,
)


def test_a_trial_has_the_hyperparameters_of_its_variant_that_exist_beside_each_other(path: Path) -> None:
    plain = {"lr": 0.05, "momentum_form": "pytorch", "max_grad_norm": None, "bias_weight_decay": False}
    caffe = {"lr": 0.01, "momentum_form": "caffe", "momentum": 0.9, "max_grad_norm": 2.5, "bias_weight_decay": True}
    other = {"lr": 0.01, "momentum_form": "pytorch"}
    rows = [
        row(0, "completed", params=write_params(plain), test_error=0.5),
        row(1, "completed", params=write_params(caffe), test_error=0.25),
        row(0, "running", trial_id="shapes_none_all-cnn-c_0000", variant="all-cnn-c", params=write_params(other)),
    ]
    journal = Journal(str(path), OWN, rows[:2], [])
    journal.update(rows[2])
    journal.flush()
    assert [trial.params for trial in trials(path)] == [plain, caffe]
    assert [type(trial.params["bias_weight_decay"]) for trial in trials(path)] == [bool, bool]
    assert [trial.params for trial in trials(path, "shapes/none/all-cnn-c")] == [other]
    bounds = trials(path)[1].distributions["momentum"]
    assert (bounds.low, bounds.high, bounds.step) == (0.8, 0.9, 0.1)
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="shapes/none/model-c", storage=storage)
    assert study.best_params == caffe


def test_a_search_s_own_points_are_those_that_its_journal_takes(path: Path) -> None:
    searcher = StudySearcher(OWN)
    journal = Journal(str(path), OWN, [], [])
    asked: dict[str, list[dict[str, object]]] = {}
    for number in range(6):
        parameters = searcher.suggest(f"tune-{number}")
        assert isinstance(parameters, dict)
        config = TrialConfig.from_dict(parameters["config"])
        params = params_of(config, OWN.space_of(config.variant))
        journal.update(
            row(
                number,
                "running",
                trial_id=parameters["trial_id"],
                variant=config.variant,
                params=write_params(params),
            )
        )
        asked.setdefault(config.cell, []).append(params)
    journal.flush()
    assert {cell: [trial.params for trial in trials(path, cell)] for cell in asked} == asked


def test_a_diverged_trial_still_tells_the_search_that_it_was_bad() -> None:
    searcher = StudySearcher(STUDY)
    searcher.suggest("tune-0")
    searcher.on_trial_complete("tune-0", {"error": 1.0, "state": "diverged", "epoch": 1})
    (trial,) = searcher._cells[0]._optuna.trials
    assert (trial.state.name, trial.value) == ("COMPLETE", 1.0)


def test_a_file_that_fails_once_is_left_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(str(path), STUDY, [], [])
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError("no space left")

    assert journal._file is not None
    monkeypatch.setattr(journal._file, "append_logs", full)
    with pytest.warns(RuntimeWarning, match=r"optuna\.journal is not written any more: no space left"):
        live(journal, 0, 0.5, end="completed")
    # Behind half a line nothing could be read.
    monkeypatch.undo()
    live(journal, 1, 0.5, end="completed")
    assert path.read_bytes() == before
