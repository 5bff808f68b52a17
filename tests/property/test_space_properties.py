import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Scalar, Space, Uniform

calm = settings(deadline=None, derandomize=True, max_examples=50)

finite = st.floats(allow_infinity=False, allow_nan=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
unusable = st.sampled_from([math.inf, -math.inf, math.nan])
wrong = st.floats(max_value=0) | st.sampled_from([math.inf, math.nan])
scalars: st.SearchStrategy[Scalar] = (
    finite | st.integers(-(2**60), 2**60) | st.booleans() | st.none() | st.text(max_size=4)
)


def told_apart(value: Scalar) -> tuple[bool, Scalar]:
    return isinstance(value, bool), value


def distinct(size: int) -> st.SearchStrategy[list[Scalar]]:
    return st.lists(scalars, min_size=1, max_size=size, unique_by=told_apart)


@st.composite
def ranges(draw: st.DrawFn, whole: bool = False) -> Dimension:
    low = draw(st.integers(-20, 20))
    high = draw(st.integers(low + 1, low + 8))
    if whole or draw(st.booleans()):
        return IntUniform(low, high, draw(st.integers(1, high - low)))
    return Uniform(low, high, draw(st.sampled_from([0.25, 0.5, 1.0])))


@st.composite
def spaces(draw: st.DrawFn, conditional: bool, listed: bool = True) -> Space:
    """Return a space of up to five dimensions, each of up to some values; later ones may depend on earlier ones."""
    dimensions: dict[str, Dimension] = {}
    for name in ("a", "b", "options.c", "d", "e")[: draw(st.integers(0, 5))]:
        kinds = [distinct(3).map(lambda values: Choice(tuple(values))), ranges()]
        if not listed:
            kinds += [st.just(LogUniform(0.1, 2.0)), st.just(Uniform(-1.0, 1.0))]
        dimension: Any = draw(st.one_of(kinds))
        if conditional and dimensions and draw(st.booleans()):
            other = draw(st.sampled_from(list(dimensions)))
            values = dimensions[other].listed() or dimensions[other].ends
            cases = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique_by=told_apart))
            dimension = dimension.when(other, *cases)
        dimensions[name] = dimension
    return Space(dimensions)


@calm
@given(distinct(8))
def test_a_choice_keeps_distinct_values_in_order(values: list[Scalar]) -> None:
    assert Choice(values).values == tuple(values)  # type: ignore[arg-type]
    assert Choice(tuple(values)) == Choice(values)  # type: ignore[arg-type]
    assert all(value in Choice(tuple(values)) for value in values)


@calm
@given(st.lists(finite, max_size=5, unique=True), unusable, st.integers(0, 5))
def test_a_choice_refuses_one_wrong_value_wherever_it_stands(values: list[float], bad: float, place: int) -> None:
    values.insert(place, bad)
    with pytest.raises(ValueError, match="each value must be finite"):
        Choice(tuple(values))


@calm
@given(distinct(5), st.data())
def test_a_choice_refuses_a_value_twice(values: list[Scalar], data: st.DataObject) -> None:
    values.insert(data.draw(st.integers(0, len(values))), data.draw(st.sampled_from(values)))
    with pytest.raises(ValueError, match="must differ from each other"):
        Choice(tuple(values))


@calm
@given(positive, positive)
def test_a_range_takes_bounds_in_order_only(one: float, other: float) -> None:
    for kind in (LogUniform, Uniform):
        if one < other:
            dimension = kind(one, other)
            assert (dimension.low, dimension.high) == (one, other)
        else:
            with pytest.raises(ValueError, match="low must be below high"):
                kind(one, other)


@calm
@given(positive, wrong)
def test_a_logarithmic_range_refuses_a_wrong_bound(good: float, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^low must be a finite number above 0"):
        LogUniform(bad, good)
    with pytest.raises(ValueError, match=r"^high must be a finite number above 0"):
        LogUniform(good, bad)


@calm
@given(ranges())
def test_a_grids_values_lie_in_the_range_and_begin_at_its_low_end(dimension: Any) -> None:
    listed = dimension.listed()
    assert listed[0] == dimension.low
    assert dimension.high - dimension.step < listed[-1] <= dimension.high
    assert all(value in dimension for value in listed)


@calm
@given(spaces(conditional=True, listed=False))
def test_a_space_comes_back_from_json(space: Space) -> None:
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space


@calm
@given(spaces(conditional=False))
def test_without_conditions_the_points_are_the_product(space: Space) -> None:
    points = list(space.points())
    assert len(points) == space.count_points() == math.prod(len(d.listed() or ()) for d in space.values())
    assert all(list(point) == list(space) for point in points)
    assert len({key(point) for point in points}) == len(points)


@calm
@given(spaces(conditional=True))
def test_no_point_comes_twice_and_each_holds_what_exists_there(space: Space) -> None:
    points = list(space.points())
    assert len(points) == space.count_points() >= 1
    assert len({key(point) for point in points}) == len(points)
    for point in points:
        assert list(point) == [name for name in space if space.is_active(name, point)]
        assert all(value in space[name] for name, value in point.items())


def key(point: dict[str, Scalar]) -> str:
    return json.dumps(point)
