"""Names for things that a user may add: variants, data sets."""

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar, final

from trainables.fields import shown

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from name to thing, in order of registration."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates as `name`.

        Raises:
            ValueError: the name is taken, or holds anything but lower-case letters, digits and hyphens.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(
                f"The name of a {self._kind} must be lower-case letters, digits and single hyphens, got {name!r}."
            )
        if name in self._things:
            raise ValueError(f"The name of a {self._kind} must be free, got {name!r}, which is registered already.")

        def decorate(thing: T) -> T:
            self._things[name] = thing
            return thing

        return decorate

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise ValueError(f"{self._kind} must be one of {', '.join(self._things)}, got {name!r}.")
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def load_plugins(paths: Iterable[str]) -> None:
    """Run each Python file once in this process, so that what it registers is known here.

    Raises:
        ValueError: a file is missing, does not end in .py, or cannot be run.
    """
    paths = [paths] if isinstance(paths, str) or not isinstance(paths, Iterable) else list(paths)
    for path in paths:
        if not isinstance(path, str) or not path.isprintable():
            raise ValueError(f"plugins must be paths of Python files, got {shown(path)}.")
        file = Path(path)
        name = _module_name(path)
        if name in sys.modules:
            continue
        if file.suffix != ".py" or not file.is_file():
            raise ValueError(f"plugins must be existing Python files, got {shown(path)}.")
        spec = importlib.util.spec_from_file_location(name, file.resolve())
        if spec is None or spec.loader is None:
            raise ValueError(f"plugins must be importable Python files, got {shown(path)}.")
        _run(spec, path)


def read_plugins(paths: Iterable[str]) -> dict[str, str]:
    """Return the text of each of these Python files, by its path, for a process on a machine that may not have them."""
    return {path: Path(path).read_text(encoding="utf-8") for path in paths}


def load_plugin_texts(texts: Mapping[str, str]) -> None:
    """Run what `read_plugins` read as `load_plugins` would have run those files.

    Raises:
        ValueError: a text cannot be run.
    """
    for path, text in texts.items():
        name = _module_name(path)
        if name not in sys.modules:
            spec = importlib.util.spec_from_loader(name, _Text(text, path), origin=path)
            assert spec is not None, "the loader is given"
            _run(spec, path)


@final
class _Text(importlib.abc.InspectLoader):
    """A module's source that is at hand."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - the base class's signature
        """Return it."""
        return self._text

    def get_code(self, fullname: str) -> types.CodeType:  # noqa: ARG002 - the base class's signature
        """Return it compiled, under the name by which a traceback leads its writer to it."""
        return self.source_to_code(self._text, self._path)


def _module_name(path: str) -> str:
    return f"sweep_plugin:{Path(path).resolve()}"


def _run(spec: importlib.machinery.ModuleSpec, path: str) -> None:
    assert spec.loader is not None, "checked before"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[spec.name]
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"plugins must be Python files that run, got {path!r}, which ended in {reason}.") from error
