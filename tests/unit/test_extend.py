"""What --extend may add to a run, and what it may not change."""

from dataclasses import replace

import pytest

from search_spaces import Choice, Space
from sweep.cluster.connect import Cluster
from sweep.execution.plan import check_study, make_plan, open_data
from sweep.execution.tune import run_trials
from sweep.record.store import Store
from sweep.resume.recorded import recorded_run
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from tests.begun import (
    LEAVE_EXTEND_OR_NEW,
    LEAVE_OR_NEW,
    WITH_EXTEND,
    Begin,
    confirmed,
    refused,
    run,
    searched,
)

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.mark.parametrize(
    ("arguments", "differs", "line"),
    [
        (
            ["--epochs", "3"],
            "epochs",
            "  epochs: recorded 2, given 3 (the learning rate falls at shares of them, after 1, 1 and 2 of 2 and after "
            "2, 2 and 3 of 3, so that trials that are done are no beginnings of longer ones)",
        ),
        (["--epochs", "1"], "epochs", "  epochs: recorded 2, given 1 (it must not become less)"),
        (["--seeds", "2"], "seeds", "  seeds: recorded 3, given 2 (it must not become less)"),
        (
            ["--learning-rates", "0.02", "0.005"],
            "lr",
            "  lr: recorded {0.01, 0.005}, given {0.02, 0.005} (it must hold all that is recorded, and lacks 0.01)",
        ),
        (
            ["--vary", "weight_decay=0.1"],
            "weight_decay",
            "  weight_decay: recorded 0.001, given {0.1} (it must hold all that is recorded, and lacks 0.001)",
        ),
        (
            ["--variants", "model-c"],
            "variants",
            "  variants: recorded all-cnn-c, given model-c (it must hold all that is recorded, and lacks all-cnn-c)",
        ),
        (
            ["--width", "0.1", "--seeds", "4"],
            "width",
            "  width: recorded 0.05, given 0.1 (it decides what the trials that are done have computed)",
        ),
    ],
)
def test_what_extend_may_not_change_is_refused(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str], arguments: list[str], differs: str, line: str
) -> None:
    begin()
    assert refused(store, capsys, "--extend", *arguments) == [f"{WITH_EXTEND}{differs}.", line, LEAVE_OR_NEW]


