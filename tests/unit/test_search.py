"""The search: points per cell, in turn, each once; and going on from a record."""

from dataclasses import replace
from typing import Any

import pytest
from ray.tune.search import Searcher

from search_spaces import Choice, LogUniform
from sweep.search import StudySearcher
from sweep.studies import STUDIES, Study

RATES = (0.1, 0.05, 0.01)


def study(**changes: Any) -> Study:
    two = replace(STUDIES["quickstart"](), variants=("model-a", "all-cnn-a"), learning_rates=Choice(RATES))
    return replace(two, **changes)


def walk(searcher: StudySearcher, error: float | None = 0.5) -> list[tuple[str, float, int]]:
    """Suggest and complete every trial; return id, learning rate and seed of each."""
    seen = []
    while (suggested := searcher.suggest(name := f"tune-{len(seen)}")) != Searcher.FINISHED:
        seen.append((suggested["trial_id"], suggested["config"]["lr"], suggested["config"]["seed"]))
        if error is None:
            searcher.on_trial_complete(name, error=True)
        else:
            searcher.on_trial_complete(name, {"error": error, "state": "completed", "epoch": 5})
    return seen


@pytest.mark.parametrize("error", [0.5, None])
def test_a_grid_tries_each_point_of_each_cell_once_dealt_in_turn(error: float | None) -> None:
    seen = walk(StudySearcher(study()), error)
    assert [trial_id.rsplit("_", 1)[0].rsplit("_", 1)[1] for trial_id, _, _ in seen] == ["model-a", "all-cnn-a"] * 3
    for variant in ("model-a", "all-cnn-a"):
        assert sorted(lr for trial_id, lr, _ in seen if variant in trial_id) == sorted(RATES)
    assert len({trial_id for trial_id, _, _ in seen}) == 6


def test_seeds_repeat_each_point_of_the_grid() -> None:
    seen = walk(StudySearcher(study(protocol="paper", seeds=2)))
    assert sorted((lr, seed) for trial_id, lr, seed in seen if "model-a" in trial_id) == sorted(
        (lr, seed) for lr in RATES for seed in (0, 1)
    )


def test_the_grid_is_walked_once_also_when_no_trial_has_ended_yet() -> None:
    searcher = StudySearcher(study())
    suggested = [searcher.suggest(f"tune-{number}") for number in range(6)]
    assert searcher.suggest("one more") == Searcher.FINISHED
    assert len({(each["cell"], each["config"]["lr"]) for each in suggested}) == 6


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_samplers_draw_as_many_points_as_asked_within_bounds(search: str) -> None:
    asked = study(search=search, trials_per_cell=5, learning_rates=LogUniform(0.01, 0.1))
    first, second = walk(StudySearcher(asked)), walk(StudySearcher(asked))
    assert first == second
    assert len({lr for _, lr, _ in first}) == 10
    assert all(0.01 <= lr <= 0.1 for _, lr, _ in first)
    other = walk(StudySearcher(replace(asked, base=replace(asked.base, seed=100))))
    assert [lr for _, lr, _ in other] != [lr for _, lr, _ in first]


@pytest.mark.parametrize("search", ["grid", "tpe", "random"])
def test_a_search_goes_on_where_its_record_ends(search: str) -> None:
    asked = study() if search == "grid" else study(search=search, trials_per_cell=3)
    whole = walk(StudySearcher(asked))
    states = ["completed", "failed", "diverged", "pending", "running"]
    recorded = {
        trial_id: {"trial_id": trial_id, "lr": lr, "state": state, "val_error": None, "test_error": 0.5}
        for (trial_id, lr, _), state in zip(whole, states, strict=False)
    }
    again = walk(StudySearcher(asked, recorded))
    assert again == whole[3:]


def test_what_early_stopping_ended_is_told_as_pruned() -> None:
    searcher = StudySearcher(study(variants=("model-a",)))
    ended = [("running", 3), ("running", 5), ("completed", 5)]
    for number, (state, epoch) in enumerate(ended):
        searcher.suggest(f"tune-{number}")
        searcher.on_trial_complete(f"tune-{number}", {"error": 0.5, "state": state, "epoch": epoch})
    (cell,) = searcher._cells
    assert [trial.state.name for trial in cell._optuna.trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert cell._optuna.trials[0].value == 0.5
