"""What every value of a trial or a study is that `--set` and `--vary` name, read from the classes that define them."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from search_spaces.dimensions import in_words as written
from sweep.study.study import SETTINGS, Study
from trainables.common.validation import field_kinds, in_words, quote
from trainables.config import TrialConfig
from trainables.hyperparameters import NOT_SEARCHED, OWN, PARTS, PATHS
from trainables.options import OPTIONS


@final
@dataclass(frozen=True, kw_only=True)
class Value:
    """One of them."""

    name: str
    """As a command line has it."""
    kind: str
    """What it may be, in words."""
    default: str
    """What it is where nothing says otherwise; empty where something must."""
    text: str
    """What its class says of it, on one line; empty where it says nothing."""
    is_searched: bool
    """Whether `--vary` takes it, too."""

    @property
    def summary(self) -> str:
        """Its first sentence."""
        return re.split(r"(?<=\.)\s", self.text, maxsplit=1)[0]

    @property
    def facts(self) -> str:
        """What it may be and its default, in words."""
        default = f"; default: {self.default}" if self.default else ""
        return f"{self.kind}{default}{'' if self.is_searched else '; --set only'}"


def sections() -> dict[str, list[Value]]:
    """Return all values by topic: training, each part of a trial, the study, each registered variant's own options."""
    found = {"Training": _values(TrialConfig, (name for name, path in PATHS.items() if path == (name,)))}
    for title, part in (("The paper's networks", "architecture"), ("The augmentation heavy", "heavy")):
        found[title] = _values(PARTS[part], (name for name, path in PATHS.items() if path == (part, name)))
    found["The study"] = _values(Study, SETTINGS)
    for variant in OPTIONS:
        names = (item.name for item in dataclasses.fields(OPTIONS[variant]))
        found[f"Options of {variant}"] = _values(OPTIONS[variant], names, OWN)
    return found


def _values(cls: Any, names: Iterable[str], prefix: str = "") -> list[Value]:
    kinds, texts = field_kinds(cls), _texts(cls)
    items = {item.name: item for item in dataclasses.fields(cls)}
    return [
        Value(
            name=prefix + name,
            kind=in_words(kinds[name]),
            default=_default(items[name]),
            text=texts.get(name, ""),
            is_searched=name not in (*NOT_SEARCHED, *SETTINGS) or bool(prefix),
        )
        for name in names
    ]


def _default(item: "dataclasses.Field[Any]") -> str:
    default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
    if default is dataclasses.MISSING:
        return ""
    return written(default) if isinstance(default, str | int | float | bool | None) else quote(default)


def _texts(cls: type) -> dict[str, str]:
    """Return what stands below each field of a class, on one line; nothing for a class without source."""
    from docstring_parser import parse_from_object  # only where help is asked for

    try:
        described = parse_from_object(cls).params
    except (OSError, TypeError, SyntaxError):
        return {}
    return {each.arg_name: " ".join((each.description or "").split()) for each in described}
