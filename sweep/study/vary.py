"""What `--vary` and `--set` say: a hyperparameter's dimension or value, written on one line."""

import re
from collections.abc import Callable, Iterable, Sequence

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Uniform
from sweep.study.study import SETTINGS, Study, own_names
from trainables.common.validation import Scalar, field_kinds, one_line, quote
from trainables.hyperparameters import OWN, PATHS, is_logarithmic, is_number, is_whole, kind_of, parse_value, resolve
from trainables.options import OPTIONS
from trainables.recipe import network_of

_DIMENSION = re.compile(
    r"(?:(?P<variant>[a-z0-9.-]+):)?(?P<name>[\w.-]+)\s*=(?P<values>.*?)(?:\s+if\s+(?P<other>[\w.-]+)\s*=(?P<cases>.+))?"
)
_RANGE = re.compile(r"(?:(?P<scale>log|linear):)?(?P<low>[^.,].*?)\.\.(?P<high>.+?)(?:\.\.(?P<step>.+))?")

SYNTAX = "NAME=VALUE,VALUE,... or NAME=LOW..HIGH, such as lr=0.1,0.05 or dropout=0..0.5"


def parse_dimension(text: str, variants: Sequence[str]) -> tuple[str | None, str, Dimension]:
    """Return the variant that is meant, None for all, the hyperparameter's name and its dimension.

    `lr=0.1,0.05` lists values. `lr=1e-4..0.3` is a range, by its logarithm for learning rates and the like;
    `linear:` and `log:` before it say which, and `0..0.5..0.1` has a step. `momentum=0.8..0.99 if optimiser=sgd` exists
    only there. `my-net:lr=0.01..0.1` is for that variant alone.

    Raises:
        ValueError: it is none, or there is no such hyperparameter.
    """
    match = _DIMENSION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"vary must be written as {SYNTAX}, got {quote(text)}.")
    variant = match["variant"]
    meant = [each for each in variants if variant in (None, each, network_of(each))]
    if not meant:
        raise ValueError(f"vary must name a variant that is compared, {', '.join(variants)}, got {variant}.")
    if (setting := match["name"].replace("-", "_")) in SETTINGS:
        raise ValueError(f"{setting} must not be searched, got {quote(text)}; give it with --set {setting}=VALUE.")
    name, kind = named(match["name"], meant)
    dimension = _dimension(name, match["values"].strip(), kind)
    if match["other"]:
        other, its_kind = named(match["other"], meant)
        dimension = dimension.when(other, *(parse_value(other, case, its_kind) for case in _split(match["cases"])))
    return variant, name, dimension


def parse_setting(text: str, variants: Sequence[str]) -> tuple[str, Scalar]:
    """Return the name and the value that `--set NAME=VALUE` says.

    Raises:
        ValueError: it is none, there is no such hyperparameter, or the value is of another kind.
    """
    written, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"set must be written as NAME=VALUE, such as momentum=0.8, got {quote(text)}.")
    if (setting := written.replace("-", "_")) in SETTINGS:
        return setting, parse_value(setting, value, field_kinds(Study)[setting])
    name, kind = named(written, variants, SETTINGS)
    return name, parse_value(name, value, kind)


def name_in(text: str) -> str:
    """Return the name in what `--vary` or `--set` says as `Study.settings` has it, as far as that can be told."""
    variant, colon, written = text.partition("=")[0].strip().rpartition(":")
    try:
        return f"{variant}{colon}{resolve(written, [*PATHS, *SETTINGS])}"
    except ValueError:  # a variant's own option, or a mistake
        return f"{variant}{colon}{written}"


def named(written: str, variants: Sequence[str], others: Iterable[str] = ()) -> tuple[str, object]:
    """Return a hyperparameter's name and its annotation, of what a user wrote.

    Raises:
        ValueError: there is none of that name.
    """
    names = {name: variant for variant in variants for name in own_names(variant)}
    if written.startswith(OWN) and not names:
        raise ValueError(
            f"{written} must be an option of a variant, got it for {', '.join(variants)}, without options."
        )
    name = resolve(written, [*PATHS, *names], others)
    return name, kind_of(name, OPTIONS[network_of(names[name])] if name.startswith(OWN) else None)


def _dimension(name: str, values: str, kind: object) -> Dimension:
    match = _RANGE.fullmatch(values)
    if match is None:
        listed = tuple(parse_value(name, value, kind) for value in _split(values))
        return _made(name, Choice, listed)
    if not is_number(kind):
        raise ValueError(f"{name} must be listed values, since it is no number, got {quote(values)}.")
    numbers = [match[each] and parse_value(name, match[each], int if is_whole(kind) else float) for each in _BOUNDS]
    low, high, step = numbers
    if match["scale"] == "log" or (match["scale"] is None and step is None and is_logarithmic(kind)):
        if is_whole(kind):
            raise ValueError(f"{name} must have a linear range, since it is a whole number, got {quote(values)}.")
        if step is not None:
            raise ValueError(f"{name} must have no step in a logarithmic range, got {quote(values)}.")
        return _made(name, LogUniform, low, high)
    if is_whole(kind):
        return _made(name, IntUniform, low, high, *([step] if step is not None else []))
    return _made(name, Uniform, low, high, step)


def _made(name: str, kind: Callable[..., Dimension], *values: object) -> Dimension:
    try:
        return kind(*values)
    except ValueError as error:
        raise ValueError(f"{name}: {one_line(error)}") from error


_BOUNDS = ("low", "high", "step")


def _split(text: str) -> list[str]:
    return [value.strip() for value in text.split(",")]
