"""Searches over any hyperparameters: the order of a grid, dimensions that come and go, a variant's own space."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import nn

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Space, Uniform
from sweep.cluster.connect import Cluster
from sweep.execution.plan import Plan, check_study, place
from sweep.record.params import read_params, write_params
from sweep.search.confirm import confirmations
from sweep.search.halving import CellHalving
from sweep.search.schedulers import PerCell
from sweep.search.searcher import CellSearch, rehearse
from sweep.study.catalog import STUDIES
from sweep.study.study import Study, params_of
from trainables.architectures import register_variant
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of, with_values

QUICKSTART = STUDIES["quickstart"]()
CAFFE = Uniform(0.8, 0.99).when("momentum_form", "caffe")


def study(space: Mapping[str, Dimension], **changes: Any) -> Study:
    return replace(QUICKSTART, **{"variants": ("model-a",), "space": Space(space)} | changes)


def ends(number: int) -> tuple[str, float | None]:
    """Return how a search's trial of this number ends."""
    return ("failed", None) if number % 4 == 3 else ("completed", 0.9 - 0.07 * (number % 5))


def walk(asked: Study, recorded: Mapping[str, Any] | None = None, cell: int = 0) -> list[TrialConfig]:
    """Ask for each trial of a cell and tell how it ended; return their configurations."""
    search = CellSearch(asked, asked.cells()[cell], recorded or {})
    found = []
    for number in range(search.remaining):
        trial_id, config = search.ask()
        search.tell(trial_id, *ends(number))
        found.append(config)
    return found


def rows_of(asked: Study, configs: list[TrialConfig]) -> dict[str, Any]:
    """Return the rows of a cell's first trials."""
    rows: dict[str, Any] = {}
    for number, config in enumerate(configs):
        state, error = ends(number)
        trial_id = f"{config.cell.replace('/', '_')}_{number:04d}"
        params = write_params(params_of(config, asked.space_of(config.variant)))
        names = {"trial_id": trial_id, "params": params, "lr": config.lr, "seed": config.seed, "epochs_run": 1}
        rows[trial_id] = names | {"state": state, "val_error": error, "test_error": None, "isolated": False}
    return rows


def point(config: TrialConfig, *names: str) -> tuple[Any, ...]:
    return tuple(value_of(config, name) for name in (*names, "seed"))


THREE = ("lr", "weight_decay", "batch_size")


def test_a_grid_of_rates_decays_and_batch_sizes_is_in_the_order_that_it_always_had() -> None:
    space = {"lr": Choice((0.1, 0.05, 0.01)), "weight_decay": Choice((0.001, 0.0005)), "batch_size": Choice((64, 128))}
    asked = study(space, variants=("model-a", "all-cnn-a"), protocol="paper", seeds=2)
    first, second = (
        [point(config, *THREE) for config in walk(asked, cell=cell)] for cell in range(len(asked.variants))
    )
    # As the search of three fixed dimensions walked them, before a study could name others.
    assert first[:6] == [
        (0.05, 0.001, 64, 0),
        (0.1, 0.001, 128, 0),
        (0.01, 0.0005, 128, 0),
        (0.05, 0.001, 128, 1),
        (0.1, 0.001, 128, 1),
        (0.05, 0.001, 64, 1),
    ]
    assert second[:3] == [(0.01, 0.0005, 128, 1), (0.1, 0.001, 128, 0), (0.1, 0.0005, 128, 1)]
    assert len(set(first)) == len(set(second)) == 24


@pytest.mark.parametrize(
    ("search", "tenth", "last"),
    [
        ("tpe", (0.09703806434348493, 0.0010815920232159844, 128), (0.03528286905584929, 0.005105309397105193, 64)),
        (
            "random",
            (0.018776278989154852, 0.0001454120094345535, 64),
            (0.023557868056731025, 0.00013253851428466645, 128),
        ),
    ],
)
def test_samplers_draw_what_they_always_drew(
    search: str, tenth: tuple[float, float, int], last: tuple[float, float, int]
) -> None:
    space = {"lr": LogUniform(0.01, 0.1), "weight_decay": LogUniform(1e-4, 1e-2), "batch_size": Choice((64, 128))}
    asked = study(space, search=search, trials_per_cell=12)
    cell = CellSearch(asked, asked.cells()[0], {})
    configs = []
    for number in range(12):
        trial_id, config = cell.ask()
        cell.tell(trial_id, "completed", 0.5 + 0.01 * number)
        configs.append(config)
    drawn = [point(config, *THREE) for config in configs]
    assert drawn[:2] == [
        (pytest.approx(0.018859198651709923), pytest.approx(0.00012548526272281713), 128, 0),
        (pytest.approx(0.033104425376421234), pytest.approx(0.003336931934810461), 64, 0),
    ]
    expected = [tuple(map(pytest.approx, (*values, 0))) for values in (tenth, last)]
    assert drawn[-2:] == expected


