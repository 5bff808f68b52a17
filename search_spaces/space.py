"""Dimensions of a search space: frozen values whose bounds are checked when they are made."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Choice:
    """One of a few listed numbers, each tried once by a grid.

    Raises:
        ValueError: if there is no value, one is not a finite number of at least zero, or one stands twice.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError("there must be at least one value, got none.")
        for value in self.values:
            if not (_is_finite(value) and value >= 0):
                raise ValueError(f"each value must be a finite number of at least 0, got {_shown(value)}.")
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"the values must differ from each other, got {_listed(self.values)}.")

    @classmethod
    def above_zero(cls, values: Iterable[float]) -> Self:
        """Return the choice of numbers of which 0 makes no sense, such as learning rates.

        Raises:
            ValueError: if one is not above zero, beside what the class refuses.
        """
        listed = tuple(values)
        for value in listed:
            _check_positive("each value", value)
        return cls(listed)

    def __contains__(self, value: float) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "{" + _listed(self.values) + "}"


@dataclass(frozen=True)
class LogUniform:
    """A number between `low` and `high`, its logarithm spread evenly.

    Raises:
        ValueError: if a bound is not a finite number above zero, or `low` is not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_positive("low", self.low)
        _check_positive("high", self.high)
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got low {self.low:g} and high {self.high:g}.")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"log-uniform [{self.low:g}, {self.high:g}]"


Dimension = Choice | LogUniform


def _check_positive(name: str, value: float) -> None:
    if not (_is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {_shown(value)}.")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float is as large as
        return False


def _shown(value: float) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
