"""Names for things that a user may add: variants, data sets."""

import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from trainables.common.validation import one_line, quote

T = TypeVar("T")

MUST_RUN = "plugins must be Python files that run"


class Registry(Generic[T]):
    """A mapping from name to thing, in order of registration."""

    every: ClassVar[list["Registry[Any]"]] = []
    """All registries of this process."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._things: dict[str, T] = {}
        Registry.every.append(self)

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates as `name`.

        Raises:
            ValueError: the name is taken, or holds anything but lower-case letters, digits and hyphens.
        """
        check_name(self._kind, name)
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

    def get(self, name: str) -> T | None:
        """Return what is registered as `name`, or None."""
        return self._things.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def check_name(kind: str, name: object) -> None:
    """Refuse what is no name of a thing of this kind: names become parts of paths.

    Raises:
        ValueError: it holds anything but lower-case letters, digits and single hyphens.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"The name of a {kind} must be lower-case letters, digits and single hyphens, got {name!r}.")


def load_plugins(paths: Iterable[str], must: str = MUST_RUN) -> None:
    """Run each Python file once in this process, so that what it registers is known here.

    Args:
        paths: the files.
        must: how the sentence begins that refuses one which cannot be run.

    Raises:
        ValueError: a file is missing, does not end in .py, or cannot be run.
    """
    paths = [paths] if isinstance(paths, str) or not isinstance(paths, Iterable) else list(paths)
    for path in paths:
        if not isinstance(path, str) or not path.isprintable():
            raise ValueError(f"plugins must be paths of Python files, got {quote(path)}.")
        if module_name(path) in sys.modules:
            continue
        if Path(path).suffix != ".py" or not Path(path).is_file():
            raise ValueError(f"plugins must be existing Python files, got {quote(path)}.")
        _run(path, Path(path).read_bytes, must)


def read_plugins(paths: Iterable[str]) -> dict[str, bytes]:
    """Return the text of each of these Python files, by its path, for a process on a machine that may not have them."""
    return {path: Path(path).read_bytes() for path in paths}


def load_plugin_texts(texts: Mapping[str, bytes]) -> None:
    """Run what `read_plugins` read, each once in this process.

    Raises:
        ValueError: a text cannot be run.
    """
    for path, text in texts.items():
        if module_name(path) not in sys.modules:
            _run(path, partial(bytes, text))


def module_name(path: str) -> str:
    """Return the name of a plugin's module, which tells two files of one name apart."""
    return f"sweep_plugin:{Path(path).resolve()}"


def _run(path: str, read: Callable[[], bytes], must: str = MUST_RUN) -> None:
    module = types.ModuleType(module_name(path))
    module.__file__ = str(Path(path).resolve())
    sys.modules[module.__name__] = module
    before = [(registry, dict(registry._things)) for registry in Registry.every]
    try:
        exec(compile(read(), module.__file__, "exec"), module.__dict__)  # noqa: S102 - it is what a plugin is for
    except BaseException as error:
        del sys.modules[module.__name__]
        # What the file had registered before it failed goes too: mended, it can be run again in the same process.
        for registry, things in before:
            registry._things = things
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = one_line(f"{type(error).__name__}: {error}").removesuffix(".")
        raise ValueError(f"{must}, got {path!r}, which ended in {reason}{_line(error, path)}.") from error


def _line(error: BaseException, path: str) -> str:
    """Return where in the file an error came about, as `, at mine.py:3`, or nothing where it is not known."""
    file = Path(path).resolve()
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f", at {file.name}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f", at {file.name}:{lines[-1]}" if lines else ""
