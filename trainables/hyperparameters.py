"""The values of a trial's configuration by name: every one of them can be set, and most can be searched.

A name is that of a field of `TrialConfig`, `ArchitectureConfig` or `HeavyConfig`, such as `lr` or `dropout`, or
`options.NAME` for a field of the options that a variant registered as its own.
"""

import difflib
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

from trainables.common.validation import LOG, Scalar, field_kinds, in_words, quote
from trainables.config import ArchitectureConfig, HeavyConfig, TrialConfig

PARTS: Mapping[str, type] = {"architecture": ArchitectureConfig, "heavy": HeavyConfig}
"""Fields of `TrialConfig` that hold further fields."""

OWN = "options."
"""How the name of a variant's own option begins."""

GIVEN_ELSEWHERE = {
    "dataset": "--datasets",
    "augmentation": "--augmentations",
    "variant": "--variants",
    "data": "--data",
    "plugins": "--plugins",
    "held_out": "--protocol",
}
"""Fields that a study decides for each of its cells or for all trials, with the option that does."""

NOT_SEARCHED = ("seed", "evaluate_every")
"""Fields that can be set but not searched: trials are compared over seeds, and by measurements taken alike."""

_LISTS = ("drops", "averaged_at")

SYNONYMS = {"learning_rate": "lr", "optimizer": "optimiser", "initialization": "initialisation"}


def _paths() -> dict[str, tuple[str, ...]]:
    paths: dict[str, tuple[str, ...]] = {
        name: (name,) for name in field_kinds(TrialConfig) if name not in (*PARTS, "options", *_LISTS)
    }
    paths |= {name: (part, name) for part, kind in PARTS.items() for name in field_kinds(kind)}
    return {name: path for name, path in paths.items() if name not in GIVEN_ELSEWHERE}


PATHS: Mapping[str, tuple[str, ...]] = _paths()
"""Where each value lies in a `TrialConfig`, by its name."""


def is_structural(name: str) -> bool:
    """Return whether a value decides what network is built, or what it is given."""
    return name.startswith(OWN) or PATHS[name][0] in ("architecture", "canvas", "preprocessing", "iterations")


def kind_of(name: str, options: type | None = None) -> Any:
    """Return the annotation of a value, bounds included.

    Args:
        name: one of `PATHS`, or of the options with `OWN` before it.
        options: the class of the variant's own options.
    """
    if name.startswith(OWN):
        return field_kinds(options)[name.removeprefix(OWN)]
    *part, field = PATHS[name]
    return field_kinds(PARTS[part[0]] if part else TrialConfig)[field]


def resolve(name: str, known: Collection[str], others: Iterable[str] = ()) -> str:
    """Return the name under which a value is known, of one that a user wrote.

    Args:
        name: as written: `architecture.dropout` is `dropout`, `depth` is `options.depth`, `learning_rate` is `lr`.
        known: the names that there are.
        others: names of other things that may have been meant.

    Raises:
        ValueError: there is none; the nearest ones are named.
    """
    plain = name.replace("-", "_")
    part, _, rest = plain.rpartition(".")
    candidates = [plain, SYNONYMS.get(plain, plain), f"{OWN}{plain}"]
    if part in PARTS and PATHS.get(rest) == (part, rest):
        candidates.append(rest)
    for candidate in candidates:
        if candidate in known:
            return candidate
    elsewhere = GIVEN_ELSEWHERE.get(plain)
    if elsewhere is not None:
        raise ValueError(f"{plain} must be given by {elsewhere}, got it as a hyperparameter.")
    raise ValueError(f"There is no hyperparameter {quote(name)}{near(plain, [*known, *others])}")


def near(name: str, known: Iterable[str]) -> str:
    """Return the names that resemble one, as the end of a sentence."""
    by_end = {each.rpartition(".")[2]: each for each in known}
    found = difflib.get_close_matches(name.rpartition(".")[2], by_end, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(by_end[each] for each in found)}?" if found else "."


def value_of(config: TrialConfig, name: str) -> Scalar:
    """Return a value of a trial's configuration by its name."""
    if name.startswith(OWN):
        return config.options[name.removeprefix(OWN)]
    value: Any = config
    for field in PATHS[name]:
        value = getattr(value, field)
    return value  # type: ignore[no-any-return]


def with_values(config: TrialConfig, values: Mapping[str, Scalar]) -> TrialConfig:
    """Return a trial's configuration with these values, by name, in place of its own.

    Raises:
        ValueError: a value does not hold.
    """
    changed: dict[str, Any] = {}
    parts: dict[str, dict[str, Scalar]] = {}
    for name, value in values.items():
        if name.startswith(OWN):
            parts.setdefault("options", {})[name.removeprefix(OWN)] = value
        elif len(PATHS[name]) > 1:
            parts.setdefault(PATHS[name][0], {})[PATHS[name][1]] = value
        else:
            changed[name] = value
    for part, given in parts.items():
        own = getattr(config, part)
        changed[part] = {**own, **given} if part == "options" else replace(own, **given)
    return replace(config, **changed)


def parse_value(name: str, text: str, kind: Any) -> Scalar:
    """Return the value that a user wrote, of the kind that the annotation asks for.

    Raises:
        ValueError: it is none of that kind.
    """
    for each in _kinds(kind):
        if each is types.NoneType and text.lower() == "none":
            return None
        if each is bool and text.lower() in _TRUTHS:
            return _TRUTHS[text.lower()]
        if each is str or (get_origin(each) is Literal and text in get_args(each)):
            return text
        if each in (int, float):
            try:
                return each(text)  # type: ignore[no-any-return]
            except ValueError:
                continue
    raise ValueError(f"{name} must be {in_words(kind)}, got {quote(text)}.")


_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def is_whole(kind: Any) -> bool:
    """Return whether an annotation asks for whole numbers."""
    return int in _kinds(kind)


def is_number(kind: Any) -> bool:
    """Return whether an annotation asks for numbers."""
    return bool({int, float} & set(_kinds(kind)))


def is_logarithmic(kind: Any) -> bool:
    """Return whether a range of such values is searched by its logarithm unless a user says otherwise."""
    return LOG in getattr(kind, "__metadata__", ()) or any(
        is_logarithmic(each) for each in get_args(kind) if get_origin(kind) in (Union, types.UnionType)
    )


def _kinds(kind: Any) -> list[Any]:
    """Return the bare types that an annotation allows, without their bounds."""
    if hasattr(kind, "__metadata__"):
        return _kinds(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [each for argument in get_args(kind) for each in _kinds(argument)]
    return [kind]
