"""Configurations checked by pydantic, and what is wrong with a value in one sentence."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from functools import cache, wraps
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import annotated_types
import pydantic
from pydantic import ConfigDict

T = TypeVar("T")

Scalar = str | int | float | bool | None
"""What JSON can hold in one value."""

LOG = "log"
"""In a number's annotation: a range of it is searched by its logarithm."""

_CONFIG = ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, ser_json_inf_nan="constants"
)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def configuration(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass whose fields are checked against their annotations.

    Bounds are `annotated_types` such as `Annotated[float, Gt(0)]`. True is no number, 5.0 no whole one.

    Raises (when an instance is made):
        ValueError: a field does not hold what its annotation says; the sentence names it.
    """
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CONFIG)(cls)
    check = made.__init__

    @wraps(check)
    def __init__(self: T, **values: Any) -> None:  # noqa: N807 - it is one
        for name, value in values.items():
            if not _is_unicode(value):
                raise ValueError(f"{name} must be text, got {quote(value)}.")
        try:
            check(self, **values)
        except pydantic.ValidationError as error:
            raise ValueError(explain(error, made)) from error

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def from_plain(cls: type[T], values: object, what: str) -> T:
    """Return the configuration that `dataclasses.asdict` made plain values of, also after they went through JSON.

    A field that is not there has its default: what was recorded before there was such a field. So the default of a new
    field must mean what was done without it.

    Raises:
        ValueError: a name is unknown or missing, or a value does not hold.
    """
    kinds = field_kinds(cls)  # type: ignore[arg-type]
    return cls(**{name: _parsed(value, kinds[name], what) for name, value in check_names(cls, values, what).items()})


def check_names(cls: type, values: object, what: str) -> Mapping[str, Any]:
    """Return the values of a dataclass's fields where they are a mapping by their names.

    Args:
        cls: the dataclass.
        values: of its fields, by name.
        what: names it in messages.

    Raises:
        ValueError: they are none, a name is unknown, or one is missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be made of values by name, got {quote(values)}.")
    known = [item.name for item in dataclasses.fields(cls)]
    unknown = sorted(str(name) for name in values if name not in known)
    if unknown:
        raise ValueError(f"{what} must hold known fields only, got {quote(unknown[0])}.")
    missing = [item.name for item in dataclasses.fields(cls) if item.name not in values and not _has_default(item)]
    if missing:
        raise ValueError(f"{what} must hold {missing[0]}, got none.")
    return values


def _has_default(item: dataclasses.Field[Any]) -> bool:
    return item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING


def _parsed(value: Any, kind: Any, what: str) -> Any:
    bare = _bare(kind)
    if value is None or (isinstance(bare, type) and isinstance(value, bare)):
        return value
    if dataclasses.is_dataclass(bare) and isinstance(bare, type):
        return from_plain(bare, value, what)
    if get_origin(bare) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_parsed(item, get_args(bare)[0], what) for item in value)
    if get_origin(bare) is Mapping and isinstance(value, Mapping):
        return {name: _parsed(item, get_args(bare)[1], f"{what}'s {name}") for name, item in value.items()}
    return value


def _is_unicode(value: object) -> bool:
    """Return whether text can be written as UTF-8: what a shell could not decode cannot."""
    if isinstance(value, tuple):
        return all(map(_is_unicode, value))
    return not isinstance(value, str) or not any("\ud800" <= letter <= "\udfff" for letter in value)


def explain(error: pydantic.ValidationError, cls: type) -> str:
    """Return what is wrong first, in a sentence: what must hold, which field, which value came."""
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), ValueError):
        return str(cause)
    path = [str(part) for part in first["loc"]]
    name = path[0] if path else cls.__name__
    if first["type"] in ("unexpected_keyword_argument", "missing_keyword_only_argument", "missing", "missing_argument"):
        must = "be left out, there is no such field" if first["type"].startswith("unexpected") else "be given"
        return f"{cls.__name__}: {name} must {must}."
    kind = field_kinds(cls).get(name)
    return f"{name} must be {in_words(kind)}, got {quote(first['input'])}."


def check_value(name: str, value: object, kind: Any) -> None:
    """Check that a value is what a field's annotation asks for.

    Raises:
        ValueError: it is not.
    """
    try:
        pydantic.TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except pydantic.ValidationError as error:
        raise ValueError(f"{name} must be {in_words(kind)}, got {quote(value)}.") from error


@cache
def field_kinds(cls: Any) -> dict[str, Any]:
    """Return the annotation of each of a configuration's fields, bounds included, by name."""
    return get_type_hints(cls, include_extras=True)


def in_words(kind: Any) -> str:
    """Return what an annotation asks for, such as `a number above 0` or `one of a, b`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        bounds = " and ".join(words for bound in kind.__metadata__ if (words := _bound_in_words(bound)))
        text = in_words(arguments[0])
        return f"{text} {bounds}".strip() if bounds else text
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(in_words, arguments)))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a tuple, each item {in_words(arguments[0])}"
    if origin is Mapping:
        return "values by name"
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}")


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "none"}


def _bound_in_words(bound: object) -> str:
    match bound:
        case annotated_types.Gt(gt=low):
            return f"above {low}"
        case annotated_types.Ge(ge=low):
            return f"at least {low}"
        case annotated_types.Lt(lt=high):
            return f"below {high}"
        case annotated_types.Le(le=high):
            return f"at most {high}"
    return ""


def _bare(kind: Any) -> Any:
    """Return an annotation without its bounds, and without None."""
    if hasattr(kind, "__metadata__"):
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [each for each in get_args(kind) if each is not types.NoneType]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def quote(value: object) -> str:
    """Return a value of unknown origin as a short text on one line."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def one_line(error: object, longest: int | None = 300) -> str:
    """Return an error's text on one line, or its kind where it has none, cut to `longest` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if longest is None or len(text) <= longest else f"{text[: longest - 3]}..."
