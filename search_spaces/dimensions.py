"""Dimensions of a search space: frozen values whose bounds are checked when they are made."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import UnionType
from typing import Any, ClassVar, Self, final

Scalar = str | int | float | bool | None
"""What JSON can hold in one value."""

MAX_LISTED = 10_000
"""Values of a dimension that a grid walks."""


@final
@dataclass(frozen=True, kw_only=True)
class Condition:
    """A dimension exists only where another one has one of these values."""

    name: str
    """The other dimension."""

    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        return f"if {self.name} is {' or '.join(map(in_words, self.values))}"


@dataclass(frozen=True)
class Dimension(ABC):
    """What values a hyperparameter may take. Subclasses are final."""

    kind: ClassVar[str]
    """The class in study.json."""

    condition: Condition | None = field(default=None, kw_only=True)
    """When the dimension exists; None: always."""

    def when(self, name: str, *values: Scalar) -> Self:
        """Return the dimension that exists only where the hyperparameter `name` has one of `values`."""
        return replace(self, condition=Condition(name=name, values=values))

    @abstractmethod
    def __contains__(self, value: Scalar) -> bool:
        """Return whether a hyperparameter may have this value."""

    @abstractmethod
    def listed(self) -> tuple[Scalar, ...] | None:
        """Return the values that a grid tries, in order; None where there is no end of them."""

    @property
    @abstractmethod
    def ends(self) -> tuple[Scalar, ...]:
        """Values such that a field which can hold these can hold all."""

    @abstractmethod
    def _values_in_words(self) -> str:
        """Return the values without the condition."""

    def __str__(self) -> str:
        return self._values_in_words() + (f" {self.condition}" if self.condition else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `dimension_from` reads them back."""
        plain = asdict(self)
        del plain["condition"]
        when = {"when": {"name": self.condition.name, "values": list(self.condition.values)}} if self.condition else {}
        return {"kind": self.kind, **plain, **when}


@final
@dataclass(frozen=True)
class Choice(Dimension):
    """One of a few listed values, each tried once by a grid.

    Raises:
        ValueError: there is no value, one is not a scalar of JSON, or one is listed twice.
    """

    kind = "choice"
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError("there must be at least one value, got none.")
        for value in self.values:
            if not isinstance(value, str | int | float | bool | None):
                raise ValueError(f"each value must be a number, text, true, false or none, got {quote(value)}.")
            if _is_number(value) and not _is_finite(value):
                raise ValueError(f"each value must be finite, got {quote(value)}.")
        if len(set(map(exact, self.values))) < len(self.values):
            raise ValueError(f"the values must differ from each other, got {', '.join(map(in_words, self.values))}.")

    def __contains__(self, value: Scalar) -> bool:
        return exact(value) in map(exact, self.values)

    def listed(self) -> tuple[Scalar, ...]:
        """Return the values."""
        return self.values

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """All values."""
        return self.values

    def _values_in_words(self) -> str:
        return "{" + ", ".join(map(in_words, self.values)) + "}"


@dataclass(frozen=True)
class _Range(Dimension):
    low: float
    high: float

    def _check(self, kinds: type | UnionType = int | float, above: float = -math.inf) -> None:
        for name in ("low", "high"):
            value: Any = getattr(self, name)
            if not (_is_finite(value) and value > above and isinstance(value, kinds)):
                what = "a whole number" if kinds is int else "a finite number"
                raise ValueError(
                    f"{name} must be {what}{'' if above < 0 else f' above {above:g}'}, got {quote(value)}."
                )
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got low {self.low:g} and high {self.high:g}.")

    def __contains__(self, value: Scalar) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def listed(self) -> tuple[Scalar, ...] | None:
        """Return the steps; None without."""
        return None

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """The bounds."""
        return (self.low, self.high)


