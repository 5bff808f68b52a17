"""What chance leaves of a difference: intervals over seeds, Welch's test, Holm's correction, the test set's own error.

scipy.stats takes half a second to import, which a table of single seeds need not wait for: functions import it.
"""

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

CONFIDENCE = 0.95
"""Of every interval; differences are judged at what it leaves, 5 %."""


@final
@dataclass(frozen=True, kw_only=True)
class Welch:
    """Welch's t-test of two independent samples."""

    p: float
    """Chance of a difference at least as large, either way, if the two means were equal."""
    half_width: float
    """Half of the interval of the difference of the means, in the samples' unit."""


def half_width(values: Sequence[float]) -> float | None:
    """Return half of the interval of the mean of independent values by Student's t; None of fewer than two."""
    if len(values) < 2:
        return None
    from scipy import stats

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(quantile) * statistics.stdev(values) / math.sqrt(len(values))


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Return Welch's test of two samples; None where one has fewer than two values, or neither has any spread.

    Nothing is paired. A seed draws other weights in a network of another shape, so that equal seeds of two
    architectures have nothing in common that a paired test could take out. Nor are their spreads equal: networks that
    are hard to train spread wider, so there is no pooled variance.
    """
    if min(len(first), len(second)) < 2 or len({*first}) == len({*second}) == 1:
        return None
    from scipy import stats

    with warnings.catch_warnings():
        # Of one sample without spread, all seeds at chance say, whose variance is rightly 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_ind(first, second, equal_var=False)
        low, high = test.confidence_interval(CONFIDENCE)
    return Welch(p=float(test.pvalue), half_width=float(high - low) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down, in their order.

    The smallest is multiplied by their number, the next by one less and so on, and none falls below one before it.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def binomial_standard_error(error: float, images: int) -> float:
    """Return how far an error, a fraction, varies with the draw of so many independent test images."""
    return math.sqrt(error * (1 - error) / images)


def binomial_half_width(error: float, images: int) -> float:
    """Return half of the interval that the draw of so many independent test images gives an error, a fraction."""
    return statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * binomial_standard_error(error, images)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two orders, 1 where they agree and -1 where opposite; None where one is all ties."""
    if min(len({*first}), len({*second})) < 2:
        return None
    from scipy import stats

    return float(stats.kendalltau(first, second).statistic)
