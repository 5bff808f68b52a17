"""Where the study that is given differs from the one that a run has recorded, setting by setting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from sweep.study.study import Study
from trainables.common.validation import configuration

ELSEWHERE = ("data", "plugins")
"""Settings that say where things lie, not what they are: a run may go on from other places."""


@final
@configuration
class Plugin:
    """A Python file of the user's that a study needs, told apart by its contents."""

    file: str
    """Its name."""
    sha256: str


@final
@dataclass(frozen=True, kw_only=True)
class Difference:
    """One setting whose value is not the recorded one."""

    setting: str
    recorded: str
    given: str
    why: str = ""
    """Why the given value cannot be taken, in words; empty where that needs no saying."""

    def __str__(self) -> str:
        return f"{self.setting}: recorded {self.recorded}, given {self.given}" + (f" ({self.why})" if self.why else "")


@final
class StudyMismatchError(ValueError):
    """What is given is not what is recorded: a sentence, with a line for each setting and what to do below it."""

    def __init__(self, must: str, differences: Sequence[Difference], advice: str) -> None:
        """Begin with the sentence.

        Args:
            must: what must hold, in words, up to what came instead.
            differences: where it does not hold, one at the least.
            advice: what to do, a sentence.
        """
        names = join_words([difference.setting for difference in differences])
        super().__init__(f"{must}, got one that differs in {names}.")
        self.lines = (*(f"  {difference}" for difference in differences), advice)
        """What stands below the sentence."""


def study_differences(recorded: Study, given: Study, typed: Iterable[str] = ()) -> list[Difference]:
    """Return the settings in which two studies differ, what was typed first: it may have changed other settings too."""
    first = set(typed)
    # The number of seeds left out and the same one given are the same study.
    was, now = ({"study": study.name, **study.settings(), "seeds": seeds_of(study)} for study in (recorded, given))
    found = []
    for name in sorted({*was, *now}, key=lambda name: (name not in first, name)):
        if now.get(name) != was.get(name) and name not in ELSEWHERE:
            said = shown(was.get(name)), shown(now.get(name))
            if said[0] == said[1]:  # they differ in a digit that is not shown
                said = repr(was.get(name)), repr(now.get(name))
            found.append(Difference(setting=name, recorded=said[0], given=said[1]))
    return found


def plugin_differences(recorded: Sequence[Plugin], given: Sequence[Plugin]) -> list[Difference]:
    """Return which of a run's plugins have other contents than they had, in order; a new place is no difference."""
    absent = Plugin(file="", sha256="")
    longest = max(len(recorded), len(given))
    found = []
    for number in range(longest):
        was, now = (each[number] if number < len(each) else absent for each in (recorded, given))
        if was.sha256 != now.sha256:
            said = [f"sha256 {each.sha256[:12]}" if each.sha256 else "none" for each in (was, now)]
            found.append(Difference(setting=now.file or was.file, recorded=said[0], given=said[1]))
    return found


def shown(value: Any) -> str:
    """Return a setting's value as a line of differences shows it."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def seeds_of(study: Study) -> int:
    """Return what the option `seeds` is, with the protocol's default where it was left out."""
    return study.confirm_seeds if study.protocol == "holdout" else study.search_seeds


def join_words(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)
