"""What an earlier run tells a search, what is skipped and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, LogUniform, Space, Uniform
from sweep.record.params import write_params
from sweep.record.schema import TRIALS
from sweep.record.store import Store
from sweep.run import main
from sweep.search.earlier_runs import warm_started
from sweep.search.searcher import CellSearch
from sweep.study.catalog import STUDIES
from sweep.study.prior_trials import PriorTrial
from sweep.study.study import Study
from tests.standings import data, run_document
from trainables.hyperparameters import with_values
from trainables.recipe import Recipe

STUDY = replace(
    STUDIES["quickstart"](),
    protocol="paper",
    variants=("model-c", "all-cnn-c"),
    space=Space(lr=LogUniform(0.01, 0.1)),
    search="tpe",
    trials_per_cell=3,
)
BASE = STUDY.base


def row(trial_id: str, lr: float = 0.05, **values: Any) -> dict[str, Any]:
    """Return a row of `trials`; a value that is none of its columns is a hyperparameter that was searched."""
    searched = {name: values.pop(name) for name in list(values) if name not in TRIALS.names}
    known = {
        "trial_id": trial_id,
        "phase": "search",
        "dataset": "shapes",
        "augmentation": "none",
        "variant": "model-c",
        "params": write_params({"lr": lr, **searched}),
        "lr": lr,
        "seed": 0,
        "state": "completed",
        "test_error": 0.25,
    }
    return dict.fromkeys(TRIALS.names) | known | values


EARLIER = replace(STUDY, variants=("model-c", "all-cnn-c", "model-a"))


def earlier(folder: Path, *rows: Any, study: Study = EARLIER) -> str:
    store = Store(str(folder / "earlier"))
    store.write_run(run_document(study, {"shapes": data()}))
    store.write_trials(list(rows))
    return store.location


def point(cell: str = "shapes/none/model-c", error: float = 0.25, **params: Any) -> PriorTrial:
    return PriorTrial(cell=cell, error=error, params={"lr": 0.05, **params})


def test_completed_trials_of_the_same_cells_and_ranges_count(tmp_path: Path) -> None:
    location = earlier(
        tmp_path,
        row("a"),
        row("b", variant="all-cnn-c", lr=0.1, test_error=0.5),
        row("c", lr=0.2),
        row("d", variant="model-a"),
        row("e", batch_size=BASE.batch_size + 1),
        row("f", weight_decay=0.5),
        row("g", state="diverged", test_error=1.0),
        row("h", state="stopped"),
        row("i", phase="confirm"),
    )
    warm = warm_started(STUDY, location).warm_start
    assert warm is not None
    assert warm.run == location
    assert warm.points == (point(), point(cell="shapes/none/all-cnn-c", lr=0.1, error=0.5))
    assert warm.skipped == 4


def test_a_recipe_s_own_batch_size_is_that_of_its_cell(tmp_path: Path) -> None:
    recipe = Recipe(name="large", settings={"batch_size": 256})
    study = replace(STUDY, recipes=(recipe,), variants=("model-c", "model-c.large"))
    searched = replace(EARLIER, space=EARLIER.space.with_dimensions({"batch_size": Choice((32, 256))}))
    location = earlier(
        tmp_path,
        row("a", variant="model-c.large", batch_size=256),
        row("b", variant="model-c.large", batch_size=BASE.batch_size),
        row("c", batch_size=256),
        row("d", batch_size=BASE.batch_size),
        study=replace(searched, recipes=(replace(recipe, settings={}),), variants=study.variants),
    )
    warm = warm_started(study, location).warm_start
    assert warm is not None
    assert warm.points == (point(cell="shapes/none/model-c.large"), point())
    assert warm.skipped == 2


def test_where_weight_decay_and_batch_size_are_searched_their_ranges_count(tmp_path: Path) -> None:
    space = STUDY.space.with_dimensions({"weight_decay": LogUniform(0.1, 1), "batch_size": Choice((8, 16))})
    study = replace(STUDY, space=space)
    location = earlier(
        tmp_path,
        row("a"),
        row("b", weight_decay=0.5, batch_size=16),
        row("c", weight_decay=0.5, batch_size=32),
        row("d", weight_decay=0.5),
    )
    warm = warm_started(study, location).warm_start
    assert warm is not None
    assert warm.points == (point(weight_decay=0.5, batch_size=16),)
    assert warm.skipped == 3


@pytest.mark.parametrize(
    ("earlier_base", "space", "values", "expected"),
    [
        # Not searched there: the earlier study's own value counts, not this one's.
        ({"momentum": 0.8}, {"momentum": Uniform(0.5, 0.85)}, {}, {"momentum": 0.8}),
        ({"momentum": 0.9}, {"momentum": Uniform(0.5, 0.85)}, {}, None),
        # Not searched here: the trial must have had this study's own value.
        ({}, {}, {"momentum": BASE.momentum}, {}),
        ({}, {}, {"momentum": 0.5}, None),
        # Neither searches it: only what decides the step must be the same.
        ({"weight_decay": 0.5}, {}, {}, None),
        ({"batch_size": BASE.batch_size + 1}, {}, {}, None),
        ({"train_size": 50, "epochs": 1}, {}, {}, {}),
        # A hyperparameter that no version knows, and an option that the variant has not.
        ({}, {}, {"nope": 1}, None),
        ({}, {}, {"options.depth": 1}, None),
        # A dimension that does not exist beside what the trial had is none of its point.
        (
            {},
            {
                "momentum_form": Choice(("pytorch", "caffe")),
                "momentum": Uniform(0.5, 0.85).when("momentum_form", "caffe"),
            },
            {"momentum_form": "pytorch"},
            {"momentum_form": "pytorch"},
        ),
        (
            {"max_grad_norm": 2.0},
            {"max_grad_norm": Choice((None, 1.0))},
            {"max_grad_norm": None},
            {"max_grad_norm": None},
        ),
    ],
)
def test_spaces_with_and_without_a_dimension(
    tmp_path: Path,
    earlier_base: dict[str, Any],
    space: dict[str, Any],
    values: dict[str, Any],
    expected: dict[str, Any] | None,
) -> None:
    study = replace(STUDY, space=STUDY.space.with_dimensions(space))
    location = earlier(
        tmp_path,
        row("a", **values),
        row("b", variant="all-cnn-c", momentum=0.6, momentum_form="caffe", max_grad_norm=1.0),
        study=replace(EARLIER, base=with_values(BASE, earlier_base)),
    )
    if expected is None:
        with pytest.raises(ValueError, match=r"[12] outside the ranges\.$"):
            warm_started(study, location)
        return
    warm = warm_started(study, location)
    assert warm.warm_start is not None
    assert warm.warm_start.points[0] == point(**expected)
    # Optuna takes them as they are.
    search = CellSearch(warm, warm.cells()[0], {})
    assert [trial.params for trial in search._optuna.trials] == [{"lr": 0.05, **expected}]
    assert search.ask()[1].lr != 0.05


def test_the_trials_that_count_are_those_of_the_variant_s_own_space(tmp_path: Path) -> None:
    study = replace(STUDY, spaces={"all-cnn-c": Space(lr=LogUniform(0.06, 0.1))})
    warm = warm_started(study, earlier(tmp_path, row("a"), row("b", variant="all-cnn-c"))).warm_start
    assert warm is not None
    assert (warm.points, warm.skipped) == ((point(),), 1)


def test_the_study_keeps_the_points_when_the_earlier_run_is_gone(tmp_path: Path) -> None:
    study = warm_started(STUDY, earlier(tmp_path, row("a")))
    assert Study.from_dict(study.to_dict()) == study


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"lr": 0.5}, "0 in other cells, 1 outside the ranges"),
        ({"variant": "model-a"}, "1 in other cells, 0 outside the ranges"),
        ({"state": "failed"}, "of whose 1 trials 0 completed"),
    ],
)
def test_a_run_that_tells_nothing_is_refused(tmp_path: Path, changes: dict[str, Any], counted: str) -> None:
    location = earlier(tmp_path, row("a", **changes))
    with pytest.raises(ValueError, match=r"^warm_start must be a run with completed trials in this study's ") as caught:
        warm_started(STUDY, location)
    assert counted in str(caught.value)
    assert f"got {location}" in str(caught.value)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^warm_start: A run's folder must exist and hold study\.json, got "):
        warm_started(STUDY, str(tmp_path / "missing"))


def test_a_grid_is_refused(tmp_path: Path) -> None:
    grid = replace(STUDY, search="grid", space=Space(lr=Choice((0.05,))), trials_per_cell=None)
    with pytest.raises(ValueError, match=r"^warm_start must be left out for the grid search, which learns nothing"):
        warm_started(grid, earlier(tmp_path, row("a")))


def test_the_plan_counts_what_the_search_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    location = earlier(tmp_path, row("a"), row("b", variant="all-cnn-c", lr=0.9), row("c", variant="model-a"))
    options = [
        "--train-size",
        "64",
        "--epochs",
        "1",
        "--width",
        "0.05",
        "--gpus-per-trial",
        "0",
        "--dry-run",
        "--protocol",
        "paper",
    ]
    asked = ["quickstart", "--warm-start", location, "--output", str(tmp_path / "runs"), *options]
    assert main([*asked, "--search", "tpe"]) == 0
    assert f"warm start  1 trial of {location} in 1 cell, 2 skipped" in capsys.readouterr().out
    assert main(asked) == 2
    assert capsys.readouterr().err.startswith("error: warm_start must be left out for the grid search, which learns ")
