import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from search_spaces import Choice, LogUniform, Space
from sweep.cluster.connect import Cluster
from sweep.execution.plan import Plan, check_study
from sweep.execution.trial import Placement
from sweep.monitor.lines import Progress, show_plan
from sweep.monitor.screen import Trials
from sweep.record.progress import Scope, progress_line
from sweep.study.catalog import STUDIES, quickstart
from sweep.study.prior_trials import PriorTrial, WarmStart
from tests.begun import row
from trainables.data import Dataset, Split
from trainables.recipe import Recipe


def split(name: str, size: int) -> Split:
    return Split(
        name=name, images=np.zeros((size, 3, 32, 32), np.uint8), labels=np.zeros(size, np.int64), num_classes=10
    )


@pytest.fixture
def plan() -> Plan:
    study = replace(STUDIES["quickstart"](), protocol="paper", seeds=2)
    data = Dataset(name="shapes", num_classes=10, train=split("train", 1200), test=split("test", 7), checksum="0")
    return Plan(
        study=study,
        datasets={"shapes": data},
        parameters=check_study(study),
        placement=Placement(workers=3),
        slots=5,
        cluster=Cluster(nodes=((16, 0),), address="this machine"),
        asked={},
    )


def test_the_plan_says_what_runs_and_what_fits(plan: Plan) -> None:
    out = io.StringIO()
    show_plan(plan, "/runs/mine", Console(file=out, width=200), ended=3)
    text = out.getvalue()
    for part in (
        "Study quickstart",
        "shapes/none/strided-cnn-c",
        "shapes 1,200 + 7",
        "16 trials, 80 epochs; ended before: 3 trials",
        "5 trials at once, each in 3 workers of its own",
        "this machine with 16 CPUs and 0 GPUs",
        "5 epochs, learning rate rising over the first 1, x 0.1 after 3, x 0.001 after 4, batches of 32",
        "batches of 32, weight decay 0.001",
        "2 seeds from 0",
        "width 0.25, dropout 0 on the input, dropout 0.1 after downsampling",
        "no ReLU on the class layer",
        "record  /runs/mine",
        "optuna journal  /runs/mine/optuna.journal",
        f"{plan.parameters['shapes/none/all-cnn-c']:,}",
    ):
        assert part in text, part


def test_a_plan_without_drops_and_workers_reads_well(plan: Plan) -> None:
    alone = replace(
        plan,
        placement=Placement(),
        study=replace(plan.study, base=replace(plan.study.base, drops=(), warmup_epochs=0)),
    )
    out = io.StringIO()
    show_plan(alone, "/runs/mine", Console(file=out, width=200))
    assert "5 epochs, constant learning rate, batches" in out.getvalue()
    assert "each in a process of its own" in out.getvalue()
    assert "ended before" not in out.getvalue()


def test_what_is_searched_stands_on_lines_of_its_own(plan: Plan) -> None:
    earlier = PriorTrial(
        cell="shapes/none/model-c", error=0.5, params={"lr": 0.02, "weight_decay": 0.001, "batch_size": 32}
    )
    study = replace(
        plan.study,
        search="tpe",
        seeds=1,
        trials_per_cell=3,
        space=Space(lr=LogUniform(0.01, 0.1), weight_decay=LogUniform(1e-4, 1e-2), batch_size=Choice((32, 64))),
        warm_start=WarmStart(run="/runs/earlier", points=(earlier, earlier), skipped=1),
    )
    out = io.StringIO()
    show_plan(replace(plan, study=study), "s3://bucket/mine", Console(file=out, width=200))
    for part in (
        "learning rates  log-uniform [0.01, 0.1]\n",
        "search  tpe, 1 seed from 0",
        "weight decays  log-uniform [0.0001, 0.01]",
        "batch sizes  {32, 64}",
        "warm start  2 trials of /runs/earlier in 1 cell, 1 skipped",
        "x 0.001 after 4\n",
        "optuna journal  left out, since the record is at a URI",
    ):
        assert part in out.getvalue(), part
    (line,) = lines(replace(plan, study=study), ended(weight_decay=0.0005, batch_size=64))
    assert " all-cnn-c lr 0.05 batch size 64 weight decay 0.0005 seed 1: completed, " in line


