import json
import math
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import Choice, LogUniform, Space
from search_spaces.paper import VARIANTS
from sweep.record.selection import points_per_cell
from sweep.study.catalog import STUDIES
from sweep.study.study import EarlierPoint, Study, WarmStart
from trainables.config import TrialConfig

GOOD = Study(
    name="test",
    datasets=("shapes",),
    variants=("model-c", "all-cnn-c"),
    space=Space(lr=Choice((0.1, 0.01))),
    base=TrialConfig(dataset="shapes", variant="all-cnn-c", lr=0.05),
)


@pytest.mark.parametrize("name", [str(name) for name in STUDIES])
def test_every_registered_study_builds_and_comes_back_through_json(name: str) -> None:
    study = STUDIES[name]()
    assert study.name == name
    assert len(study.cells()) == len(study.datasets) * len(study.augmentations) * len(study.variants)
    back = Study.from_dict(json.loads(json.dumps(study.to_dict())))
    assert back == study


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rates": LogUniform(0.001, 0.1), "search": "tpe", "trials_per_cell": 3, "early_stopping": "asha"},
        {"augmentations": ("none", "flip-shift"), "seeds": 2},
        {"weight_decays": Choice((0.001, 0.01)), "batch_sizes": Choice((64, 128))},
        {
            "search": "CmaEsSampler",
            "trials_per_cell": 3,
            "weight_decays": LogUniform(0.001, 0.01),
            "warm_start": WarmStart(
                run="/runs/x",
                points=(EarlierPoint(cell="a/b/c", lr=0.1, weight_decay=0.001, batch_size=64, error=0.5),),
                skipped=2,
            ),
        },
        {"early_stopping": "asha", "first_rung": 9, "reduction_factor": 2},
        {"base": replace(GOOD.base, plugins=("/a.py",), drops=(0.5,), data="/data", train_size=9)},
    ],
)
def test_changed_studies_come_back_through_json(changes: dict[str, Any]) -> None:
    study = replace(GOOD, **changes)
    back = Study.from_dict(json.loads(json.dumps(study.to_dict())))
    assert back == study
    assert back != GOOD


@pytest.mark.parametrize(
    ("epochs", "changes", "rungs", "keep_one_in"),
    [
        (350, {}, (), 4),
        (350, {"early_stopping": "halving"}, (100, 201), 2),
        (14, {"early_stopping": "halving"}, (4, 9), 2),
        (14, {"early_stopping": "halving", "first_rung": 3, "reduction_factor": 4}, (3, 12), 4),
        (2, {"early_stopping": "halving"}, (), 2),
        (350, {"early_stopping": "asha"}, (201, 251, 301), 4),
        (350, {"early_stopping": "asha", "first_rung": 9, "reduction_factor": 6}, (9, 54, 324), 6),
    ],
)
def test_each_policy_has_its_rungs_and_halving_measures_averaged_weights_there(
    epochs: int, changes: dict[str, Any], rungs: tuple[int, ...], keep_one_in: int
) -> None:
    study = replace(GOOD, base=replace(GOOD.base, epochs=epochs), **changes)
    assert (study.rungs, study.keep_one_in) == (rungs, keep_one_in)
    averaged_at = rungs if study.early_stopping == "halving" else ()
    assert {cell.averaged_at for cell in study.cells()} == {averaged_at}


def test_the_studies_are_the_documented_ones() -> None:
    assert list(STUDIES)[:5] == ["quickstart", "cifar10", "cifar10-augmented", "cifar100", "pooling"]
    assert "cifar10-large" in STUDIES


def test_the_papers_study_is_its_table_3() -> None:
    study = STUDIES["cifar10"]()
    assert study.variants == VARIANTS
    assert isinstance(study.learning_rates, Choice)
    assert set(study.learning_rates.values) == {0.25, 0.1, 0.05, 0.01}
    assert (study.base.epochs, study.base.drop_epochs, study.base.drop_factor) == (350, (200, 250, 300), 0.1)
    assert (study.base.weight_decay, study.base.momentum, study.base.preprocessing) == (0.001, 0.9, "gcn-zca")
    assert len(study.cells()) * study.points_per_cell == 48


