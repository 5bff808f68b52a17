import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Choice, LogUniform

calm = settings(deadline=None, derandomize=True, max_examples=50)

not_negative = st.floats(min_value=0, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
negative = st.floats(max_value=0, exclude_max=True) | st.sampled_from([float("inf"), float("nan")])
wrong = st.floats(max_value=0) | st.sampled_from([float("inf"), float("nan")])


@calm
@given(st.lists(not_negative, min_size=1, max_size=8, unique=True))
def test_a_choice_keeps_distinct_values_in_order(values: list[float]) -> None:
    assert Choice(values).values == tuple(values)  # type: ignore[arg-type]
    assert Choice(tuple(values)) == Choice(values)  # type: ignore[arg-type]


@calm
@given(st.lists(not_negative, max_size=5), negative, st.integers(0, 5))
def test_a_choice_refuses_one_wrong_value_wherever_it_stands(values: list[float], bad: float, place: int) -> None:
    values.insert(place, bad)
    with pytest.raises(ValueError, match="each value must be a finite number of at least 0"):
        Choice(tuple(values))


@calm
@given(st.lists(positive, max_size=5), wrong, st.integers(0, 5))
def test_a_choice_above_zero_refuses_zero_too(values: list[float], bad: float, place: int) -> None:
    values.insert(place, bad)
    with pytest.raises(ValueError, match="each value must be a finite number above 0"):
        Choice.above_zero(values)


@calm
@given(st.lists(positive, min_size=1, max_size=5), st.data())
def test_a_choice_refuses_a_value_twice(values: list[float], data: st.DataObject) -> None:
    values.insert(data.draw(st.integers(0, len(values))), data.draw(st.sampled_from(values)))
    with pytest.raises(ValueError, match="must differ from each other"):
        Choice(tuple(values))


@calm
@given(positive, positive)
def test_a_range_takes_bounds_in_order_only(one: float, other: float) -> None:
    if one < other:
        space = LogUniform(one, other)
        assert (space.low, space.high) == (one, other)
    else:
        with pytest.raises(ValueError, match="low must be below high"):
            LogUniform(one, other)


@calm
@given(positive, wrong)
def test_a_range_refuses_a_wrong_bound(good: float, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^low must be a finite number above 0"):
        LogUniform(bad, good)
    with pytest.raises(ValueError, match=r"^high must be a finite number above 0"):
        LogUniform(good, bad)
