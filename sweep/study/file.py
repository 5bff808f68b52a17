"""A study named by a Python file on the command line: `my_study.py`, or `my_study.py:NAME` where it holds several.

No torch here: what is no file is refused at once.
"""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, final

from sweep.study.catalog import STUDIES
from sweep.study.study import Study
from trainables.common.registry import check_name, load_plugins, module_name
from trainables.common.validation import one_line

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<attribute>.*))?")


@final
class StudyFile:
    """A file, and which of its studies is meant."""

    def __init__(self, path: str, attribute: str | None) -> None:
        self.path, self.attribute = path, attribute

    @classmethod
    def named_by(cls, word: str | None) -> Self | None:
        """Return what the command line's study names, or None where it names no Python file.

        Raises:
            ValueError: there is no such file, or nothing stands after its colon.
        """
        match = _FILE.fullmatch(word or "")
        if match is None:
            return None
        path, attribute = match["path"], match["attribute"]
        if not Path(path).is_file():
            raise ValueError(
                f"A study's file must exist, got {path!r}; python -m sweep.init {path} writes one to begin from."
            )
        if attribute == "":
            raise ValueError(f"A study's file must have the study's name after its colon, got {word!r}.")
        return cls(path, attribute)

    def read(self) -> Study:
        """Run the file and return the study that is meant, whose trials take the file with them.

        Raises:
            ValueError: the file cannot be run, or holds no such study.
        """
        load_plugins([self.path], must="A study's file must be Python that runs")
        found = self._studies()
        listed = ", ".join(found) or "none"
        if self.attribute is not None:
            thing = found.get(self.attribute, getattr(sys.modules[module_name(self.path)], self.attribute, None))
            if thing is None:
                raise ValueError(f"{self.path} must hold the study {self.attribute}, got these: {listed}.")
            study = self._made(self.attribute, thing)
        elif len(found) != 1:
            advice = f"; add one's name, such as {self.path}:{next(iter(found))}" if found else ""
            raise ValueError(f"{self.path} must hold one study where none is named, got {listed}{advice}.")
        else:
            ((name, thing),) = found.items()
            study = self._made(name, thing)
        return self._with_file(study)

    def _studies(self) -> dict[str, Any]:
        """Return the file's studies by name: what it registered, `Study`s, and functions that say to return one."""
        module = module_name(self.path)
        found: dict[str, Any] = {}
        for name in STUDIES:
            if STUDIES[name].__module__ == module:
                found[name] = STUDIES[name]
        for name, thing in vars(sys.modules[module]).items():
            if name.startswith("_") or any(thing is other for other in found.values()):
                continue
            if isinstance(thing, Study) or (inspect.isfunction(thing) and _says_study(thing, module)):
                found[name] = thing
        return found

    def _made(self, name: str, thing: Study | Callable[[], object]) -> Study:
        where = f"{self.path}:{name}"
        made: object = thing
        if not isinstance(thing, Study):
            if not callable(thing):
                raise ValueError(f"{where} must be a Study or a function that returns one, got {thing!r:.80}.")
            try:
                made = thing()
            except Exception as error:  # a user's own function may raise anything
                reason = one_line(f"{type(error).__name__}: {error}")
                raise ValueError(f"{where} must be a function that returns a Study, got {reason}.") from error
        if not isinstance(made, Study):
            raise ValueError(f"{where} must be a Study or a function that returns one, got {made!r:.80}.")
        return made

    def _with_file(self, study: Study) -> Study:
        check_name("study", study.name)
        if study.name in STUDIES and STUDIES[study.name].__module__ != module_name(self.path):
            raise ValueError(
                f"The study of {self.path} must have a name of its own, got {study.name!r}, which is another study; "
                "set name=."
            )
        path = str(Path(self.path).resolve())
        plugins = (*study.base.plugins, *(() if path in study.base.plugins else (path,)))
        return replace(study, base=replace(study.base, plugins=plugins))


def _says_study(function: Callable[..., object], module: str) -> bool:
    said = function.__annotations__.get("return")
    return function.__module__ == module and (said is Study or said == "Study")


def check_named(name: str | None, *, may_come: bool) -> None:
    """Refuse a study's name that nothing has.

    Args:
        name: what the command line names; None is the default.
        may_come: whether files that are still to be run could register it.

    Raises:
        ValueError: there is no such study.
    """
    if name is None or may_come or name in STUDIES:
        return
    stem = name.partition(":")[0]
    try:
        STUDIES[name]
    except ValueError as error:
        file = f"{stem}.py" if Path(f"{stem}.py").is_file() else "my_study.py"
        raise ValueError(f"{str(error).rstrip('.')}; one of your own is named by its file, such as {file}.") from None