def test_the_large_network_s_study_is_what_the_paper_gives_of_it() -> None:
    study = STUDIES["cifar10-large"]()
    (cell,) = study.cells()
    assert cell.cell == "cifar10/heavy/large-all-cnn"
    assert (cell.canvas, cell.preprocessing) == (126, "standardise")
    assert (cell.architecture.width, cell.architecture.input_dropout, cell.architecture.dropout) == (1.0, 0.0, 0.5)


def test_cells_span_data_sets_augmentations_and_variants() -> None:
    study = replace(GOOD, datasets=("cifar10", "shapes"), augmentations=("none", "flip-shift"))
    assert [cell.cell for cell in study.cells()] == [
        f"{dataset}/{augmentation}/{variant}"
        for dataset in ("cifar10", "shapes")
        for augmentation in ("none", "flip-shift")
        for variant in ("model-c", "all-cnn-c")
    ]


def test_points_per_cell() -> None:
    assert GOOD.points_per_cell == 2
    assert replace(GOOD, protocol="paper", seeds=5).points_per_cell == 10
    assert replace(GOOD, seeds=5).points_per_cell == 2
    assert replace(GOOD, search="random", trials_per_cell=7).points_per_cell == 7
    both = replace(GOOD, weight_decays=Choice((0.1, 0.2, 0.3)), batch_sizes=Choice((64, 128)))
    assert both.points_per_cell == 12
    assert list(both.dimensions) == ["lr", "weight_decay", "batch_size"]
    assert list(GOOD.dimensions) == ["lr"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"learning_rates": Choice((0.0, 0.1))}, "lr must be a finite number above 0, got 0.0."),
        ({"batch_sizes": Choice((0, 8))}, "batch_size must be at least 1 and at most 1000000, got 0."),
        ({"datasets": ()}, "datasets must hold at least one name, got none."),
        ({"augmentations": ()}, "augmentations must hold at least one name, got none."),
        ({"variants": ()}, "variants must hold at least one name, got none."),
        ({"variants": ("a", "b", "a")}, "variants must differ from each other, got a, b, a."),
        (
            {"search": "best"},
            "search must be one of grid, tpe, random, BruteForceSampler, CmaEsSampler, GPSampler, NSGAIIISampler, "
            "NSGAIISampler, QMCSampler, RandomSampler, TPESampler, got 'best'.",
        ),
        (
            {"weight_decays": LogUniform(0.1, 0.2)},
            "The grid search must have listed weight decays, got log-uniform [0.1, 0.2].",
        ),
        ({"batch_sizes": Choice((64, 10**7))}, "batch_size must be at least 1 and at most 1000000, got 10000000."),
        ({"batch_sizes": Choice((64, 64.5))}, "batch_sizes must be whole numbers, got {64, 64.5}."),
        (
            {"protocol": "paper", "seeds": 10_000},
            "The grid must hold at most 10000 trials of a cell, got 20000; list fewer values or seeds.",
        ),
        (
            {"search": "random", "trials_per_cell": 3, "base": replace(GOOD.base, seed=2**32 - 2)},
            "seed must leave all seeds below 4294967296, got 4294967294 as the first.",
        ),
        (
            {"warm_start": WarmStart(run="/runs/x", points=(), skipped=0)},
            "warm_start must be left out for the grid search, which learns nothing from earlier trials, "
            "got /runs/x; add --search tpe.",
        ),
        ({"early_stopping": "late"}, "early_stopping must be one of none, asha, halving, got 'late'."),
        (
            {"first_rung": 3},
            "first_rung must be left out where no trial is stopped early, got 3; add --early-stopping halving or asha.",
        ),
        (
            {"early_stopping": "asha", "first_rung": 0},
            "first_rung must be at least 1 and at most 349, got 0.",
        ),
        (
            {"early_stopping": "asha", "first_rung": 350},
            "first_rung must be at least 1 and at most 349, got 350.",
        ),
        ({"reduction_factor": 1}, "reduction_factor must be at least 2 and at most 10000, got 1."),
        *(
            (
                {"base": replace(GOOD.base, evaluate_every=every), **by_epochs},
                f"evaluate_every must be 1 with early stopping, which compares the errors of epochs, got {every}.",
            )
            for every in (2, None)
            for by_epochs in ({"early_stopping": "asha"}, {"early_stopping": "halving"})
        ),
        ({"protocol": "x"}, "protocol must be one of holdout, paper, got 'x'."),
        ({"validation": 0.0}, "validation must be above 0 and at most 0.5, got 0."),
        ({"validation": 0.6}, "validation must be above 0 and at most 0.5, got 0.6."),
        ({"validation": math.nan}, "validation must be above 0 and at most 0.5, got nan."),
        ({"confirm_top": 0}, "confirm_top must be at least 1 and at most 10000, got 0."),
        ({"seeds": -1}, "seeds must be at least 0 and at most 10000, got -1."),
        ({"protocol": "paper", "seeds": 0}, "seeds must be at least 1 and at most 10000, got 0."),
        (
            {"learning_rates": LogUniform(0.1, 0.2)},
            "The grid search must have listed learning rates, got log-uniform [0.1, 0.2].",
        ),
        (
            {"trials_per_cell": 3},
            "trials_per_cell must be left out for the grid search, which tries each of its points, got 3.",
        ),
        ({"search": "tpe"}, "trials_per_cell must be at least 1 and at most 10000 for the search tpe, got None."),
        (
            {"search": "random", "trials_per_cell": 0},
            "trials_per_cell must be at least 1 and at most 10000 for the search random, got 0.",
        ),
        (
            {"protocol": "paper", "search": "random", "trials_per_cell": 3, "seeds": 2},
            "seeds must be 1 for the search random, got 2; a grid repeats points.",
        ),
    ],
)
def test_what_does_not_hold_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        replace(GOOD, **changes)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"protocol": "paper", "seeds": 5},
        {"seeds": 5},
        {"search": "random", "trials_per_cell": 7},
        {"weight_decays": Choice((0.0, 0.1, 0.2)), "batch_sizes": Choice((64, 128))},
    ],
)
def test_the_record_says_how_many_points_a_cell_has(changes: dict[str, Any]) -> None:
    study = replace(GOOD, **changes)
    assert points_per_cell(json.loads(json.dumps(study.to_dict()))) == study.points_per_cell


