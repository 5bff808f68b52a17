"""Options that a variant registers as its own: their defaults, their checks, and what is refused."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge

from sweep.study.reference import Value, sections
from trainables.options import complete_options, make_options, register_options

pytestmark = pytest.mark.usefixtures("registries")


@dataclass
class Options:
    depth: Annotated[int, Ge(1)] = 2
    """How many layers there are; the last is the class layer. A second sentence."""
    norm: Literal["batch", "none"] = "batch"
    sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))


def test_what_is_left_out_has_its_default() -> None:
    register_options("own-net", Options)
    assert make_options("own-net", {}) == Options()
    assert make_options("own-net", {"depth": 5}) == Options(depth=5)
    assert complete_options("own-net", {"norm": "none"}) == {"depth": 2, "norm": "none", "sizes": (1, 2)}


def test_a_variant_without_options_takes_none() -> None:
    assert make_options("model-c", {}) is None
    assert complete_options("model-c", {}) == {}
    with pytest.raises(ValueError, match=r"^options must be left out for the variant model-c, .* got depth\.$"):
        make_options("model-c", {"depth": 1})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"deph": 1}, "options of own-net must be among depth, norm, sizes, got 'deph'."),
        ({"depth": 0}, "options.depth must be a whole number at least 1, got 0."),
        ({"depth": "two"}, "options.depth must be a whole number at least 1, got 'two'."),
        ({"norm": "layer"}, "options.norm must be one of batch, none, got 'layer'."),
    ],
)
def test_values_are_checked_against_the_annotations(values: dict[str, Any], sentence: str) -> None:
    register_options("own-net", Options)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        make_options("own-net", values)


def test_options_must_be_a_dataclass_whose_fields_have_defaults() -> None:
    @dataclass
    class Without:
        depth: int

    for wrong in (dict, {"depth": 1}, Options()):
        with pytest.raises(ValueError, match=r"^options of the variant own-net must be a dataclass, got "):
            register_options("own-net", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^options of the variant own-net must have a default each, got none for dep"):
        register_options("own-net", Without)


def test_they_are_described_beside_the_values_of_a_trial() -> None:
    register_options("own-net", Options)
    depth, norm, sizes = sections()["Options of own-net"]
    assert depth == Value(
        name="options.depth",
        kind="a whole number at least 1",
        default="2",
        text="How many layers there are; the last is the class layer. A second sentence.",
        is_searched=True,
    )
    assert depth.summary == "How many layers there are; the last is the class layer."
    assert (norm.facts, norm.summary) == ("one of batch, none; default: batch", "")
    assert sizes.default == "(1, 2)"


def test_a_class_without_source_is_described_by_its_annotations() -> None:
    names: dict[str, Any] = {}
    exec("from dataclasses import dataclass\n@dataclass\nclass Made:\n    depth: int = 1\n", names)  # noqa: S102
    register_options("own-net", names["Made"])
    (depth,) = sections()["Options of own-net"]
    assert (depth.facts, depth.text) == ("a whole number; default: 1", "")


def test_the_description_of_a_trials_values_is_that_of_their_classes() -> None:
    found = {value.name: value for values in sections().values() for value in values}
    assert found["lr"].facts == "a number above 0"
    assert found["lr"].text == "Initial learning rate, the paper's gamma."
    assert found["dropout"].facts == "a number at least 0 and below 1; default: 0.5"
    assert found["seed"].facts == "a whole number at least 0 and below 4294967296; default: 0; --set only"
    assert found["validation"].facts == "a number above 0 and at most 0.5; default: 0.1; --set only"
    assert found["hue"].is_searched
    assert all(value.text for value in found.values())
