"""A search space: dimensions by name, some of which exist only beside certain values of others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, final

from search_spaces.dimensions import Dimension, Scalar, dimension_from, exact, in_words, quote


@final
class Space(Mapping[str, Dimension]):
    """What a cell searches: dimensions by the name of a hyperparameter; later ones may depend on earlier ones.

    Raises:
        ValueError: a name or a dimension is none, or a condition names no earlier dimension or a value that it cannot
            have.
    """

    def __init__(self, dimensions: Mapping[str, Dimension] | None = None, /, **named: Dimension) -> None:
        """Begin.

        Args:
            dimensions: by name; names may be dotted.
            named: further ones whose names are Python's.
        """
        self._dimensions: dict[str, Dimension] = {**(dimensions or {}), **named}
        for name, dimension in self._dimensions.items():
            if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(
                    f"A hyperparameter's name must be letters, digits, underscores and dots, got {name!r}."
                )
            if not isinstance(dimension, Dimension):
                raise ValueError(f"{name} must be a Choice, Uniform, LogUniform or IntUniform, got {quote(dimension)}.")
        self._check_conditions()

    def _check_conditions(self) -> None:
        earlier: set[str] = set()
        for name, dimension in self._dimensions.items():
            condition = dimension.condition
            if condition is not None:
                if condition.name not in earlier:
                    known = ", ".join(sorted(earlier)) or "of which there is none"
                    raise ValueError(
                        f"{name} must depend on a dimension that stands before it, {known}, got {condition.name}."
                    )
                for value in condition.values:
                    if value not in self._dimensions[condition.name]:
                        raise ValueError(
                            f"{name} must depend on a value that {condition.name} can have, "
                            f"{self._dimensions[condition.name]}, got {in_words(value)}."
                        )
                if not condition.values:
                    raise ValueError(f"{name} must depend on at least one value of {condition.name}, got none.")
            earlier.add(name)

    def __getitem__(self, name: str) -> Dimension:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return f"Space({self._dimensions!r})"

    def __str__(self) -> str:
        return ", ".join(f"{name} {dimension}" for name, dimension in self.items()) or "nothing"

    def is_active(self, name: str, values: Mapping[str, Scalar]) -> bool:
        """Return whether a dimension exists beside these values of the dimensions before it."""
        condition = self[name].condition
        return condition is None or (
            condition.name in values and exact(values[condition.name]) in map(exact, condition.values)
        )

    def with_dimensions(self, dimensions: Mapping[str, Dimension]) -> "Space":
        """Return the space with these dimensions in place of its own of the same names, others behind.

        A dimension that depends on another one stands behind it then.
        """
        left = {**self._dimensions, **dimensions}
        ordered: dict[str, Dimension] = {}
        while left:
            free = (name for name, each in left.items() if each.condition is None or each.condition.name not in left)
            name = next(free, next(iter(left)))  # of those that depend on each other none is free
            ordered[name] = left.pop(name)
        return Space(ordered)

    def without(self, names: Sequence[str]) -> "Space":
        """Return the space without some dimensions, if it has them."""
        return Space({name: dimension for name, dimension in self.items() if name not in names})

    def points(self) -> list[dict[str, Scalar]]:
        """Return every point of a grid over the space, the last dimension changing first.

        A dimension that does not exist at a point is left out of it.

        Raises:
            ValueError: a dimension has no end of values.
        """
        points: list[dict[str, Scalar]] = [{}]
        for name in self:
            listed = self._listed(name)
            points = [
                longer
                for point in points
                for longer in ([{**point, name: value} for value in listed] if self.is_active(name, point) else [point])
            ]
        return points

    def count_points(self) -> int:
        """Return how many points a grid has, without making them.

        Raises:
            ValueError: a dimension has no end of values.
        """
        listed = {name: self._listed(name) for name in self}

        @cache
        def count(name: str) -> int:
            """Return how many points a dimension has with those that depend on it."""
            return sum(math.prod(map(count, self._beside(name, value))) for value in listed[name])

        return math.prod(count(name) for name, each in self.items() if each.condition is None)

    def _beside(self, name: str, value: Scalar) -> Iterator[str]:
        """Yield the dimensions that exist where that one has this value, and depend on it."""
        for other, each in self.items():
            if each.condition is not None and each.condition.name == name and self.is_active(other, {name: value}):
                yield other

    def _listed(self, name: str) -> tuple[Scalar, ...]:
        listed = self[name].listed()
        if listed is None:
            raise ValueError(f"{name} must be listed values or a range with a step for a grid, got {self[name]}.")
        return listed

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return plain values that JSON can hold; `from_dict` reads them back."""
        return {name: dimension.to_dict() for name, dimension in self.items()}

    @classmethod
    def from_dict(cls, plain: object) -> "Space":
        """Return the space that `to_dict` wrote, also after it went through JSON.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"A space must be dimensions by name, got {quote(plain)}.")
        dimensions = {}
        for name, each in plain.items():
            try:
                dimensions[str(name)] = dimension_from(each)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
        return cls(dimensions)
