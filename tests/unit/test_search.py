"""The search: points per cell, in turn, each once; warm starts; and going on from a record."""

import math
from dataclasses import replace
from typing import Any

import pytest
from ray.tune.search import Searcher

from search_spaces import Choice, LogUniform, Space
from sweep.record.params import write_params
from sweep.search.samplers import SEARCHES
from sweep.search.searcher import CellSearch, StudySearcher, rehearse
from sweep.study.catalog import STUDIES
from sweep.study.prior_trials import PriorTrial, WarmStart
from sweep.study.study import Study

RATES = (0.1, 0.05, 0.01)


def study(**changes: Any) -> Study:
    two = replace(STUDIES["quickstart"](), variants=("model-a", "all-cnn-a"), space=Space(lr=Choice(RATES)))
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


def recorded_row(asked: Study, trial_id: str, lr: float, **values: Any) -> Any:
    known = {"trial_id": trial_id, "params": write_params({"lr": lr}), "lr": lr, "seed": asked.base.seed}
    known |= {"epochs_run": 0, "isolated": False}
    return known | {"state": "completed", "val_error": None, "test_error": 0.5} | values


def points(searcher: StudySearcher) -> list[tuple[float, float, int, int]]:
    """Suggest and complete every trial; return learning rate, weight decay, batch size and seed of each."""
    seen = []
    while (suggested := searcher.suggest(name := f"tune-{len(seen)}")) != Searcher.FINISHED:
        config = suggested["config"]
        seen.append((config["lr"], config["weight_decay"], config["batch_size"], config["seed"]))
        searcher.on_trial_complete(name, {"error": 0.5, "state": "completed", "epoch": 5})
    return seen


def needs_packages(asked: Study) -> None:
    try:
        rehearse(asked)
    except ValueError as error:
        if "which needs" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("error", [0.5, None])
def test_a_grid_tries_each_point_of_each_cell_once_dealt_in_turn(error: float | None) -> None:
    seen = walk(StudySearcher(study()), error)
    assert [trial_id.rsplit("_", 1)[0].rsplit("_", 1)[1] for trial_id, _, _ in seen] == ["model-a", "all-cnn-a"] * 3
    for variant in ("model-a", "all-cnn-a"):
        assert sorted(lr for trial_id, lr, _ in seen if variant in trial_id) == sorted(RATES)
    assert len({trial_id for trial_id, _, _ in seen}) == 6


def test_only_the_named_variants_are_dealt_and_the_others_keep_their_trials_for_later() -> None:
    whole = walk(StudySearcher(study()))
    some = walk(StudySearcher(study(), only=("all-cnn-a",)))
    assert some == [one for one in whole if "all-cnn-a" in one[0]]
    recorded = {
        name: recorded_row(study(), name, lr=lr, seed=seed, variant="all-cnn-a", epochs_run=5)
        for name, lr, seed in some
    }
    assert walk(StudySearcher(study(), recorded, only=("all-cnn-a",))) == []
    assert walk(StudySearcher(study(), recorded)) == [one for one in whole if "model-a" in one[0]]


def test_a_search_of_named_variants_waits_for_its_own_trials_alone() -> None:
    searcher = StudySearcher(study(space=Space(lr=Choice((0.1,)))), only=("model-a",))
    assert isinstance(searcher.suggest("0"), dict)
    assert searcher.suggest("1") is None
    searcher.on_trial_complete("0", {"error": 0.5, "state": "completed", "epoch": 5})
    assert searcher.suggest("1") == Searcher.FINISHED


def test_seeds_repeat_each_point_of_the_grid() -> None:
    seen = walk(StudySearcher(study(protocol="paper", seeds=2)))
    assert sorted((lr, seed) for trial_id, lr, seed in seen if "model-a" in trial_id) == sorted(
        (lr, seed) for lr in RATES for seed in (0, 1)
    )


def test_the_grid_is_walked_once_also_when_no_trial_has_ended_yet() -> None:
    searcher = StudySearcher(study())
    suggested = [searcher.suggest(f"tune-{number}") for number in range(6)]
    assert searcher.suggest("one more") is None  # one of them may come again
    for number in range(6):
        searcher.on_trial_complete(f"tune-{number}", {"state": "completed", "epoch": 5, "error": 0.5})
    assert searcher.suggest("one more") == Searcher.FINISHED
    assert len({(each["cell"], each["config"]["lr"]) for each in suggested}) == 6


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_samplers_draw_as_many_points_as_asked_within_bounds(search: str) -> None:
    asked = study(search=search, trials_per_cell=5, space=Space(lr=LogUniform(0.01, 0.1)))
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
        trial_id: recorded_row(asked, trial_id, lr=lr, seed=seed, state=state)
        for (trial_id, lr, seed), state in zip(whole, states, strict=False)
    }
    again = walk(StudySearcher(asked, recorded))
    assert again == whole[3:]