def test_a_grid_has_no_point_twice_where_a_dimension_does_not_exist() -> None:
    space = {
        "lr": Choice((0.1, 0.01)),
        "momentum_form": Choice(("pytorch", "caffe")),
        "momentum": Choice((0.8, 0.9, 0.95)).when("momentum_form", "caffe"),
        "max_grad_norm": Choice((None, 1.0)).when("momentum", 0.8),
    }
    asked = study(space, protocol="paper", seeds=2)
    # Of each rate: pytorch, caffe with 0.9 or 0.95, and caffe with 0.8 and either norm; each with two seeds.
    assert asked.points_of("model-a") == 2 * 5 * 2
    configs = walk(asked)
    assert len({config.to_dict().__repr__() for config in configs}) == len(configs) == 20
    params = [params_of(config, asked.space) for config in configs]
    for config, values in zip(configs, params, strict=True):
        assert ("momentum" in values) == (config.momentum_form == "caffe")
        assert ("max_grad_norm" in values) == (config.momentum_form == "caffe" and config.momentum == 0.8)
        if "momentum" not in values:
            assert config.momentum == QUICKSTART.base.momentum
    assert Counter(tuple(values) for values in params) == {
        ("lr", "momentum_form"): 4,
        ("lr", "momentum_form", "momentum"): 8,
        ("lr", "momentum_form", "momentum", "max_grad_norm"): 8,
    }
    # Where a run was cut off, the same points come for the same numbers.
    assert walk(asked, rows_of(asked, configs[:7])) == configs


@pytest.mark.parametrize("search", ["tpe", "random"])
def test_a_sampler_draws_a_dimension_only_where_it_exists_and_goes_on_as_it_would_have(search: str) -> None:
    space = {"momentum_form": Choice(("pytorch", "caffe")), "momentum": CAFFE, "lr": LogUniform(0.001, 0.1)}
    asked = study(space, search=search, trials_per_cell=24)
    whole = walk(asked)
    forms = Counter(config.momentum_form for config in whole)
    assert forms["caffe"] > 2 < forms["pytorch"]
    for config in whole:
        if config.momentum_form == "pytorch":
            assert config.momentum == QUICKSTART.base.momentum
        else:
            assert 0.8 <= config.momentum <= 0.99
    assert len({config.lr for config in whole}) == 24
    cell = CellSearch(asked, asked.cells()[0], {})
    for config in whole[:2]:
        trial_id, _ = cell.ask()
        assert ("momentum" in cell._asked[trial_id].params) == (config.momentum_form == "caffe")
    # TPE has learned from 10 trials on: what it was told of recorded trials is what it would have been told.
    for cut in (1, 12, 23):
        assert walk(asked, rows_of(asked, whole[:cut])) == whole


KINDS: Mapping[str, Dimension] = {
    "batch_size": IntUniform(16, 64, 16),
    "momentum_form": Choice(("pytorch", "caffe")),
    "class_relu": Choice((True, False)),
    "max_grad_norm": Choice((None, 1.0)),
    "dropout": Uniform(0, 0.3, 0.1),
}


