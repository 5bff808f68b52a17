import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import Choice, IntUniform, LogUniform, Space, Uniform
from search_spaces.paper import VARIANTS
from sweep.study.catalog import STUDIES
from sweep.study.prior_trials import PriorTrial, WarmStart
from sweep.study.study import Study, params_of
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
        {
            "space": Space(lr=LogUniform(0.001, 0.1), dropout=Uniform(0, 0.5, 0.1), batch_size=IntUniform(8, 64)),
            "search": "tpe",
            "trials_per_cell": 3,
            "early_stopping": "asha",
        },
        {"augmentations": ("none", "flip-shift"), "seeds": 2},
        {
            "space": Space(
                weight_decay=Choice((0.001, 0.01)), batch_size=Choice((64, 128)), class_relu=Choice((True, False))
            )
        },
        {"space": Space(class_relu=Choice((True, False)), dropout=Choice((0.1, 0.2)).when("class_relu", False))},
        {"spaces": {"model-c": Space(lr=Choice((0.3,)), canvas=Choice((None, 48)))}},
        {
            "search": "CmaEsSampler",
            "trials_per_cell": 3,
            "space": Space(lr=Choice((0.1,)), weight_decay=LogUniform(0.001, 0.01)),
            "warm_start": WarmStart(
                run="/runs/x",
                points=(PriorTrial(cell="a/b/c", params={"lr": 0.1, "weight_decay": 0.001}, error=0.5),),
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
    assert study.space == Space(lr=Choice((0.25, 0.1, 0.05, 0.01)))
    assert (study.base.epochs, study.base.drop_epochs, study.base.drop_factor) == (350, (200, 250, 300), 0.1)
    assert (study.base.weight_decay, study.base.momentum, study.base.preprocessing) == (0.001, 0.9, "gcn-zca")
    assert study.search_trials == 48


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


def points(study: Study) -> int:
    """Return how many trials the search of a cell has, the same for each variant."""
    (count,) = {study.points_of(variant) for variant in study.variants}
    return count


def test_trials_of_a_cell() -> None:
    assert points(GOOD) == 2
    assert points(replace(GOOD, protocol="paper", seeds=5)) == 10
    assert points(replace(GOOD, seeds=5)) == 2
    assert points(replace(GOOD, search="random", trials_per_cell=7)) == 7
    assert points(replace(GOOD, space=Space())) == 1
    both = replace(
        GOOD, space=Space(lr=Choice((0.1, 0.01)), weight_decay=Choice((0.1, 0.2, 0.3)), batch_size=Choice((64, 128)))
    )
    assert points(both) == 12
    assert both.searched == ("lr", "weight_decay", "batch_size")
    assert GOOD.searched == ("lr",)
    # Dropout is searched with the one of two kinds of ReLU only: 2 (1 + 3).
    relu = Space(
        lr=Choice((0.1, 0.01)),
        class_relu=Choice((True, False)),
        dropout=Choice((0.1, 0.2, 0.3)).when("class_relu", False),
    )
    assert points(replace(GOOD, space=relu)) == 8


def test_a_variant_searches_its_own_dimensions_instead_of_and_besides_the_studys() -> None:
    own = Space(lr=Choice((0.3, 0.2, 0.1)), dropout=Choice((0.1, 0.2)))
    study = replace(GOOD, spaces={"model-c": own}, datasets=("shapes", "cifar10"))
    assert study.space_of("model-c") == own
    assert study.space_of("all-cnn-c") == GOOD.space
    assert (study.points_of("model-c"), study.points_of("all-cnn-c")) == (6, 2)
    assert (study.search_trials, study.confirm_trials) == (2 * (6 + 2), 2 * (3 + 3))
    assert study.searched == ("lr", "dropout")
    besides = replace(GOOD, spaces={"model-c": Space(dropout=Choice((0.1, 0.2)))})
    assert list(besides.space_of("model-c")) == ["lr", "dropout"]


def test_the_epochs_of_a_study_are_one_number_unless_they_are_searched() -> None:
    assert GOOD.epochs == 350
    assert replace(GOOD, space=Space(epochs=Choice((2, 4)))).epochs is None
    assert replace(GOOD, spaces={"model-c": Space(epochs=Choice((2, 4)))}).epochs is None


def test_names_of_hyperparameters_are_written_in_several_ways() -> None:
    study = replace(
        GOOD,
        space=Space(
            {
                "learning_rate": Choice((0.1,)),
                "architecture.class_relu": Choice((True, False)),
                "heavy.hue": Choice((0.1,)).when("architecture.class_relu", True),
            }
        ),
    )
    assert study.space == Space(
        lr=Choice((0.1,)), class_relu=Choice((True, False)), hue=Choice((0.1,)).when("class_relu", True)
    )


def test_the_searched_values_of_a_trial_are_read_from_its_configuration() -> None:
    space = Space(class_relu=Choice((True, False)), dropout=Choice((0.1, 0.2)).when("class_relu", False))
    base = GOOD.base
    with_relu = replace(base, architecture=replace(base.architecture, class_relu=True, dropout=0.1))
    without = replace(base, architecture=replace(base.architecture, class_relu=False, dropout=0.2))
    assert params_of(with_relu, space) == {"class_relu": True}
    assert params_of(without, space) == {"class_relu": False, "dropout": 0.2}
    assert params_of(base, Space()) == {}


def test_settings_are_named_as_the_command_line_names_them() -> None:
    settings = replace(GOOD, spaces={"model-c": Space(dropout=Choice((0.1,)))}, validation=0.2).settings()
    assert settings["lr"] == Choice((0.1, 0.01))
    assert settings["model-c:dropout"] == Choice((0.1,))
    assert (settings["dropout"], settings["hue"], settings["validation"]) == (0.5, 0.05, 0.2)
    assert not settings.keys() & {"space", "spaces", "base", "architecture", "heavy", "options"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"space": Space(lr=Choice((0.0, 0.1)))}, "lr must be a number above 0, got 0.0."),
        (
            {"space": Space(batch_size=Choice((0, 8)))},
            "batch_size must be a whole number at least 1 and at most 1000000, got 0.",
        ),
        (
            {"space": Space(momentun=Choice((0.8,)))},
            "There is no hyperparameter 'momentun'; did you mean momentum or momentum_form?",
        ),
        ({"space": {"lr": (0.1,)}}, "space must be a Space, got {'lr': (0.1,)}."),
        (
            {"space": Space({"dropout": Choice((0.1,)), "architecture.dropout": Choice((0.2,))})},
            "A space must name each hyperparameter once, got two names for dropout, one of them architecture.dropout.",
        ),
        (
            {"space": Space(seed=Choice((1, 2)))},
            "seed must not be searched, got {1, 2}; give it with --set seed=VALUE.",
        ),
        (
            {"space": Space(epochs=Choice((2, 4))), "early_stopping": "asha"},
            "epochs must not be searched with early stopping, which compares trials after equal epochs, got {2, 4}.",
        ),
        (
            {"space": Space(batch_size=LogUniform(8, 64)), "search": "tpe", "trials_per_cell": 3},
            "batch_size must be searched as IntUniform or Choice, since it is a whole number, got log-uniform [8, 64].",
        ),
        (
            {"space": Space(initialisation=Choice(("he", "nope")))},
            "initialisation must be one of he, xavier-caffe, glorot, normal, pytorch, got 'nope'.",
        ),
        ({"space": Space(class_relu=Choice((1, 0)))}, "class_relu must be true or false, got 1."),
        (
            {"spaces": {"model-a": Space(lr=Choice((0.1,)))}},
            "spaces must name variants that are compared, model-c, all-cnn-c, got model-a.",
        ),
        ({"datasets": ()}, "datasets must hold at least one name, got none."),
        ({"augmentations": ()}, "augmentations must hold at least one name, got none."),
        ({"variants": ()}, "variants must hold at least one name, got none."),
        ({"variants": ("a", "b", "a")}, "variants must differ from each other, got a, b, a."),
        (
            {"space": Space(weight_decay=LogUniform(0.1, 0.2))},
            "weight_decay must be listed values or a range with a step for a grid, got log-uniform [0.1, 0.2].",
        ),
        (
            {"space": Space(batch_size=Choice((64, 10**7)))},
            "batch_size must be a whole number at least 1 and at most 1000000, got 10000000.",
        ),
        (
            {"space": Space(batch_size=Choice((64, 64.5)))},
            "batch_size must be a whole number at least 1 and at most 1000000, got 64.5.",
        ),
        (
            {"protocol": "paper", "seeds": 10_000},
            "The grid must hold at most 10000 trials of a cell, got 20000 for model-c; list fewer values or seeds.",
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
            "first_rung must be a whole number at least 1 or none, got 0.",
        ),
        (
            {"early_stopping": "asha", "first_rung": 350},
            "first_rung must be at most 349, the last epoch but one, got 350.",
        ),
        (
            {"reduction_factor": 1},
            "reduction_factor must be a whole number at least 2 and at most 10000 or none, got 1.",
        ),
        *(
            (
                {"base": replace(GOOD.base, evaluate_every=every), **by_epochs},
                f"evaluate_every must be 1 with early stopping, which compares the errors of epochs, got {every}.",
            )
            for every in (2, None)
            for by_epochs in ({"early_stopping": "asha"}, {"early_stopping": "halving"})
        ),
        ({"protocol": "x"}, "protocol must be one of holdout, paper, got 'x'."),
        ({"validation": 0.0}, "validation must be a number above 0 and at most 0.5, got 0.0."),
        ({"validation": 0.6}, "validation must be a number above 0 and at most 0.5, got 0.6."),
        ({"validation": math.nan}, "validation must be a number above 0 and at most 0.5, got nan."),
        ({"confirm_top": 0}, "confirm_top must be a whole number at least 1 and at most 10000, got 0."),
        ({"seeds": -1}, "seeds must be a whole number at least 0 and at most 10000 or none, got -1."),
        ({"protocol": "paper", "seeds": 0}, "seeds must be at least 1 under the protocol paper, got 0."),
        (
            {"spaces": {"model-c": Space(lr=LogUniform(0.1, 0.2))}},
            "lr must be listed values or a range with a step for a grid, got log-uniform [0.1, 0.2].",
        ),
        (
            {"trials_per_cell": 3},
            "trials_per_cell must be left out for the grid search, which tries each of its points, got 3.",
        ),
        ({"search": "tpe"}, "trials_per_cell must be given for the search tpe, got none."),
        (
            {"search": "random", "trials_per_cell": 0},
            "trials_per_cell must be a whole number at least 1 and at most 10000 or none, got 0.",
        ),
        (
            {"protocol": "paper", "search": "random", "trials_per_cell": 3, "seeds": 2},
            "seeds must be 1 for the search random, got 2; a grid repeats points.",
        ),
    ],
)
def test_what_does_not_hold_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        replace(GOOD, **changes)