@pytest.mark.parametrize("search", ["tpe", "random", "QMCSampler"])
def test_more_trials_per_cell_are_those_of_a_search_that_had_them_from_the_start(search: str) -> None:
    asked = study(search=search, trials_per_cell=12, space=Space(lr=LogUniform(0.01, 0.1)))
    needs_packages(asked)
    whole = walk(StudySearcher(asked))
    begun = walk(StudySearcher(replace(asked, trials_per_cell=9)))
    assert begun == whole[:18]
    recorded = {name: recorded_row(asked, name, lr=lr, seed=seed) for name, lr, seed in begun}
    assert walk(StudySearcher(asked, recorded)) == whole[18:]


def test_points_of_a_grid_keep_their_numbers_when_it_grows() -> None:
    one = study(variants=("model-a",))
    begun = walk(StudySearcher(one))
    larger = replace(one, space=Space(lr=Choice((*RATES, 0.2, 0.02))), protocol="paper", seeds=2)
    assert walk(StudySearcher(larger))[:3] != begun, "the larger grid has another order"
    recorded = {name: recorded_row(one, name, lr=lr, seed=seed) for name, lr, seed in begun[:2]}
    rest = walk(StudySearcher(larger, recorded))
    assert [name for name, _, _ in rest] == [f"shapes_none_model-a_{number:04d}" for number in range(2, 10)]
    points = [(lr, seed) for _, lr, seed in begun[:2] + rest]
    assert sorted(points) == sorted((lr, seed) for lr in (*RATES, 0.2, 0.02) for seed in (0, 1))


def test_a_trial_that_lost_its_node_comes_again_before_any_other() -> None:
    searcher = StudySearcher(study(variants=("model-a",)))
    first, second = searcher.suggest("0"), searcher.suggest("1")
    assert isinstance(first, dict)
    searcher.lost(first["trial_id"])
    searcher.on_trial_complete("0", error=True)
    again = searcher.suggest("2")
    assert again == first | {"attempt": 1}
    # Each time, and also when there is nothing else left.
    for number in range(3, 6):
        searcher.lost(first["trial_id"])
        searcher.on_trial_complete(str(number - 1), error=True)
        assert searcher.suggest(str(number)) == first | {"attempt": number - 1}
    assert second != first


def test_a_trial_that_was_isolated_is_so_in_a_resumed_run_too() -> None:
    one = study(variants=("model-a",))
    (name, lr, seed), *_ = walk(StudySearcher(one))
    row = recorded_row(one, name, lr=lr, seed=seed, state="pending", isolated=True)
    searcher = StudySearcher(one, {name: row})
    dealt = [searcher.suggest(str(number)) for number in range(3)]
    assert [(each["trial_id"] == name, each["alone"]) for each in dealt] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    (other,) = (each for each in dealt[1:2])
    searcher.lost(other["trial_id"], alone=True)
    searcher.on_trial_complete("1", error=True)
    assert searcher.suggest("3") == other | {"attempt": 1, "alone": True}


