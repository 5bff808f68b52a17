"""Dimensions and spaces: what they refuse, how they print, which points a grid walks, and the way through JSON."""

import json
import math
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Space, Uniform, paper
from search_spaces.dimensions import MAX_LISTED, dimension_from


def test_the_paper_s_values() -> None:
    assert paper.LEARNING_RATES.values == (0.25, 0.1, 0.05, 0.01)
    assert (paper.LEARNING_RATE_RANGE.low, paper.LEARNING_RATE_RANGE.high) == (0.001, 0.25)
    assert len(paper.VARIANTS) == len(set(paper.VARIANTS)) == 12
    assert paper.VARIANTS[:4] == ("model-a", "strided-cnn-a", "convpool-cnn-a", "all-cnn-a")
    assert paper.VARIANTS[-1] == "all-cnn-c"


@pytest.mark.parametrize(
    ("dimension", "text"),
    [
        (Choice((0.25, 0.1)), "{0.25, 0.1}"),
        (Choice(("he", None, True, 2)), "{he, none, true, 2}"),
        (Uniform(0, 0.5), "uniform [0, 0.5]"),
        (Uniform(0, 0.5, 0.25), "uniform [0, 0.5] by 0.25"),
        (LogUniform(0.001, 0.25), "log-uniform [0.001, 0.25]"),
        (IntUniform(1, 4), "whole numbers [1, 4]"),
        (IntUniform(2, 8, 2), "whole numbers [2, 8] by 2"),
        (Choice((0.1,)).when("optimiser", "sgd", False), "{0.1} if optimiser is sgd or false"),
    ],
)
def test_dimensions_print_as_a_reader_writes_them(dimension: Dimension, text: str) -> None:
    assert str(dimension) == text


def test_dimensions_are_values() -> None:
    assert Choice([0.1, 0.2]) == Choice((0.1, 0.2))
    assert hash(Choice([0.1, 0.2])) == hash(Choice((0.1, 0.2)))
    assert Choice((0.1, 0.2)) != Choice((0.2, 0.1))
    assert Choice((0.1,)).when("a", 1) != Choice((0.1,))
    with pytest.raises(FrozenInstanceError):
        LogUniform(0.1, 0.2).low = 0.3  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan, 10**400])
def test_a_choice_holds_finite_numbers(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"^each value must be finite, got "):
        Choice((0.1, wrong))


@pytest.mark.parametrize("wrong", [(1, 2), [1], {"a": 1}, object(), 1j])
def test_a_choice_holds_scalars(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^each value must be a number, text, true, false or none, got "):
        Choice((wrong,))


@pytest.mark.parametrize("values", [(-0.1, 0.0), (True, False), (None, 1), ("", "a"), (True, 1)])
def test_a_choice_holds_any_scalars(values: tuple[Any, ...]) -> None:
    assert Choice(values).values == values
    assert Choice(values).listed() == Choice(values).ends == values


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there must be at least one value, got none\.$"):
        Choice(())


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.1), (1, 1.0), (True, True), ("a", "a"), (None, None)])
def test_a_value_that_stands_twice_is_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"must differ from each other, got "):
        Choice(values)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan, True, "1"])
def test_the_bounds_of_a_logarithmic_range_are_finite_and_above_zero(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"^low must be a finite number above 0, got {wrong!r}\.$"):
        LogUniform(wrong, 1.0)
    with pytest.raises(ValueError, match=rf"^high must be a finite number above 0, got {wrong!r}\.$"):
        LogUniform(0.1, wrong)


@pytest.mark.parametrize("wrong", [math.inf, math.nan, True, None])
def test_the_bounds_of_a_range_are_finite(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"^low must be a finite number, got {wrong!r}\.$"):
        Uniform(wrong, 1.0)


@pytest.mark.parametrize("wrong", [0.5, 2.0, math.inf, True])
def test_the_bounds_of_whole_numbers_are_whole(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"^high must be a whole number, got {wrong!r}\.$"):
        IntUniform(0, wrong)


@pytest.mark.parametrize("kind", [Uniform, LogUniform, IntUniform])
@pytest.mark.parametrize(("low", "high"), [(2, 1), (1, 1)])
def test_low_lies_below_high(kind: Any, low: int, high: int) -> None:
    with pytest.raises(ValueError, match=rf"^low must be below high, got low {low} and high {high}\.$"):
        kind(low, high)