def test_seeds_and_trials_of_both_protocols() -> None:
    holdout, paper = GOOD, replace(GOOD, protocol="paper")
    assert (holdout.search_seeds, holdout.confirm_seeds, holdout.confirmed_per_cell) == (1, 3, 3)
    assert (paper.search_seeds, paper.confirm_seeds, paper.confirmed_per_cell) == (1, 0, 0)
    five = replace(GOOD, seeds=5, confirm_top=2)
    assert (five.search_seeds, five.confirm_seeds, five.confirmed_per_cell) == (1, 5, 10)
    # A cell has no more configurations to confirm than it tries.
    assert replace(GOOD, confirm_top=9).confirmed_per_cell == 2 * 3
    assert (replace(paper, seeds=4).search_seeds, replace(paper, seeds=4).confirm_seeds) == (4, 0)


def test_without_seeds_nothing_is_confirmed() -> None:
    none = replace(GOOD, seeds=0)
    assert (none.search_seeds, none.confirm_seeds, none.confirmed_per_cell) == (1, 0, 0)
    assert {cell.held_out for cell in none.cells()} == {0.1}


def test_the_search_of_holdout_trains_without_the_held_out_images() -> None:
    assert {cell.held_out for cell in replace(GOOD, validation=0.2).cells()} == {0.2}
    assert {cell.held_out for cell in replace(GOOD, protocol="paper").cells()} == {0.0}


def test_fresh_seeds_must_fit() -> None:
    with pytest.raises(
        ValueError, match=r"^seed must leave all seeds below 4294967296, got 4294957294 as the first\.$"
    ):
        replace(GOOD, base=replace(GOOD.base, seed=2**32 - 10_002))
    assert replace(GOOD, base=replace(GOOD.base, seed=2**32 - 10_003)).confirm_seeds == 3


def test_an_unknown_study_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^study must be one of quickstart, cifar10, .*, got 'nope'\.$"):
        STUDIES["nope"]