def test_the_plan_shows_no_value_in_place_of_one_that_is_searched(plan: Plan) -> None:
    """Only where some trials have it: of one variant's own dimension, and of one that exists at times."""
    common = Space(
        lr=Choice((0.1,)),
        dropout=Choice((0.0, 0.5)),
        class_relu=Choice((True, False)),
        momentum_form=Choice(("pytorch", "caffe")),
        weight_decay=Choice((0.0, 0.1)).when("momentum_form", "caffe"),
    )
    study = replace(plan.study, space=common, spaces={"model-c": Space(width=Choice((0.5, 1.0)))})
    out = io.StringIO()
    show_plan(replace(plan, study=study), "/runs/mine", Console(file=out, width=200))
    shown = [line.strip() for line in out.getvalue().splitlines()]
    assert "network  width 0.25, dropout 0 on the input, he initialisation" in shown
    assert any(line.startswith("training  5 epochs, ") and line.endswith(", weight decay 0.001") for line in shown)
    for line in (
        "learning rates  {0.1}",
        "dropout  {0, 0.5}",
        "class relu  {true, false}",
        "weight decays  {0, 0.1} if momentum_form is caffe",
        "model-c: width  {0.5, 1}",
    ):
        assert line in shown


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (
            Space(epochs=Choice((5, 10))),
            "learning rate rising over the first 1, x 0.1 after 57.1 %, x 0.01 after 71.4 %",
        ),
        (
            Space(drop_factor=Choice((0.1, 0.5))),
            "5 epochs, learning rate rising over the first 1, lower after 3, lower after 4,",
        ),
        (Space(warmup_epochs=Choice((0.0, 1.0))), "5 epochs, learning rate x 0.1 after 3, x 0.001 after 4,"),
    ],
)
def test_the_plan_says_of_a_schedule_what_is_not_searched(plan: Plan, space: Space, text: str) -> None:
    out = io.StringIO()
    show_plan(replace(plan, study=replace(plan.study, space=space)), "/runs/mine", Console(file=out, width=300))
    assert f"training  {text}" in out.getvalue()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"early_stopping": "none"}, "paper, errors on the test images; early stopping: none"),
        (
            {"early_stopping": "asha"},
            "paper, errors on the test images; early stopping: asha, one in 4 goes on after epoch 4",
        ),
        (
            {"early_stopping": "asha", "first_rung": 1, "reduction_factor": 2},
            "early stopping: asha, one in 2 goes on after epoch 1, 2, 4",
        ),
        ({"early_stopping": "asha", "epochs": 2}, "early stopping: asha, which stops nothing in 2 epochs"),
    ],
)
def test_the_plan_says_when_trials_are_compared(plan: Plan, changes: dict[str, Any], text: str) -> None:
    base = replace(plan.study.base, epochs=changes.pop("epochs", plan.study.base.epochs))
    out = io.StringIO()
    show_plan(replace(plan, study=replace(plan.study, base=base, **changes)), "x", Console(file=out, width=200))
    assert text in out.getvalue()


def ended(number: int = 0, **values: Any) -> Any:
    """Return the row of a trial of 5 epochs in 61.4 s; a value that is no column is a searched hyperparameter."""
    usual = {"lr": 0.05, "seed": 1, "val_error": None, "test_error": 0.123456, "epochs_run": 5, "duration_s": 61.4}
    variant = values.get("variant", "all-cnn-c")
    return row(f"shapes_none_{variant}_{number:04d}", quickstart(), **usual | values)


def lines(plan: Plan, *ends: Any, known: Iterable[Any] = ()) -> list[str]:
    """Return a line per trial that ended, where the rows of others are known."""
    out = io.StringIO()
    trials = Trials(Scope.of(plan.study, "mine", plan.trials), {each["trial_id"]: each for each in known})
    progress = Progress(trials, Console(file=out, width=20))
    for each in ends:
        trials.update(each)
        progress.trial_ended(each)
    return out.getvalue().splitlines()


def test_a_line_per_trial_with_an_estimate(plan: Plan) -> None:
    assert lines(plan, ended(), ended(1, state="stopped")) == [
        # 15 trials of 5 epochs of 12.28 s, one after the other, are 921 s; then 14 of them 860 s.
        "[1/16] all-cnn-c lr 0.05 seed 1: completed, error 12.35 %, 5 epochs in 61 s; ETA about 15 min",
        "[2/16] all-cnn-c lr 0.05 seed 1: stopped, error 12.35 %, 5 epochs in 61 s; ETA about 14 min",
    ]