@pytest.mark.parametrize("step", [0, -0.1, 0.6, math.nan, True])
def test_a_step_lies_within_the_range(step: float) -> None:
    with pytest.raises(ValueError, match=r"^step must be above 0 and at most high - low, got "):
        Uniform(0, 0.5, step)


@pytest.mark.parametrize("step", [0, 5, 1.0, True])
def test_a_step_of_whole_numbers_is_one(step: Any) -> None:
    with pytest.raises(ValueError, match=r"^step must be a whole number from 1 to high - low, got "):
        IntUniform(0, 4, step)


@pytest.mark.parametrize(
    ("dimension", "listed"),
    [
        (Uniform(0, 0.3, 0.1), (0.0, 0.1, 0.2, 0.3)),
        (Uniform(0, 0.5, 0.2), (0.0, 0.2, 0.4)),
        (Uniform(0, 0.5), None),
        (Uniform(0, 1, 1e-9), None),
        (LogUniform(0.1, 0.5), None),
        (IntUniform(1, 4), (1, 2, 3, 4)),
        (IntUniform(1, 6, 2), (1, 3, 5)),
        (IntUniform(1, MAX_LISTED + 1), None),
    ],
)
def test_what_a_grid_tries_of_a_range(dimension: Dimension, listed: tuple[float, ...] | None) -> None:
    assert dimension.listed() == listed


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Choice((1, "a", False)), [1, 1.0, "a", False], [0, True, "b", None]),
        (Uniform(0, 0.5), [0, 0.5, 0.123], [-0.1, 0.51, False, "0.1", None, math.nan]),
        (LogUniform(0.1, 0.5), [0.1, 0.5], [0.09, True]),
        (IntUniform(0, 3), [0, 3], [1.5, 2.0, 4, True]),
    ],
)
def test_what_a_dimension_holds(dimension: Dimension, inside: list[Any], outside: list[Any]) -> None:
    assert [value in dimension for value in inside] == [True] * len(inside)
    assert [value in dimension for value in outside] == [False] * len(outside)


