"""What `--vary` and `--set` say, from text to dimension or value; what they refuse is in test_bad_hyperparameters."""

from dataclasses import dataclass

import pytest

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Uniform
from sweep.study.vary import name_in, parse_dimension, parse_setting
from trainables.options import register_options

VARIANTS = ("model-c", "all-cnn-c.caffe")


@pytest.mark.parametrize(
    ("text", "variant", "name", "dimension"),
    [
        ("lr=0.1,0.05", None, "lr", Choice((0.1, 0.05))),
        ("lr=0.1", None, "lr", Choice((0.1,))),
        (" learning-rate = 0.1 , 0.05 ", None, "lr", Choice((0.1, 0.05))),
        ("lr=1e-4..0.3", None, "lr", LogUniform(1e-4, 0.3)),
        ("lr=linear:0.1..0.3", None, "lr", Uniform(0.1, 0.3)),
        ("lr=0.1..0.3..0.1", None, "lr", Uniform(0.1, 0.3, 0.1)),
        ("dropout=0..0.5", None, "dropout", Uniform(0.0, 0.5)),
        ("dropout=0..0.5..0.1", None, "dropout", Uniform(0.0, 0.5, 0.1)),
        ("dropout=log:0.01..0.5", None, "dropout", LogUniform(0.01, 0.5)),
        ("batch_size=32,64", None, "batch_size", Choice((32, 64))),
        ("batch_size=32..64", None, "batch_size", IntUniform(32, 64)),
        ("batch_size=32..64..16", None, "batch_size", IntUniform(32, 64, 16)),
        ("max_grad_norm=none,2", None, "max_grad_norm", Choice((None, 2.0))),
        ("class_relu=yes,no", None, "class_relu", Choice((True, False))),
        ("initialisation=he,glorot", None, "initialisation", Choice(("he", "glorot"))),
        ("model-c:lr=0.1", "model-c", "lr", Choice((0.1,))),
        ("all-cnn-c:lr=0.1", "all-cnn-c", "lr", Choice((0.1,))),
        ("all-cnn-c.caffe:lr=0.1", "all-cnn-c.caffe", "lr", Choice((0.1,))),
        (
            "momentum=0.8..0.9 if momentum_form=caffe",
            None,
            "momentum",
            Uniform(0.8, 0.9).when("momentum_form", "caffe"),
        ),
        (
            "model-c:dropout=0.1,0.2  if  architecture.class_relu = no, yes",
            "model-c",
            "dropout",
            Choice((0.1, 0.2)).when("class_relu", False, True),
        ),
    ],
)
def test_a_dimension_is_read(text: str, variant: str | None, name: str, dimension: Dimension) -> None:
    assert parse_dimension(text, VARIANTS) == (variant, name, dimension)


@dataclass
class Options:
    depth: int = 2
    norm: str = "batch"


@pytest.mark.usefixtures("registries")
def test_options_of_a_variants_own_are_read_by_their_kind() -> None:
    register_options("own-net", Options)
    assert parse_dimension("depth=1,2", ("own-net",)) == (None, "options.depth", Choice((1, 2)))
    assert parse_dimension("own-net:options.norm=batch,none", ("own-net", "model-c")) == (
        "own-net",
        "options.norm",
        Choice(("batch", "none")),
    )
    assert parse_setting("depth=5", ("own-net", "model-c")) == ("options.depth", 5)
    with pytest.raises(ValueError, match=r"^There is no hyperparameter 'depth'"):
        parse_dimension("model-c:depth=1", ("own-net", "model-c"))


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("momentum=0.8", "momentum", 0.8),
        (" momentum = 0.8 ", "momentum", 0.8),
        ("architecture.class-relu=no", "class_relu", False),
        ("canvas=none", "canvas", None),
        ("validation=0.2", "validation", 0.2),
        ("confirm-top=2", "confirm_top", 2),
        ("first_rung=none", "first_rung", None),
        ("evaluate_every=2", "evaluate_every", 2),
        ("initialisation=glorot", "initialisation", "glorot"),
    ],
)
def test_a_setting_is_read(text: str, name: str, value: object) -> None:
    found = parse_setting(text, VARIANTS)
    assert found == (name, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("lr=0.1", "lr"),
        (" learning-rate =0.1", "lr"),
        ("architecture.dropout=0.1", "dropout"),
        ("model-c:learning_rate=0.1 if a=b", "model-c:lr"),
        ("confirm_top=2", "confirm_top"),
        ("options.depth=1", "options.depth"),
        ("nonsense", "nonsense"),
    ],
)
def test_the_name_in_what_was_typed(text: str, name: str) -> None:
    assert name_in(text) == name
