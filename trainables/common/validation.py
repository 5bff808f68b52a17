"""Values of unknown origin: are they of the types that a configuration's fields have, and how a message shows them."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_LARGEST = 2**1000
"""A whole number above it is no float."""


def check_types(config: Any) -> None:
    """Check that each field of a dataclass holds what its annotation says; True is no number here, and 5.0 no 5.

    Raises:
        ValueError: one does not.
    """
    for name, kind in _kinds(type(config)).items():
        value = getattr(config, name)
        if not _is(value, kind):
            raise ValueError(f"{name} must be {_said(kind)}, got {shown(value)}.")


def check_names(kind: type, values: object, what: str) -> Mapping[str, Any]:
    """Return the values of a dataclass's fields where they are a mapping by their names.

    Args:
        kind: the dataclass.
        values: of its fields, by name.
        what: names it in messages.

    Raises:
        ValueError: they are none, a name is unknown, or one is missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be made of values by name, got {shown(values)}.")
    known = [item.name for item in fields(kind)]
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(f"{what} must hold known fields only, got {shown(unknown[0])}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise ValueError(f"{what} must hold {missing[0]}, got none.")
    return values


def listed(name: str, value: object) -> tuple[Any, ...]:
    """Return a list of JSON as the tuple that a field holds.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} must be a list, got {shown(value)}.")
    return tuple(value)


def shown(value: object) -> str:
    """Return a value of unknown origin as a short text on one line."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def line(error: object, longest: int | None = 300) -> str:
    """Return an error's text on one line, or its kind where it has none, cut to `longest` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."


_KINDS: dict[type, dict[str, Any]] = {}


def _kinds(config: type) -> dict[str, Any]:
    # Kept, since the annotations are text that takes longer to read than a configuration to make.
    if config not in _KINDS:
        _KINDS[config] = get_type_hints(config)
    return _KINDS[config]


def _is(value: object, kind: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_is(value, argument) for argument in arguments)
    if origin is Literal:
        return isinstance(value, str)  # which of them is for the class to say, by its own sentence
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(item, arguments[0]) for item in value)
    if kind is float:
        if isinstance(value, int) and not isinstance(value, bool):
            return -_LARGEST < value < _LARGEST
        return isinstance(value, float)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is str:
        return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    return isinstance(value, kind)


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}


def _said(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_said, arguments)))
    if origin is Literal:
        return "text"
    if origin is tuple:
        return f"a tuple, each item {_said(arguments[0])}"
    return _WORDS.get(kind, f"a {kind.__name__}")