DIMENSIONS = [
    Choice((0.1, "a", None, True)),
    Uniform(0, 0.5),
    Uniform(0, 0.5, 0.1),
    LogUniform(0.1, 0.5),
    IntUniform(1, 9, 2),
    Choice((1,)).when("x", None, 2),
]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=str)
def test_a_dimension_comes_back_from_json(dimension: Dimension) -> None:
    assert dimension_from(json.loads(json.dumps(dimension.to_dict()))) == dimension


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        (3, "must be a dimension of the kind choice, uniform, log-uniform, int-uniform, got 3."),
        ({"kind": "normal"}, "must be a dimension of the kind choice, "),
        ({"kind": "choice"}, "must hold values, got nothing."),
        ({"kind": "uniform", "low": 0, "high": 1}, "must hold high, low, step, got high, low."),
        ({"kind": "choice", "values": "ab"}, "values must be a list, got 'ab'."),
        ({"kind": "choice", "values": [1], "when": 3}, "when must hold a name and values, got 3."),
        ({"kind": "choice", "values": [1], "when": {"name": "a"}}, "when must hold a name and values, got "),
    ],
)
def test_what_is_no_dimension_is_refused(plain: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        dimension_from(plain)


# Written with an optimiser that has no momentum, and one that has.
CONDITIONAL = Space(
    {
        "optimiser": Choice(("adam", "sgd")),
        "momentum": Choice((0.8, 0.9)).when("optimiser", "sgd"),
        "options.depth": IntUniform(1, 2),
    }
)


def test_a_grid_walks_the_last_dimension_first() -> None:
    space = Space(a=Choice((1, 2)), b=Choice(("x", "y", "z")))
    assert [(point["a"], point["b"]) for point in space.points()] == [
        *((1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")),
    ]
    assert space.count_points() == 6
    assert list(Space().points()) == [{}]
    assert Space().count_points() == 1


def test_a_grid_leaves_out_what_does_not_exist_at_a_point() -> None:
    assert list(CONDITIONAL.points()) == [
        {"optimiser": "adam", "options.depth": 1},
        {"optimiser": "adam", "options.depth": 2},
        {"optimiser": "sgd", "momentum": 0.8, "options.depth": 1},
        {"optimiser": "sgd", "momentum": 0.8, "options.depth": 2},
        {"optimiser": "sgd", "momentum": 0.9, "options.depth": 1},
        {"optimiser": "sgd", "momentum": 0.9, "options.depth": 2},
    ]
    assert CONDITIONAL.count_points() == 6


def test_points_are_counted_without_making_them() -> None:
    values = Choice(tuple(range(10_000)))
    space = Space(a=values, b=values.when("a", *range(9_999)), c=Choice((1, 2)).when("b", 0), d=Choice((1, 2, 3)))
    assert space.count_points() == (9_999 * 10_001 + 1) * 3


def test_a_dimension_below_one_that_does_not_exist_does_not_exist_either() -> None:
    space = Space(a=Choice((True, False)), b=Choice((1, 2)).when("a", True), c=Choice((3, 4)).when("b", 2))
    assert list(space.points()) == [
        {"a": True, "b": 1},
        {"a": True, "b": 2, "c": 3},
        {"a": True, "b": 2, "c": 4},
        {"a": False},
    ]
    assert space.is_active("b", {"a": True})
    assert not space.is_active("b", {"a": 1})
    assert not space.is_active("c", {"a": False})


def test_a_grid_over_a_range_without_steps_is_refused() -> None:
    space = Space(lr=LogUniform(0.1, 0.2))
    for call in (space.count_points, lambda: list(space.points())):
        with pytest.raises(ValueError, match=r"^lr must be listed values or a range with a step .* log-uniform"):
            call()


@pytest.mark.parametrize(
    ("dimensions", "sentence"),
    [
        ({"a b": Choice((1,))}, "A hyperparameter's name must be letters, digits, underscores and dots, got 'a b'."),
        ({"": Choice((1,))}, "A hyperparameter's name must be letters, "),
        ({"a.": Choice((1,))}, "A hyperparameter's name must be letters, "),
        ({"a": (1, 2)}, "a must be a Choice, Uniform, LogUniform or IntUniform, got (1, 2)."),
        (
            {"a": Choice((1,)).when("b", 1)},
            "a must depend on a dimension that stands before it, of which there is none",
        ),
        ({"a": Choice((1,)).when("a", 1)}, "a must depend on a dimension that stands before it, "),
        (
            {"a": Choice((1,)).when("b", 1), "b": Choice((1,))},
            "a must depend on a dimension that stands before it, of which there is none, got b.",
        ),
        (
            {"b": Choice((1, 2)), "a": Choice((1,)).when("b", 3)},
            "a must depend on a value that b can have, {1, 2}, got 3.",
        ),
        ({"b": Choice((1, 2)), "a": Choice((1,)).when("b", True)}, "a must depend on a value that b can have"),
        (
            {"b": Choice((1, 2)), "a": Choice((1,)).when("b", "x\ny")},
            "a must depend on a value that b can have, {1, 2}, ",
        ),
        ({"b": Choice((1, 2)), "a": Choice((1,)).when("b", 10**400)}, "a must depend on a value that b can have"),
        ({"b": Choice((1, 2)), "a": Choice((1,)).when("b", [1])}, "a must depend on a value that b can have"),
        ({"b": Choice((1, 2)), "a": Choice((1,)).when("b")}, "a must depend on at least one value of b, got none."),
    ],
)
def test_a_space_refuses(dimensions: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}.*$"):
        Space(dimensions)


def test_a_space_is_a_value_whose_order_counts() -> None:
    one = Space(a=Choice((1,)), b=Choice((2,)))
    assert one == Space({"a": Choice((1,)), "b": Choice((2,))})
    assert hash(one) == hash(Space({"a": Choice((1,)), "b": Choice((2,))}))
    assert one != Space(b=Choice((2,)), a=Choice((1,)))
    assert (str(one), str(Space())) == ("a {1}, b {2}", "nothing")


def test_dimensions_take_the_place_of_others_of_their_name() -> None:
    space = Space(a=Choice((1,)), b=Choice((2,)))
    assert space.with_dimensions({"a": Choice((3,)), "c": Choice((4,))}) == Space(
        a=Choice((3,)), b=Choice((2,)), c=Choice((4,))
    )
    assert space.without(["a", "z"]) == Space(b=Choice((2,)))


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        (3, "A space must be dimensions by name, got 3."),
        ({"a": 3}, "a: must be a dimension of the kind "),
        ({"a": {"kind": "uniform", "low": None, "high": 1, "step": None}}, "a: low must be a finite number, got None."),
    ],
)
def test_what_is_no_space_is_refused(plain: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        Space.from_dict(plain)
