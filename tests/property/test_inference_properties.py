import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.inference import half_width, holm, welch

calm = settings(deadline=None, derandomize=True)

# Errors as test sets of 10,000 images give them.
ERRORS = st.integers(0, 10_000).map(lambda wrong: wrong / 10_000)
SAMPLES = st.lists(ERRORS, min_size=2, max_size=6)
P_VALUES = st.lists(st.floats(0, 1), max_size=12)


@calm
@given(P_VALUES)
def test_holm_lies_between_no_correction_and_bonferronis(p_values: list[float]) -> None:
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)


@calm
@given(P_VALUES)
def test_holm_keeps_the_order_and_does_not_depend_on_it(p_values: list[float]) -> None:
    corrected = holm(p_values)
    by_p = [value for _, value in sorted(zip(p_values, corrected, strict=True))]
    assert by_p == sorted(by_p)
    assert sorted(holm(p_values[::-1])) == sorted(corrected)


@calm
@given(SAMPLES, st.floats(-0.5, 0.5))
def test_a_shift_of_all_values_leaves_the_interval_as_wide(values: list[float], shift: float) -> None:
    assert half_width([value + shift for value in values]) == pytest.approx(half_width(values), abs=1e-9)


@calm
@given(SAMPLES, SAMPLES)
def test_welch_does_not_mind_which_sample_comes_first(first: list[float], second: list[float]) -> None:
    one, other = welch(first, second), welch(second, first)
    assert (one is None) == (other is None)
    if one and other:
        assert one.p == pytest.approx(other.p)
        assert one.half_width == pytest.approx(other.half_width)
        assert 0 <= one.p <= 1


@calm
@given(SAMPLES)
def test_a_sample_does_not_differ_from_itself(values: list[float]) -> None:
    test = welch(values, values)
    assert test is None or test.p == pytest.approx(1)