@pytest.mark.parametrize("search", ["grid", "tpe", "random"])
def test_whole_numbers_texts_truths_none_and_steps_are_searched(search: str) -> None:
    drawn = {} if search == "grid" else {"trials_per_cell": 30}
    asked = study(KINDS, search=search, **drawn)
    configs = walk(asked)
    if search == "grid":
        assert len(configs) == asked.points_of("model-a") == 4 * 2 * 2 * 2 * 4
    found = {name: {value_of(config, name) for config in configs} for name in KINDS}
    assert found == {
        "batch_size": {16, 32, 48, 64},
        "momentum_form": {"pytorch", "caffe"},
        "class_relu": {True, False},
        "max_grad_norm": {None, 1.0},
        "dropout": {0.0, 0.1, 0.2, 0.3} if search == "grid" else found["dropout"],
    }
    assert all(value == pytest.approx(round(value, 1)) and 0 <= value <= 0.3 for value in found["dropout"])
    assert {type(config.batch_size) for config in configs} == {int}
    assert {type(config.architecture.class_relu) for config in configs} == {bool}
    assert len({config.to_dict().__repr__() for config in configs}) == len(configs)
    # Through the record's text and back.
    rows = rows_of(asked, configs)
    for config, row in zip(configs, rows.values(), strict=True):
        assert with_values(replace(asked.cells()[0], seed=config.seed), read_params(row["params"])) == config
    assert walk(asked, dict(list(rows.items())[:13])) == configs


# Variants that search something else


OWN = {"all-cnn-a": Space({"lr": Choice((0.2,)), "dropout": Choice((0.0, 0.1, 0.2, 0.3))})}


def test_a_variant_s_own_space_makes_its_cells_larger_than_others() -> None:
    asked = study(
        {"lr": Choice((0.1, 0.01))}, variants=("model-a", "all-cnn-a"), spaces=OWN, datasets=("shapes", "cifar10")
    )
    assert {variant: asked.points_of(variant) for variant in asked.variants} == {"model-a": 2, "all-cnn-a": 4}
    assert asked.search_trials == 2 * (2 + 4)
    assert asked.confirm_trials == 2 * 2 * 3
    assert {variant: asked.confirmed_of(variant) for variant in asked.variants} == {"model-a": 3, "all-cnn-a": 3}
    top = replace(asked, confirm_top=3)
    assert [top.confirmed_of(variant) for variant in top.variants] == [2 * 3, 3 * 3]
    assert asked.searched == ("lr", "dropout")
    (small, large) = (walk(asked, cell=cell) for cell in (0, 1))
    assert sorted(config.lr for config in small) == [0.01, 0.1]
    assert sorted((config.lr, config.architecture.dropout) for config in large) == [
        (0.2, dropout) for dropout in (0.0, 0.1, 0.2, 0.3)
    ]


def test_a_plan_counts_the_trials_of_each_variant_s_space() -> None:
    asked = study({"lr": Choice((0.1, 0.01))}, variants=("model-a", "all-cnn-a"), spaces=OWN)
    machine = Cluster(nodes=((2, 0),), address="this machine")
    placement, slots = place(machine, workers=None, gpus=None, max_concurrent=None)
    parameters = check_study(asked)
    plan = Plan(
        study=asked, datasets={}, parameters=parameters, placement=placement, slots=slots, cluster=machine, asked=None
    )
    assert (plan.study.search_trials, plan.trials, plan.epochs) == (6, 6 + 2 * 3, 12 * QUICKSTART.base.epochs)


def test_the_best_of_each_variant_s_own_space_is_confirmed() -> None:
    asked = study({"lr": Choice((0.1, 0.01))}, variants=("model-a", "all-cnn-a"), spaces=OWN, seeds=1)
    rows = []
    for cell, own in enumerate(asked.cells()):
        place = {"phase": "search", "dataset": "shapes", "augmentation": "none", "variant": own.variant}
        found = rows_of(asked, walk(asked, cell=cell))
        rows += [row | place | {"state": "completed", "val_error": 0.1 * n} for n, row in enumerate(found.values())]
    wanted = confirmations(asked, rows)
    first = {variant: next(row for row in rows if row["variant"] == variant) for variant in asked.variants}
    assert {config.variant: params_of(config, asked.space_of(config.variant)) for config in wanted.values()} == {
        variant: read_params(row["params"]) for variant, row in first.items()
    }


def test_halving_makes_brackets_as_large_as_each_cell() -> None:
    asked = study(
        {"lr": Choice((0.1, 0.01))},
        variants=("model-a", "all-cnn-a"),
        spaces=OWN,
        early_stopping="halving",
        base=replace(QUICKSTART.base, epochs=8),
    )
    assert asked.rungs == (2, 6)
    small, large = PerCell(asked)._of_cell.values()
    for halving, count in ((small, 2), (large, 4)):
        expected = CellHalving(asked.rungs, asked.keep_one_in, count)
        for number in range(count):
            name = f"cell_{number:04d}"
            verdicts = [d.verdict for d in halving.arrive(name, 2, 0.1 * number)]
            assert verdicts == [d.verdict for d in expected.arrive(name, 2, 0.1 * number)]
            assert (verdicts == ["pause"]) == (number < count - 1), "nobody is judged before all have come"


