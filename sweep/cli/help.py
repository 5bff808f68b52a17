"""What `python -m sweep.run --help` prints, a screen of what is used most, and `--help-all`: all options and values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from rich.table import Table

from sweep.monitor.console import PipeSafeConsole, say

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

HELP = ("--help", "-h")
HELP_ALL = "--help-all"

COMMON = (
    *("study", "data", "output", "name", "resume", "dry_run", "variants", "learning_rates", "vary", "set", "search"),
    *("trials_per_cell", "early_stopping", "seeds", "epochs", "train_size"),
)
"""What the short help shows, by the options' fields."""

EXAMPLES = """Examples:
  python -m sweep.run                                # try it: no data needed
  python -m sweep.run cifar10 --data DATA --dry-run  # the plan, nothing started
  python -m sweep.run cifar10 --data DATA --vary dropout=0.3,0.5
  python -m sweep.init                               # write my_study.py, then:
  python -m sweep.run my_study.py
  python -m sweep.run --resume --name NAME           # resume after Ctrl-C"""

VALUES = """
Names for --set NAME=VALUE, --vary NAME=VALUE,VALUE,... and
--vary NAME=LOW..HIGH[..STEP]. Defaults: a named study has values of its own,
which --dry-run shows."""


@final
class Formatter:
    """cyclopts' help as plain text without frames: the most used options, or all of them by topic."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:  # noqa: ARG002
        """Print the options of a topic."""
        if not self._everything:
            _print(console, [(_flags(entry), _short(entry)) for entry in panel.entries if _field(entry) in COMMON])
        elif panel.entries:
            say(console, f"\n{panel.title}:")
            _print(console, [(_flags(entry), _long(entry)) for entry in panel.entries])

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:  # noqa: ARG002
        """Print the usage line."""
        say(console, str(usage).strip() + "\n")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:  # noqa: ARG002
        """Print what the command does."""
        text = str(getattr(description, "primary_renderable", description))
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        shown = paragraphs if self._everything else paragraphs[:1]
        console.print("\n\n".join(shown) + ("" if self._everything else "\n"), highlight=False, markup=False)


def print_end(*, everything: bool) -> None:
    """Print what follows the options: examples, and what `--set` and `--vary` name, or how to see it."""
    console = PipeSafeConsole()
    if not everything:
        say(console, f"\nAll options, and all hyperparameters and settings by name: {HELP_ALL}\n\n{EXAMPLES}")
        return
    from sweep.study.reference import sections  # it reads sources

    say(console, f"\n{EXAMPLES}\n{VALUES}")
    for title, values in sections().items():
        say(console, f"\n{title}:")
        _print(console, [(value.name, f"{value.facts}\n{value.summary}".strip()) for value in values])


def _field(entry: HelpEntry) -> str:
    names = entry.positive_names
    return names[0].removeprefix("--").replace("-", "_") if names else str(entry.positional_label).lower()


def _words(entry: HelpEntry) -> str:
    # cyclopts wraps what the option's own documentation says, in plain text as `sweep.study.options` asks for.
    text = getattr(entry.description, "primary_renderable", entry.description)
    return " ".join(str(text or "").split())


def _flags(entry: HelpEntry) -> str:
    return ",\n  ".join((*entry.positive_names, *entry.negative_names)) or str(entry.positional_label)


def _short(entry: HelpEntry) -> str:
    # The first clause: what follows it are choices, defaults and reasons.
    return re.split(r"[;:]|\.(?=\s|$)|, (?:or|such|separated) ", _words(entry))[0] + "."


def _long(entry: HelpEntry) -> str:
    return _words(entry) + (f" [{', '.join(entry.choices)}]" if entry.choices else "")


def _print(console: Console, rows: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=22)
    table.add_column(overflow="fold")
    for name, words in rows:
        table.add_row(f"  {name}", words)
    console.print(table, highlight=False, markup=False)