def test_an_option_of_ones_own_is_refused_for_a_variant_that_has_none() -> None:
    # Not before: a run is read where its variants are not registered, too.
    study = replace(GOOD, space=Space({"options.depth": Choice((1, 2))}))
    with pytest.raises(ValueError, match=r"^options must be left out for the variant model-c, .* got depth\.$"):
        study.cells()


def test_seeds_and_trials_of_both_protocols() -> None:
    holdout, paper = GOOD, replace(GOOD, protocol="paper")
    assert (holdout.search_seeds, holdout.confirm_seeds, holdout.confirmed_of("model-c")) == (1, 3, 3)
    assert (paper.search_seeds, paper.confirm_seeds, paper.confirmed_of("model-c")) == (1, 0, 0)
    five = replace(GOOD, seeds=5, confirm_top=2)
    assert (five.search_seeds, five.confirm_seeds, five.confirmed_of("model-c")) == (1, 5, 10)
    # A cell has no more configurations to confirm than it tries.
    assert replace(GOOD, confirm_top=9).confirmed_of("model-c") == 2 * 3
    assert (replace(paper, seeds=4).search_seeds, replace(paper, seeds=4).confirm_seeds) == (4, 0)


def test_without_seeds_nothing_is_confirmed() -> None:
    none = replace(GOOD, seeds=0)
    assert (none.search_seeds, none.confirm_seeds, none.confirmed_of("model-c")) == (1, 0, 0)
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


def test_which_error_a_study_reads() -> None:
    assert GOOD.reads_test_errors
    assert not replace(GOOD, seeds=0).reads_test_errors
    assert replace(GOOD, protocol="paper").reads_test_errors