# A search over the number of epochs


def test_each_trial_of_a_search_over_epochs_has_its_own_budget() -> None:
    asked = study({"lr": Choice((0.1,)), "epochs": Choice((2, 5))})
    assert asked.epochs is None
    assert sorted(config.epochs for config in walk(asked)) == [2, 5]
    assert replace(asked, space=Space(lr=Choice((0.1,)))).epochs == 5
    # One variant's is enough.
    one = study({"lr": Choice((0.1,))}, spaces={"model-a": Space(epochs=Choice((2,)))})
    assert one.epochs is None


@pytest.mark.parametrize("early_stopping", ["asha", "halving"])
def test_epochs_are_not_searched_where_trials_are_stopped_early(early_stopping: str) -> None:
    with pytest.raises(
        ValueError, match=r"^epochs must not be searched with early stopping, which compares .*\{2, 5\}"
    ):
        study({"epochs": Choice((2, 5))}, early_stopping=early_stopping)
    with pytest.raises(ValueError, match=r"^epochs must not be searched with early stopping"):
        study({}, spaces={"model-a": Space(epochs=Choice((2, 5)))}, early_stopping=early_stopping)


# Spaces that no search can walk


@pytest.mark.parametrize(
    ("space", "search", "text"),
    [
        (
            {"epochs": Choice((1, 5)), "warmup_epochs": Choice((0, 2))},
            "grid",
            r"^The space of model-a must hold values that fit each other, got epochs 1, warmup_epochs 2: warmup_epochs",
        ),
        # At its end alone, which none of the points that are rehearsed comes to.
        (
            {"warmup_epochs": Uniform(0, 5.05)},
            "random",
            r"^The space of model-a must hold values that fit each other, got warmup_epochs 5\.05: ",
        ),
        (
            {"min_scale": Uniform(0.5, 1.2), "max_scale": Uniform(1, 2)},
            "tpe",
            r"got min_scale 1\.2, max_scale 1: max_scale must be at least min_scale, 1\.2",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused_before_a_trial_begins(
    space: Mapping[str, Dimension], search: str, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        rehearse(study(space, search=search, trials_per_cell=None if search == "grid" else 20))


@pytest.mark.parametrize("dimension", [LogUniform(16, 256), Uniform(16, 256), Uniform(16, 256, 16)])
def test_a_whole_number_is_drawn_from_whole_numbers(dimension: Dimension) -> None:
    with pytest.raises(ValueError, match=r"^batch_size must be searched as IntUniform or Choice, .* got .*256\]"):
        study({"batch_size": dimension}, search="random", trials_per_cell=2)


@dataclass(frozen=True)
class Net:
    depth: int = 2
    skip: bool = False
    activation: str = "relu"


@pytest.mark.usefixtures("registries")
def test_options_of_a_variant_s_own_are_searched_by_it_alone() -> None:
    register_variant("own-net", options=Net)(lambda options, num_classes: nn.Linear(options.depth, num_classes))
    own = Space({"options.depth": IntUniform(1, 3), "options.skip": Choice((True, False))})
    asked = study({"lr": Choice((0.1,))}, variants=("model-a", "own-net"), spaces={"own-net": own})
    configs = walk(asked, cell=1)
    assert sorted((config.options["depth"], config.options["skip"]) for config in configs) == [
        (depth, skip) for depth in (1, 2, 3) for skip in (False, True)
    ]
    assert {config.options["activation"] for config in configs} == {"relu"}
    assert walk(asked)[0].options == {}
    assert walk(asked, rows_of(asked, configs[:4]), cell=1) == configs
    with pytest.raises(ValueError, match=r"^options\.depth must be searched as IntUniform or Choice"):
        replace(
            asked, spaces={"own-net": Space({"options.depth": Uniform(1, 3)})}, search="random", trials_per_cell=2
        ).cells()
    with pytest.raises(ValueError, match=r"depth must be an option of every variant that searches it, got model-a"):
        replace(asked, space=Space({"options.depth": IntUniform(1, 3)}))