def test_what_early_stopping_ended_is_told_as_pruned() -> None:
    searcher = StudySearcher(study(variants=("model-a",)))
    ended = [("running", 3), ("running", 5), ("completed", 5)]
    for number, (state, epoch) in enumerate(ended):
        searcher.suggest(f"tune-{number}")
        searcher.on_trial_complete(f"tune-{number}", {"error": 0.5, "state": state, "epoch": epoch})
    (cell,) = searcher._cells
    assert [trial.state.name for trial in cell._optuna.trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert cell._optuna.trials[0].value == 0.5


def test_the_search_is_told_of_the_last_epoch() -> None:
    asked = study(variants=("model-a",), search="random", trials_per_cell=4, protocol="holdout")
    told = [0.4, 0.5, 1.0, 0.6]
    curves: list[tuple[str, list[float]]] = [
        ("completed", [0.2, 0.4]),
        ("completed", [0.3, 0.5]),
        ("diverged", [0.2, 1.0]),
        ("completed", [0.6]),
    ]
    searcher = StudySearcher(asked)
    recorded = {}
    for number, (state, errors) in enumerate(curves):
        suggested = searcher.suggest(f"tune-{number}")
        for epoch, error in enumerate(errors[:-1], start=1):
            searcher.on_trial_result(f"tune-{number}", {"error": error, "state": "running", "epoch": epoch})
        searcher.on_trial_complete(f"tune-{number}", {"error": errors[-1], "state": state, "epoch": len(errors)})
        name = suggested["trial_id"]
        recorded[name] = recorded_row(
            asked, name, lr=suggested["config"]["lr"], seed=number, state=state, val_error=errors[-1]
        )
    assert [trial.value for trial in searcher._cells[0]._optuna.trials] == told
    again = StudySearcher(asked, recorded)
    assert again.suggest("more") == Searcher.FINISHED
    assert [trial.value for trial in again._cells[0]._optuna.trials] == told


def test_a_grid_spans_learning_rates_weight_decays_batch_sizes_and_seeds() -> None:
    asked = study(
        protocol="paper",
        variants=("model-a",),
        space=Space(lr=Choice(RATES), weight_decay=Choice((0.001, 0.0005)), batch_size=Choice((64, 128))),
        seeds=2,
    )
    assert asked.points_of("model-a") == 24
    seen = points(StudySearcher(asked))
    assert sorted(seen) == sorted(
        (lr, decay, size, seed) for lr in RATES for decay in (0.001, 0.0005) for size in (64, 128) for seed in (0, 1)
    )
    assert all(type(size) is int for _, _, size, _ in seen)


def test_a_sampler_draws_every_dimension_within_its_bounds() -> None:
    asked = study(
        search="tpe",
        trials_per_cell=15,
        space=Space(lr=LogUniform(0.01, 0.1), weight_decay=LogUniform(1e-4, 1e-2), batch_size=Choice((64, 128))),
    )
    seen = points(StudySearcher(asked))
    assert len({(lr, decay) for lr, decay, _, _ in seen}) == 30
    assert all(0.01 <= lr <= 0.1 and 1e-4 <= decay <= 1e-2 for lr, decay, _, _ in seen)
    assert {size for _, _, size, _ in seen} == {64, 128}


@pytest.mark.parametrize("search", [name for name in SEARCHES if name not in ("grid", "BruteForceSampler")])
def test_every_sampler_by_name_draws_the_same_points_twice(search: str) -> None:
    asked = study(
        search=search,
        variants=("model-a",),
        trials_per_cell=13,
        space=Space(lr=LogUniform(0.01, 0.1), weight_decay=LogUniform(1e-4, 1e-2)),
    )
    needs_packages(asked)
    first = points(StudySearcher(asked))
    assert len(set(first)) == 13
    assert first == points(StudySearcher(asked))


QUASI_RANDOM = study(
    search="QMCSampler",
    trials_per_cell=9,
    space=Space(lr=LogUniform(0.001, 0.1), weight_decay=LogUniform(1e-4, 1e-2)),
)


def quasi_random(asked: Study = QUASI_RANDOM) -> dict[str, list[tuple[float, float, int, int]]]:
    """Return the points of each variant."""
    needs_packages(asked)
    seen = points(StudySearcher(asked))
    return {variant: seen[number :: len(asked.variants)] for number, variant in enumerate(asked.variants)}


def test_quasi_random_points_differ_from_cell_to_cell_and_from_seed_to_seed() -> None:
    one, other = quasi_random().values()
    anew, _ = quasi_random(replace(QUASI_RANDOM, base=replace(QUASI_RANDOM.base, seed=1))).values()
    for column in (0, 1):
        values = [[point[column] for point in walked] for walked in (one, other, anew)]
        assert len({value for walked in values for value in walked}) == 27
    assert quasi_random() == {"model-a": one, "all-cnn-a": other}


def test_quasi_random_points_fill_each_dimension_evenly() -> None:
    # The first point is none of the sequence. The next eight lie in eight parts of the range, one in each, as the first
    # eight of a Sobol sequence do in every dimension, scrambled or not.
    for walked in quasi_random().values():
        for column, low in ((0, 0.001), (1, 1e-4)):
            parts = [math.floor(8 * math.log(point[column] / low) / math.log(100)) for point in walked[1:]]
            assert sorted(parts) == list(range(8))


def test_a_quasi_random_search_goes_on_where_its_record_ends() -> None:
    asked = replace(QUASI_RANDOM, space=QUASI_RANDOM.space.without(["weight_decay"]))
    needs_packages(asked)
    whole = walk(StudySearcher(asked))
    for count in (1, 5):
        recorded = {trial_id: recorded_row(asked, trial_id, lr=lr, seed=seed) for trial_id, lr, seed in whole[:count]}
        assert walk(StudySearcher(asked, recorded)) == whole[count:]


def test_a_point_that_comes_again_gets_the_next_seed() -> None:
    asked = study(search="random", trials_per_cell=7, space=Space(lr=Choice((0.1, 0.2))), variants=("model-a",))
    asked = replace(asked, base=replace(asked.base, seed=5))
    seen = [(lr, seed) for lr, _, _, seed in points(StudySearcher(asked))]
    for rate in (0.1, 0.2):
        seeds = [seed for lr, seed in seen if lr == rate]
        assert seeds == list(range(5, 5 + len(seeds)))
    assert len(seen) == 7


def test_a_brute_force_search_goes_on_with_seeds_when_its_points_are_used_up() -> None:
    asked = study(search="BruteForceSampler", trials_per_cell=5, variants=("model-a",))
    seen = [(lr, seed) for lr, _, _, seed in points(StudySearcher(asked))]
    assert {lr for lr, _ in seen[:3]} == set(RATES)
    assert len(set(seen)) == 5


def test_a_draw_repeats_no_trial_that_the_record_holds_of_a_later_point() -> None:
    asked = study(search="random", trials_per_cell=3, space=Space(lr=Choice((0.1,))), variants=("model-a",))
    name = "shapes_none_model-a_0001"
    recorded = {name: recorded_row(asked, name, lr=0.1, seed=0)}
    assert [(trial_id, seed) for trial_id, _, seed in walk(StudySearcher(asked, recorded))] == [
        ("shapes_none_model-a_0000", 1),
        ("shapes_none_model-a_0002", 2),
    ]


def test_an_earlier_run_moves_the_first_points() -> None:
    asked = study(search="tpe", trials_per_cell=4, space=Space(lr=LogUniform(0.001, 0.1)))
    told = tuple(
        PriorTrial(cell="shapes/none/model-a", params={"lr": 0.001 * 1.2**number}, error=0.9 - 0.03 * number)
        for number in range(20)
    )
    warm = replace(asked, warm_start=WarmStart(run="earlier", points=told, skipped=0))
    cold_seen, warm_seen = walk(StudySearcher(asked)), walk(StudySearcher(warm))
    assert [trial for trial in warm_seen if "all-cnn" in trial[0]] == [t for t in cold_seen if "all-cnn" in t[0]]
    moved = [lr for trial_id, lr, _ in warm_seen if "model-a" in trial_id]
    assert len(moved) == 4
    assert min(moved) > 0.01
    assert walk(StudySearcher(warm)) == warm_seen


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_a_search_after_an_earlier_run_repeats_none_of_its_points(search: str) -> None:
    asked = study(search=search, trials_per_cell=4, space=Space(lr=LogUniform(0.001, 0.1)), variants=("model-a",))
    tried: list[float] = []
    for _ in range(3):
        told = tuple(PriorTrial(cell="shapes/none/model-a", params={"lr": lr}, error=0.5) for lr in tried)
        warm = replace(asked, warm_start=WarmStart(run="earlier", points=told, skipped=0))
        tried = [lr for _, lr, _ in walk(StudySearcher(warm))]
        assert not {point.params["lr"] for point in told} & set(tried)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"search": "BruteForceSampler", "space": Space(lr=LogUniform(0.01, 0.1))},
            "search must be a sampler that takes this space, got 'BruteForceSampler' (FloatDistribution.step must be",
        ),
        ({"search": "CmaEsSampler"}, "CmaEsSampler must have a range LOW..HIGH to search, since it draws listed"),
    ],
)
def test_a_sampler_that_cannot_search_the_space_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        rehearse(study(trials_per_cell=4, **changes))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_sampler_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: CellSearch) -> None:
        raise ModuleNotFoundError("No module named 'absent'", name="absent")

    monkeypatch.setattr(CellSearch, "ask", ask)
    with pytest.raises(ValueError, match=r"got 'GPSampler', which needs absent; add it with pip install absent\.$"):
        rehearse(study(search="GPSampler", trials_per_cell=4))
