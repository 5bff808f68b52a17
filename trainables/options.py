"""Options that a variant has of its own: a dataclass that its author registered beside its builder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pydantic

from trainables.common.registry import Registry
from trainables.common.validation import Scalar, explain, quote

OPTIONS: Registry[type] = Registry("variant with options")
"""The dataclass of each variant that has one, by the variant's name."""


def register_options(variant: str, options: type) -> None:
    """Keep a variant's dataclass of options.

    Raises:
        ValueError: it is no dataclass, a field has no default, or the variant has options already.
    """
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise ValueError(f"options of the variant {variant} must be a dataclass, got {quote(options)}.")
    for item in dataclasses.fields(options):
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"options of the variant {variant} must have a default each, got none for {item.name}.")
    OPTIONS.register(variant)(options)


def make_options(variant: str, values: Mapping[str, Scalar]) -> Any:
    """Return a variant's options, checked against the annotations of their class; None where it has none.

    Args:
        variant: the network's name, without a recipe's.
        values: by name; those left out have their defaults.

    Raises:
        ValueError: the variant has no such option, or a value does not hold.
    """
    kind = OPTIONS.get(variant)
    if kind is None:
        if values:
            raise ValueError(
                f"options must be left out for the variant {variant}, which registered none, got {next(iter(values))}."
            )
        return None
    names = [item.name for item in dataclasses.fields(kind)]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise ValueError(f"options of {variant} must be among {', '.join(names)}, got {quote(unknown[0])}.")
    try:
        # The annotations of a plain dataclass are checked nowhere else.
        checked: Any = pydantic.TypeAdapter(kind).validate_python(dict(values), strict=False)
    except pydantic.ValidationError as error:
        raise ValueError(f"options.{explain(error, kind)}") from error
    return checked


def complete_options(variant: str, values: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return a variant's options as plain values, defaults included; empty where it has none.

    Raises:
        ValueError: as `make_options`.
    """
    options = make_options(variant, values)
    return {} if options is None else dataclasses.asdict(options)