def test_no_seed_may_become_one_and_not_the_other_way_round(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write_trials(searched(begin(seeds=0)))
    said = refused(store, capsys, "--seeds", "1")
    assert said[1:] == ["  seeds: recorded 0, given 1", LEAVE_EXTEND_OR_NEW]
    assert run(store, "--seeds", "1", "--extend", "--gpus-per-trial", "0", "--dry-run") == 0
    assert "left to run  shapes/none/all-cnn-c confirm: lr 0.005 seed 10000" in capsys.readouterr().out
    begin(seeds=1)
    (_, line, _) = refused(store, capsys, "--extend", "--seeds", "0")
    assert line == "  seeds: recorded 1, given 0 (it must not become less)"


def test_another_search_than_the_grid_takes_more_trials_only(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(search="tpe", trials_per_cell=3)
    said = refused(store, capsys, "--extend", "--learning-rates", "0.001..0.5", "--trials-per-cell", "5")
    assert said[1] == (
        "  lr: recorded log-uniform [0.001, 0.25], given log-uniform [0.001, 0.5] (the search tpe has "
        "drawn from what is recorded; --extend takes more --trials-per-cell, a new run with --warm-start other values)"
    )
    said = refused(store, capsys, "--extend", "--search", "random", "--learning-rates", "0.001..0.5")
    assert said[1].endswith("given log-uniform [0.001, 0.5] (it goes with the search)")
    assert said[2] == "  search: recorded tpe, given random (it decides what the trials that are done have computed)"
    said = refused(store, capsys, "--extend", "--trials-per-cell", "2")
    assert said[1] == "  trials_per_cell: recorded 3, given 2 (it must not become less)"
    assert run(store, "--extend", "--trials-per-cell", "5", "--gpus-per-trial", "0", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "left to run  shapes/none/all-cnn-c: 5 that tpe has yet to draw" in shown


def test_blocks_that_halving_has_judged_take_no_trials_more(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    halving = {"early_stopping": "halving", "epochs": 8}
    begin(**halving)
    rates = ("--extend", "--learning-rates", "0.01", "0.005", "0.002", "0.001")
    said = refused(store, capsys, *rates)
    assert said[1].endswith(
        "(halving judges a cell's trials in blocks of 4, and the last block of the recorded 2 is not whole: it was "
        "judged without those that would join it)"
    )
    said = refused(store, capsys, "--extend", "--epochs", "16")
    assert said[1].endswith("(the epochs at which halving has judged trials are shares of them)")
    begin(**halving, learning_rates=(0.01, 0.005, 0.002, 0.001))
    assert run(store, *rates, "0.0005", "--gpus-per-trial", "0", "--dry-run") == 0
    # Other cells have blocks of their own.
    begin(**halving)
    assert run(store, "--extend", "--variants", "all-cnn-c", "model-c", "--gpus-per-trial", "0", "--dry-run") == 0


def test_a_streamed_trials_steps_are_not_cut_anew(store: Store, begin: Begin) -> None:
    from sweep.resume.extend import _why_not_epochs

    streamed = STUDIES["imagenet"]()
    longer = replace(streamed, base=replace(streamed.base, epochs=90))
    assert _why_not_epochs(streamed, longer) == (
        "a streamed trial's steps are cut into them, so that each would become shorter"
    )


def test_more_epochs_reopen_what_was_completed_where_the_schedule_is_the_same(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = STUDIES["quickstart"]()
    base = replace(
        constant.base, drops=(), train_size=100, architecture=replace(constant.base.architecture, width=0.05)
    )
    study = begin(replace(constant, base=base, variants=("all-cnn-c",), protocol="paper"))
    rows = searched(study, test_error=0.5, val_error=None)
    store.write_trials([rows[0], rows[1] | {"state": "diverged", "epochs_run": 2}])
    store.write_file(f"checkpoints/{rows[0]['trial_id']}/last.pt", b"after five epochs")
    assert run(store, "--dry-run") == 0
    assert "has ended" in capsys.readouterr().out
    assert run(store, "--extend", "--epochs", "7", "--gpus-per-trial", "0", "--dry-run") == 0
    shown = capsys.readouterr().out
    (left,) = (line.split("left to run  ")[1] for line in shown.splitlines() if "left to run" in line)
    assert left == f"shapes/none/all-cnn-c: lr {rows[0]['lr']:g} seed 0 from epoch 5"


def test_more_epochs_for_some_variants_leave_the_rows_of_the_others_as_they_are(store: Store, begin: Begin) -> None:
    quickstart = STUDIES["quickstart"]()
    base = replace(quickstart.base, drops=(), train_size=100, epochs=2)
    study = begin(replace(quickstart, base=base, variants=("all-cnn-c", "model-c"), protocol="paper"))
    rows = {each["trial_id"]: each for each in searched(study, test_error=0.5, val_error=None)}
    store.write_trials(list(rows.values()))
    output, name = store.location.rsplit("/", 1)
    options = RunOptions(resume=True, output=output, name=name, extend=True, epochs=3, only=("model-c",))
    found = recorded_run(None, options)
    for trial_id, row in found.trials().items():
        is_ours = row["variant"] == "model-c"
        assert (row["state"], row["epochs_budget"]) == (("pending", 3) if is_ours else ("completed", 2))
        assert is_ours or row == rows[trial_id]
    # What is left of the extension is found by the next --resume without --only.
    assert not found.is_done()
    assert {row["state"] for row in recorded_run(None, replace(options, only=None)).trials().values()} == {"pending"}


def test_more_epochs_for_some_variants_reopen_no_confirmation_of_the_others(
    store: Store, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickstart = STUDIES["quickstart"]()
    base = replace(quickstart.base, drops=(), train_size=100, epochs=3)
    study = begin(replace(quickstart, base=base, variants=("all-cnn-c", "model-c"), space=Space(lr=Choice((0.01,)))))
    rows = searched(study, duration_s=1.0)
    for variant in study.variants:
        rows += [
            one | {"variant": variant, "trial_id": one["trial_id"].replace("all-cnn-c", variant)}
            for one in confirmed(study, 0.01, 3, epochs_run=2, epochs_budget=2, duration_s=1.0)
        ]
    store.write_trials(rows)
    machine = Cluster(nodes=((2, 0),), address="this machine")
    plan = make_plan(study, parameters=check_study(study), datasets=open_data(study), cluster=machine, gpus=0)
    # All but Ray.
    monkeypatch.setattr("sweep.execution.tune._tune", lambda *_: None)
    recorded = {one["trial_id"]: one for one in rows}
    after = run_trials(plan, store, recorded=recorded, is_interrupted=lambda: False, only=("model-c",))
    states = {(one["variant"], one["state"], one["epochs_budget"]) for one in after if one["phase"] == "confirm"}
    assert states == {("model-c", "pending", 3), ("all-cnn-c", "completed", 2)}


def test_values_that_are_added_stand_behind_those_of_the_record() -> None:
    from sweep.resume.extend import extended
    from sweep.study.diff import study_differences

    was = RunOptions(variants=("all-cnn-c", "model-c"), protocol="paper").apply(STUDIES["quickstart"]())
    now = RunOptions(
        variants=("model-a", "model-c", "all-cnn-c"),
        learning_rates=(0.1, 0.005, 0.01),
        vary=("weight_decay=0.01,0.001",),
        seeds=2,
    ).apply(was)
    larger = extended(was, now, study_differences(was, now))
    assert larger.variants == ("all-cnn-c", "model-c", "model-a")
    assert larger.space == Space(lr=Choice((0.01, 0.005, 0.1)), weight_decay=Choice((0.001, 0.01)))
    assert larger.points_of("all-cnn-c") == 12
    assert replace(larger, variants=was.variants, space=was.space, seeds=None) == was
