"""Recipes: what they set, what is refused, and variants that name one, from study to network."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces import Choice, Space
from sweep.execution.plan import check_study
from sweep.record.store import TRIAL_ID
from sweep.run import main
from sweep.search.searcher import StudySearcher
from sweep.study.catalog import RECIPES, SCREENED, STUDIES
from sweep.study.study import Study
from trainables.architectures import build
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.recipe import Recipe, network_of, recipe_of, with_recipe

TRIAL = TrialConfig(dataset="shapes", variant="model-c", lr=0.05, batch_size=64)
GLOROT = Recipe(name="glorot", settings={"initialisation": "glorot", "max_grad_norm": 2.0})
CAFFE = Recipe(name="caffe-256", settings={"momentum_form": "caffe", "batch_size": 256, "class_relu": False})


def study(**changes: Any) -> Study:
    return replace(
        STUDIES["quickstart"](),
        **{"recipes": (GLOROT, CAFFE), "variants": ("model-c.glorot", "all-cnn-c.caffe-256", "model-c")} | changes,
    )


def test_settings_replace_those_of_the_trial_and_its_network_and_nothing_else() -> None:
    found = CAFFE.applied_to(TRIAL)
    assert found == replace(
        TRIAL, momentum_form="caffe", batch_size=256, architecture=replace(TRIAL.architecture, class_relu=False)
    )
    assert Recipe(name="none").applied_to(TRIAL) == TRIAL


def test_a_name_has_a_network_and_perhaps_a_recipe() -> None:
    assert [(network_of(name), recipe_of(name)) for name in ("model-c.glorot", "model-c", "model-c.")] == [
        ("model-c", "glorot"),
        ("model-c", None),
        ("model-c", ""),
    ]
    assert with_recipe(TRIAL, (GLOROT,)) == TRIAL
    named = replace(TRIAL, variant="model-c.glorot")
    assert with_recipe(named, (CAFFE, GLOROT)) == GLOROT.applied_to(named)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("Glorot", {}, "The name of a recipe must be lower-case letters, digits and single hyphens, got 'Glorot'."),
        ("a.b", {}, "The name of a recipe must be lower-case letters, digits and single hyphens, got 'a.b'."),
        ("a", ["lr"], "settings must be values by name, got ['lr']."),
        ("a", {"epochs": 3}, "settings of the recipe a must be values of one trial, got 'epochs'"),
        ("a", {"dataset": "cifar10"}, "settings of the recipe a must be values of one trial, got 'dataset'"),
        ("a", {"seed": 1}, "settings of the recipe a must be values of one trial, got 'seed'."),
        (
            "a",
            {"initialisaton": "he"},
            "settings of the recipe a must be values of one trial, got 'initialisaton'; did you mean initialisation or",
        ),
    ],
)
def test_what_is_no_recipe_is_refused(name: str, settings: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        Recipe(name=name, settings=settings)


def test_a_value_that_does_not_hold_is_refused_with_the_recipe_s_name() -> None:
    wrong = Recipe(name="wrong", settings={"initialisation": "He"})
    with pytest.raises(ValueError, match=r"^In the recipe wrong: initialisation must be one of he, .*, got 'He'\.$"):
        study(recipes=(wrong,), variants=("model-c.wrong",))
    typed = Recipe(name="typed", settings={"batch_size": 1.5})
    with pytest.raises(ValueError, match=r"^In the recipe typed: batch_size must be a whole number .*, got 1\.5\.$"):
        study(recipes=(typed,), variants=("model-c.typed",))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"variants": ("model-c.nope",)},
            "The variant model-c.nope must name one of the study's recipes, glorot, caffe-",
        ),
        ({"variants": ("model-c.",)}, "The variant model-c. must name one of the study's recipes, glorot, caffe-256."),
        (
            {"recipes": ()},
            "The variant model-c.glorot must name one of the study's recipes, got it in a study that has",
        ),
        ({"recipes": (GLOROT, GLOROT)}, "recipes must have different names, got glorot, glorot."),
        ({"recipes": [GLOROT]}, "recipes must be a tuple, each item a Recipe, got ["),
        (
            {"space": Space(batch_size=Choice((32, 64)))},
            "The recipe caffe-256 must not set batch_size, which the study searches.",
        ),
        (
            {"spaces": {"all-cnn-c.caffe-256": Space(momentum_form=Choice(("caffe", "pytorch")))}},
            "The recipe caffe-256 must not set momentum_form, which the study searches.",
        ),
    ],
)
def test_a_study_refuses_recipes_that_cannot_be_told_apart_or_are_not_there(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}"):
        study(**changes)


def test_each_cell_has_the_settings_of_its_recipe() -> None:
    first, second, plain = study().cells()
    base = replace(study().base, held_out=0.1)
    assert first == GLOROT.applied_to(replace(base, variant="model-c.glorot"))
    assert (second.batch_size, second.momentum_form, second.cell) == (256, "caffe", "shapes/none/all-cnn-c.caffe-256")
    assert plain == replace(base, variant="model-c")


def test_a_study_with_recipes_comes_back_through_json() -> None:
    written = study()
    assert Study.from_dict(json.loads(json.dumps(written.to_dict()))) == written
    broken = written.to_dict() | {"recipes": [{"name": "a", "seting": {}}]}
    with pytest.raises(ValueError, match=r" must hold known fields only, got 'seting'\.$"):
        Study.from_dict(broken)


def test_trials_of_such_variants_have_names_of_their_own_and_train_by_the_recipe() -> None:
    searcher = StudySearcher(study())
    dealt = [searcher.suggest(str(number)) for number in range(6)]
    configs = {}
    for one in dealt:
        assert isinstance(one, dict)
        assert re.fullmatch(TRIAL_ID, one["trial_id"])
        configs[one["trial_id"]] = TrialConfig.from_dict(one["config"])
    assert len(configs) == 6
    assert {config.batch_size for name, config in configs.items() if "caffe-256" in name} == {256}
    assert {config.max_grad_norm for name, config in configs.items() if "glorot" in name} == {2.0}
    plain = [config for name, config in configs.items() if name.startswith("shapes_none_model-c_")]
    assert [(one.max_grad_norm, one.architecture.initialisation) for one in plain] == [(None, "he")] * 2


def test_a_network_is_that_of_the_name_before_the_dot() -> None:
    options = ArchitectureConfig(width=0.05, initialisation="glorot")
    networks = []
    for name in ("model-c.glorot", "model-c"):
        torch.manual_seed(0)
        networks.append(build(name, options, 10))
    one, other = networks
    assert str(one) == str(other)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_study_recipe_tries_each_recipe_on_each_network_and_reads_no_test_error() -> None:
    named = STUDIES["recipe"]()
    assert named.variants == tuple(f"{network}.{recipe.name}" for recipe in RECIPES for network in SCREENED)
    assert (named.confirm_seeds, {cell.held_out for cell in named.cells()}) == (0, {0.1})
    # Other networks too, by the same names.
    few = replace(named, variants=("model-a.he-warmup", "all-cnn-b.caffe", "model-c"))
    assert list(check_study(few)) == [f"cifar10/none/{name}" for name in few.variants]
    assert [cell.warmup_epochs for cell in few.cells()] == [5.0, 0.0, 0.0]


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("quickstart", "--variants", "model-c.nope"), "got it in a study that has none; leave the part after the dot"),
        (("recipe", "--variants", "model-c.nope"), "must name one of the study's recipes, he, he-clip, "),
        (("recipe", "--variants", "nope.he"), "variant must be one of model-a, "),
        (("recipe", "--epochs", "2"), "In the recipe he-warmup: warmup_epochs must be at most epochs, 2, got 5.0."),
    ],
)
def test_a_variant_whose_recipe_is_not_there_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert text in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
