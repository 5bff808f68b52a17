"""Names for things that a user may add: variants, data sets."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

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
    for path in paths:
        file = Path(path)
        if file.suffix != ".py" or not file.is_file():
            raise ValueError(f"plugins must be existing Python files, got {path!r}.")
        resolved = str(file.resolve())
        module_name = f"sweep_plugin:{resolved}"
        if module_name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(module_name, resolved)
        if spec is None or spec.loader is None:
            raise ValueError(f"plugins must be importable Python files, got {path!r}.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[module_name]
            if isinstance(error, KeyboardInterrupt):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"plugins must be Python files that run, got {path!r}, which ended in {reason}."
            ) from error