def test_of_many_trials_a_few_hundred_are_followed_by_a_new_estimate(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.monitor.lines.ESTIMATES", 4)
    estimates = [line.rpartition("; ETA about ")[2] for line in lines(plan, *(ended(number) for number in range(6)))]
    # Of 16 trials each fourth: with all of one cell's done the others are as long, less the ones that ended.
    assert estimates[0] == estimates[1] == estimates[2] == estimates[3] == "15 min"
    assert estimates[4] == estimates[5] != "15 min"


@pytest.mark.parametrize(
    ("seconds", "left"), [(1.0, "15 s"), (7.8, "117 s"), (8.0, "2 min"), (400.0, "100 min"), (480.0, "2.0 h")]
)
def test_the_estimates_units(plan: Plan, seconds: float, left: str) -> None:
    (line,) = lines(plan, ended(duration_s=seconds))
    assert line.endswith(f"; ETA about {left}")


def test_the_line_tells_the_time_that_the_grid_tells(plan: Plan) -> None:
    running = [ended(number, state="running", epochs_run=2, duration_s=20.0 + number) for number in (1, 2)]
    next_one = ended(3, state="running", epochs_run=0, duration_s=0.0)
    (line,) = lines(plan, ended(), known=running)
    # The next trial takes the place of the one that ended.
    words = progress_line(Scope.of(plan.study, "mine", plan.trials), [ended(), *running, next_one])
    assert "ETA " in line
    assert line.rpartition("; ")[2] == words.rpartition("epochs/s, ")[2]


def test_trials_of_an_earlier_execution_count_as_ended(plan: Plan) -> None:
    *earlier, one, other = [ended(number, variant=variant) for variant in plan.study.variants for number in range(4)]
    first, last = lines(plan, one, other, known=earlier)
    assert first.startswith("[15/16]")
    # Every cell's trials took 61.4 s.
    assert first.endswith("; ETA 61 s")
    assert last.startswith("[16/16]")
    assert "ETA" not in last


@pytest.mark.parametrize("state", ["failed", "diverged"])
def test_trials_without_an_error_say_why(plan: Plan, state: str) -> None:
    (line,) = lines(plan, ended(state=state, reason="[red]loss is nan[/red]", test_error=None))
    assert f": {state}, [red]loss is nan[/red], 5 epochs" in line


def test_the_validation_error_counts_before_the_test_error(plan: Plan) -> None:
    (line,) = lines(plan, ended(val_error=0.5))
    assert "validation error 50.00 %" in line


def test_a_trial_that_confirms_says_so(plan: Plan) -> None:
    (line,) = lines(plan, ended(phase="confirm"))
    assert "] confirm all-cnn-c lr" in line


def test_the_plan_of_both_phases(plan: Plan) -> None:
    out = io.StringIO()
    study = replace(plan.study, protocol="holdout", confirm_top=2)
    show_plan(replace(plan, study=study), "/runs/mine", Console(file=out, width=300))
    assert "2 + 4" in out.getvalue()
    assert (
        "holdout: tune on 90 % of the training set, validate on 10 % (last-epoch error); then retrain the best 2 "
        "configurations of each cell on all of it, 2 seeds from 10000; early stopping: none"
    ) in out.getvalue()
    assert "24 trials, 120 epochs" in out.getvalue()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "holdout: tune on 90 % of the training set, validate on 10 % (last-epoch error); no test error is read"),
        ({"validation": 0.25}, "tune on 75 % of the training set, validate on 25 % (last-epoch error)"),
    ],
)
def test_the_plan_of_a_run_that_reads_no_test_error_says_so(plan: Plan, changes: dict[str, Any], text: str) -> None:
    out = io.StringIO()
    study = replace(plan.study, protocol="holdout", seeds=0, **changes)
    show_plan(replace(plan, study=study), "/runs/mine", Console(file=out, width=300))
    assert text in out.getvalue()
    assert "retrain" not in out.getvalue()
    assert "seeds is 0; early stopping: none" in out.getvalue()
    assert "8 trials, 40 epochs" in out.getvalue()


def test_the_recipes_of_a_plan_s_variants_stand_on_lines_of_their_own(plan: Plan) -> None:
    recipes = (
        Recipe(name="glorot", settings={"initialisation": "glorot"}),
        Recipe(name="unused", settings={"momentum": 0.5}),
        Recipe(name="clip", settings={"class_relu": False, "bias_weight_decay": True, "max_grad_norm": 1.0}),
    )
    study = replace(plan.study, recipes=recipes, variants=("model-c.clip", "all-cnn-c.glorot", "model-a.clip"))
    out = io.StringIO()
    show_plan(replace(plan, study=study), "/runs/mine", Console(file=out, width=300))
    shown = [line.strip() for line in out.getvalue().splitlines() if line.strip().startswith("recipe ")]
    assert shown == [
        "recipe glorot  initialisation glorot",
        "recipe clip  no class relu, bias weight decay, max grad norm 1",
    ]
    out = io.StringIO()
    show_plan(plan, "/runs/mine", Console(file=out, width=300))
    assert "recipe" not in out.getvalue()


def test_a_record_that_cannot_be_written_and_a_second_try_are_lines(plan: Plan) -> None:
    out = io.StringIO()
    progress = Progress(Trials(Scope.of(plan.study, "mine", plan.trials), {}), Console(file=out, width=20))
    progress.record_troubled(OSError(28, "No space left on device"))
    progress.record_troubled(None)
    progress.trial_lost(ended(state="pending", epochs_run=2, reason="its process ended", fault="process died"))
    progress.trial_lost(ended(state="pending", epochs_run=2, reason="lost its node", fault="node lost"))
    assert out.getvalue().splitlines() == [
        "         record  cannot be written, retrying: [Errno 28] No space left on device",
        "         record  is written again",
        "        retried  all-cnn-c lr 0.05 seed 1 had 2 epochs and resumes in isolation: its process ended",
        "      node lost  all-cnn-c lr 0.05 seed 1 had 2 epochs and resumes elsewhere",
    ]
