import math

import pytest
from scipy import stats

from analysis.inference import binomial_standard_error, half_width, holm, kendall_tau, welch

T_TWO_DEGREES = 0.95 / math.sqrt(2 * 0.975 * 0.025)
"""97.5 % quantile of Student's t with two degrees of freedom, which has this closed form: 4.3027."""


def test_the_interval_of_three_values_by_hand() -> None:
    # Mean 2, deviation 1.
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(T_TWO_DEGREES / math.sqrt(3))


def test_the_interval_of_two_values_by_hand() -> None:
    # One degree of freedom is Cauchy's distribution, whose 97.5 % quantile is tan(0.475 pi) = 12.706.
    assert half_width([0.1, 0.2]) == pytest.approx(0.05 * math.tan(0.475 * math.pi))


def test_one_value_has_no_interval() -> None:
    assert half_width([0.1]) is None
    assert half_width([]) is None


def test_equal_values_have_an_interval_of_nothing() -> None:
    assert half_width([0.9, 0.9, 0.9]) == 0


def test_welch_by_hand() -> None:
    # Two variances of 2 over two values: a standard error of the root of 2, t = -2 * root of 2, two degrees of freedom.
    found = welch([0.0, 2.0], [4.0, 6.0])
    assert found is not None
    t = 2 * math.sqrt(2)
    assert found.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))
    assert found.half_width == pytest.approx(T_TWO_DEGREES * math.sqrt(2))


def test_welch_pools_no_variances() -> None:
    # Variances 1 and 4 over three values: standard error root of 5/3, (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 50/17
    # degrees of freedom.
    found = welch([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert found is not None
    assert found.p == pytest.approx(2 * stats.t.sf(2 / math.sqrt(5 / 3), 50 / 17))
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3))


def test_welch_with_one_sample_at_chance() -> None:
    # As one sample against a fixed value: one degree of freedom, standard error 0.05, difference 0.75.
    found = welch([0.9, 0.9], [0.1, 0.2])
    assert found is not None
    assert found.p == pytest.approx(2 * stats.t.sf(15, 1))


@pytest.mark.parametrize(("first", "second"), [([0.1], [0.1, 0.2]), ([0.1, 0.2], []), ([0.9, 0.9], [0.8, 0.8])])
def test_welch_is_not_known_of_one_seed_or_without_spread(first: list[float], second: list[float]) -> None:
    assert welch(first, second) is None


def test_holm_by_hand() -> None:
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_binomial_standard_error_by_hand() -> None:
    # The paper's 9.08 % on 10,000 images: 0.2873 points.
    assert binomial_standard_error(0.0908, 10_000) == pytest.approx(0.002873, abs=1e-6)
    assert binomial_standard_error(0.0, 10_000) == 0


def test_kendalls_tau_by_hand() -> None:
    # Of three pairs one agrees and two do not.
    assert kendall_tau([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]) == pytest.approx(-1 / 3)
    assert kendall_tau([1.0, 2.0, 3.0], [1.0, 5.0, 9.0]) == pytest.approx(1)
    assert kendall_tau([0.9, 0.9, 0.9], [1.0, 2.0, 3.0]) is None
