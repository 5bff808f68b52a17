import math
from dataclasses import FrozenInstanceError

import pytest

from search_spaces import Choice, LogUniform, paper


def test_the_paper_s_values() -> None:
    assert paper.LEARNING_RATES.values == (0.25, 0.1, 0.05, 0.01)
    assert (paper.LEARNING_RATE_RANGE.low, paper.LEARNING_RATE_RANGE.high) == (0.001, 0.25)
    assert len(paper.VARIANTS) == len(set(paper.VARIANTS)) == 12
    assert paper.VARIANTS[:4] == ("model-a", "strided-cnn-a", "convpool-cnn-a", "all-cnn-a")
    assert paper.VARIANTS[-1] == "all-cnn-c"


def test_dimensions_print_as_a_reader_writes_them() -> None:
    assert str(Choice((0.25, 0.1))) == "{0.25, 0.1}"
    assert str(LogUniform(0.001, 0.25)) == "log-uniform [0.001, 0.25]"


def test_dimensions_are_values() -> None:
    assert Choice([0.1, 0.2]) == Choice((0.1, 0.2))
    assert hash(Choice([0.1, 0.2])) == hash(Choice((0.1, 0.2)))
    assert Choice((0.1, 0.2)) != Choice((0.2, 0.1))
    with pytest.raises(FrozenInstanceError):
        LogUniform(0.1, 0.2).low = 0.3  # type: ignore[misc]


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there must be at least one value, got none\.$"):
        Choice(())


@pytest.mark.parametrize("wrong", [-0.1, math.inf, math.nan])
def test_a_choice_holds_finite_numbers_from_zero_on(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^each value must be a finite number of at least 0, got {wrong!r}\.$"):
        Choice((0.1, wrong))
    assert Choice((0.0, 0.1)).values == (0.0, 0.1)


@pytest.mark.parametrize("wrong", [0.0, -0.1, math.inf, math.nan])
def test_a_choice_above_zero_holds_finite_numbers_above_it(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^each value must be a finite number above 0, got {wrong!r}\.$"):
        Choice.above_zero((0.1, wrong))
    assert Choice.above_zero([0.1, 0.2]) == Choice((0.1, 0.2))


def test_a_value_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must differ from each other, got 0\.1, 0\.2, 0\.1\.$"):
        Choice((0.1, 0.2, 0.1))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_the_bounds_of_a_range_are_finite_and_above_zero(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^low must be a finite number above 0, got {wrong!r}\.$"):
        LogUniform(wrong, 1.0)
    with pytest.raises(ValueError, match=rf"^high must be a finite number above 0, got {wrong!r}\.$"):
        LogUniform(0.1, wrong)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.1), (0.1, 0.1)])
def test_low_lies_below_high(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=rf"^low must be below high, got low {low:g} and high {high:g}\.$"):
        LogUniform(low, high)
