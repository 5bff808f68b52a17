"""Values of a trial by name: which there are, how a user may write them, how they are read and set."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt

from trainables import TrialConfig
from trainables.common.validation import LOG
from trainables.hyperparameters import (
    GIVEN_ELSEWHERE,
    PATHS,
    is_logarithmic,
    is_number,
    is_whole,
    kind_of,
    parse_value,
    resolve,
    value_of,
    with_values,
)

TRIAL = TrialConfig(dataset="shapes", variant="all-cnn-c", lr=0.05, options={"depth": 3})


@dataclass
class Options:
    depth: int = 2
    dropout: float = 0.1


NAMES = [*PATHS, "options.depth", "options.dropout"]


def test_names_are_those_of_the_fields_of_a_trial_and_its_parts() -> None:
    assert PATHS["lr"] == ("lr",)
    assert PATHS["dropout"] == ("architecture", "dropout")
    assert PATHS["hue"] == ("heavy", "hue")
    # Parts, lists and what a study decides by cell are no values.
    assert not PATHS.keys() & {"architecture", "heavy", "options", "drops", "averaged_at", *GIVEN_ELSEWHERE}


@pytest.mark.parametrize("name", list(PATHS))
def test_each_value_is_read_where_it_was_set(name: str) -> None:
    other = {"momentum_form": "caffe", "preprocessing": "standardise", "precision": "bfloat16", "compiled": "no"}
    other |= {"memory_format": "contiguous", "initialisation": "glorot", "max_scale": 0.9}
    now = value_of(TRIAL, name)
    value: Any = other.get(name, not now if isinstance(now, bool) else 1 if is_whole(kind_of(name)) else 0.4)
    changed = with_values(TRIAL, {name: value} | ({"epochs": 1} if name == "iterations" else {}))
    assert value_of(changed, name) == value
    assert value_of(with_values(changed, {name: now}), name) == now


def test_values_of_several_parts_are_set_at_once_and_the_others_stay() -> None:
    changed = with_values(TRIAL, {"lr": 0.1, "dropout": 0.2, "width": 0.5, "hue": 0.1, "options.depth": 4})
    assert changed == replace(
        TRIAL,
        lr=0.1,
        architecture=replace(TRIAL.architecture, dropout=0.2, width=0.5),
        heavy=replace(TRIAL.heavy, hue=0.1),
        options={"depth": 4},
    )
    assert value_of(changed, "options.depth") == 4
    assert with_values(TRIAL, {}) == TRIAL
    with pytest.raises(ValueError, match=r"^dropout must be a number at least 0 and below 1, got 2\.0\.$"):
        with_values(TRIAL, {"dropout": 2.0})


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("lr", "lr"),
        ("learning_rate", "lr"),
        ("learning-rate", "lr"),
        ("weight-decay", "weight_decay"),
        ("architecture.dropout", "dropout"),
        ("heavy.hue", "hue"),
        ("initialization", "initialisation"),
        ("depth", "options.depth"),
        ("options.depth", "options.depth"),
        # The paper's networks' is meant where a variant has an option of the same name.
        ("dropout", "dropout"),
        ("options.dropout", "options.dropout"),
    ],
)
def test_a_name_may_be_written_in_several_ways(written: str, name: str) -> None:
    assert resolve(written, NAMES) == name


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("momentun", "There is no hyperparameter 'momentun'; did you mean momentum or momentum_form?"),
        ("deph", "There is no hyperparameter 'deph'; did you mean options.depth"),
        ("options.deph", "There is no hyperparameter 'options.deph'; did you mean options.depth"),
        ("confirm_tob", "There is no hyperparameter 'confirm_tob'; did you mean confirm_top?"),
        ("heavy.dropout", "There is no hyperparameter 'heavy.dropout'; did you mean "),
        ("architecture", "There is no hyperparameter 'architecture'."),
        ("", "There is no hyperparameter ''."),
        ("zzz\n", "There is no hyperparameter 'zzz\\n'."),
        ("variant", "variant must be given by --variants, got it as a hyperparameter."),
        ("held-out", "held_out must be given by --protocol, got it as a hyperparameter."),
    ],
)
def test_a_name_that_there_is_not_is_refused_with_the_nearest(written: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        resolve(written, NAMES, ["confirm_top"])


def test_the_annotation_says_what_a_value_may_be() -> None:
    assert kind_of("lr") == Annotated[float, Gt(0), LOG]
    assert kind_of("options.depth", Options) is int
    assert [name for name in PATHS if is_logarithmic(kind_of(name))] == [
        *("lr", "weight_decay", "max_grad_norm", "initialisation_std"),
    ]
    assert {name for name in PATHS if is_whole(kind_of(name))} == {
        *("canvas", "train_size", "evaluate_every", "batch_size", "epochs", "iterations", "seed", "head_padding"),
    }
    assert not is_number(kind_of("class_relu"))
    assert not is_number(kind_of("preprocessing"))
    assert is_number(kind_of("max_grad_norm"))


Mode = Literal["a", "b"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("-3", int, -3),
        ("3", float, 3.0),
        ("1e-3", float, 0.001),
        ("3", Annotated[int, Ge(1)] | None, 3),
        ("none", int | None, None),
        ("None", int | None, None),
        ("none", str, "none"),
        ("yes", bool, True),
        ("TRUE", bool, True),
        ("off", bool, False),
        ("a", Mode, "a"),
        ("a", Mode | None, "a"),
        ("3", int | float, 3),
        ("3.5", int | float, 3.5),
        ("x y", str, "x y"),
    ],
)
def test_a_value_is_read_as_its_kind(text: str, kind: Any, value: Any) -> None:
    found = parse_value("name", text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "must"),
    [
        ("1.5", int, "a whole number"),
        ("1e3", int, "a whole number"),
        ("", float, "a number"),
        ("none", float, "a number"),
        ("1", bool, "true or false"),
        ("A", Mode, "one of a, b"),
        ("x", Annotated[int, Ge(1)] | None, "a whole number at least 1 or none"),
    ],
)
def test_a_value_of_another_kind_is_refused(text: str, kind: Any, must: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'name must be {must}, got {text!r}.')}$"):
        parse_value("name", text, kind)