@final
@dataclass(frozen=True)
class Uniform(_Range):
    """A number between `low` and `high`, spread evenly.

    Raises:
        ValueError: a bound is not finite, `low` is not below `high`, or `step` is not above 0 and within the range.
    """

    kind = "uniform"
    step: float | None = None
    """Distance of neighbouring values; None allows any."""

    def __post_init__(self) -> None:
        self._check()
        step = self.step
        if step is not None and not (_is_finite(step) and 0 < step <= self.high - self.low):
            raise ValueError(f"step must be above 0 and at most high - low, got {quote(step)}.")

    def listed(self) -> tuple[Scalar, ...] | None:
        """Return the steps; None without one."""
        if self.step is None or (self.high - self.low) / self.step > MAX_LISTED:
            return None
        count = math.floor((self.high - self.low) / self.step * (1 + 1e-12)) + 1
        # Rounded, so that 0 to 0.3 by 0.1 ends in 0.3.
        return tuple(float(f"{self.low + number * self.step:.12g}") for number in range(count))

    def _values_in_words(self) -> str:
        return f"uniform [{self.low:g}, {self.high:g}]" + (f" by {self.step:g}" if self.step else "")


@final
@dataclass(frozen=True)
class LogUniform(_Range):
    """A number between `low` and `high`, its logarithm spread evenly.

    Raises:
        ValueError: a bound is not a finite number above zero, or `low` is not below `high`.
    """

    kind = "log-uniform"

    def __post_init__(self) -> None:
        self._check(above=0)

    def _values_in_words(self) -> str:
        return f"log-uniform [{self.low:g}, {self.high:g}]"


@final
@dataclass(frozen=True)
class IntUniform(_Range):
    """A whole number between `low` and `high`, both included, spread evenly.

    Raises:
        ValueError: a bound is not a whole number, `low` is not below `high`, or `step` is not a whole number from 1 on
            within the range.
    """

    kind = "int-uniform"
    low: int
    high: int
    step: int = 1
    """Distance of neighbouring values."""

    def __post_init__(self) -> None:
        self._check(int)
        if not (_is_number(self.step) and isinstance(self.step, int) and 1 <= self.step <= self.high - self.low):
            raise ValueError(f"step must be a whole number from 1 to high - low, got {quote(self.step)}.")

    def __contains__(self, value: Scalar) -> bool:
        return isinstance(value, int) and super().__contains__(value)

    def listed(self) -> tuple[Scalar, ...] | None:
        """Return the whole numbers."""
        values = range(self.low, self.high + 1, self.step)
        return tuple(values) if len(values) <= MAX_LISTED else None

    def _values_in_words(self) -> str:
        return f"whole numbers [{self.low}, {self.high}]" + (f" by {self.step}" if self.step > 1 else "")


KINDS: dict[str, type[Dimension]] = {kind.kind: kind for kind in (Choice, Uniform, LogUniform, IntUniform)}


def dimension_from(plain: object) -> Dimension:
    """Return the dimension that `to_dict` wrote, also after it went through JSON.

    Raises:
        ValueError: it is none.
    """
    kind = KINDS.get(str(plain.get("kind"))) if isinstance(plain, Mapping) else None
    if kind is None or not isinstance(plain, Mapping):
        raise ValueError(f"must be a dimension of the kind {', '.join(KINDS)}, got {quote(plain)}.")
    given = {name: value for name, value in plain.items() if name not in ("kind", "when")}
    names = {item.name for item in fields(kind)} - {"condition"}
    if set(given) != names:
        raise ValueError(
            f"must hold {', '.join(sorted(names))}, got {', '.join(sorted(map(str, given))) or 'nothing'}."
        )
    if "values" in given and not isinstance(given["values"], list | tuple):
        raise ValueError(f"values must be a list, got {quote(given['values'])}.")
    dimension = kind(**given)
    when = plain.get("when")
    if when is None:
        return dimension
    if not isinstance(when, Mapping) or set(when) != {"name", "values"} or not isinstance(when["values"], list | tuple):
        raise ValueError(f"when must hold a name and values, got {quote(when)}.")
    return dimension.when(str(when["name"]), *when["values"])


def in_words(value: Scalar) -> str:
    """Return a value as a reader writes it: `none`, `true`, a number with at most six digits, or the text."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= 40 else quote(value)
    try:
        return f"{value:g}"
    except (OverflowError, TypeError):  # a condition's value, which nothing has checked
        return quote(value)


def exact(value: Scalar) -> tuple[bool, Scalar]:
    """Return what tells a value from all others: Python takes True for 1."""
    return isinstance(value, bool), value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number that no float is as large as
        return False


def quote(value: object) -> str:
    """Return a value of unknown origin as a short text."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
