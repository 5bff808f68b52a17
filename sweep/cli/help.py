"""What `python -m sweep.run --help` prints: a screen of what is used most; `--help-all`: everything by topic."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from rich.table import Table

from sweep.monitor.console import say

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

HELP = ("--help", "-h")
HELP_ALL = "--help-all"

COMMON = (
    *("study", "data", "output", "name", "resume", "dry_run"),
    *("variants", "learning_rates", "epochs", "train_size", "width"),
    *("search", "trials_per_cell", "early_stopping", "seeds", "max_concurrent"),
)
"""What the short help shows, by the options' fields, in the order of the whole."""

TOPICS: dict[str, tuple[str, ...]] = {
    "The run": (
        *(
            "study",
            "data",
            "output",
            "name",
            "resume",
            "only",
            "retry_failed",
            "extend",
            "dry_run",
            "plugins",
            "log",
            "plain",
        ),
        "help",
    ),
    "What is compared": ("datasets", "augmentations", "variants"),
    "How it is searched": (
        *("learning_rates", "weight_decays", "batch_sizes", "rates_from", "search", "trials_per_cell"),
        "warm_start",
        *("early_stopping", "first_rung", "reduction_factor"),
    ),
    "How the error comes about": (
        "protocol",
        "validation",
        "evaluate_every",
        "confirm_top",
        "seeds",
        "seed",
    ),
    "Training": (
        *("epochs", "iterations", "train_size", "batch_size", "weight_decay", "warmup_epochs", "momentum"),
        *("momentum_form", "bias_lr_factor", "bias_weight_decay", "max_grad_norm", "preprocessing"),
        *("canvas", "precision", "memory_format", "compiled"),
    ),
    "Networks": (
        *("width", "input_dropout", "dropout", "strided_dropout", "class_relu", "head_padding", "leaky_slope"),
        *("initialisation", "initialisation_std"),
    ),
    "The augmentation heavy": (
        *("rotation", "min_scale", "max_scale", "translation", "brightness", "contrast", "saturation", "hue"),
    ),
    "Where it runs": ("workers_per_trial", "gpus_per_trial", "max_concurrent", "time_limit", "address"),
}
"""All options by topic; one that stands in none comes last, under a topic of its own."""

EXAMPLES = """Examples:
  python -m sweep.run                                # try it: no data needed
  python -m sweep.run cifar10 --data DATA --dry-run  # the plan, nothing started
  python -m sweep.run cifar10 --data DATA --variants model-c all-cnn-c
  python -m sweep.init                               # a study of your own:
  python -m sweep.run my_study.py
  python -m sweep.run --resume --name NAME           # go on after Ctrl-C"""


@final
class Formatter:
    """cyclopts' help as plain text without frames, the options short or by topic."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:  # noqa: ARG002
        """Print the options."""
        entries = {_field(entry): entry for entry in panel.entries}
        if not self._everything:
            _print(console, "Options", [_short(entries[name]) for name in COMMON if name in entries])
            more = f"All {len(entries) - len(entries.keys() & {'study', 'help'})} options, by topic: {HELP_ALL}"
            say(console, f"\n{more}\n\n{EXAMPLES}")
            return
        for topic, names in TOPICS.items():
            _print(console, topic, [_long(entries.pop(name)) for name in names if name in entries])
        _print(console, "More", [_long(entry) for entry in entries.values()])
        say(console, f"\n{EXAMPLES}")

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:  # noqa: ARG002
        """Print the usage line."""
        say(console, str(usage).strip() + "\n")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:  # noqa: ARG002
        """Print what the command does."""
        text = str(getattr(description, "primary_renderable", description))
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        shown = paragraphs if self._everything else paragraphs[:1]
        console.print("\n\n".join(shown), highlight=False, markup=False)


def _field(entry: HelpEntry) -> str:
    names = entry.positive_names
    return names[0].removeprefix("--").replace("-", "_") if names else str(entry.positional_label).lower()


def _words(entry: HelpEntry) -> str:
    # cyclopts wraps what the option's own documentation says, in plain text as `sweep.study.options` asks for.
    text = getattr(entry.description, "primary_renderable", entry.description)
    return " ".join(str(text or "").split())


def _flags(entry: HelpEntry) -> str:
    return ",\n  ".join((*entry.positive_names, *entry.negative_names)) or str(entry.positional_label)


def _short(entry: HelpEntry) -> tuple[str, str]:
    # The first clause: what follows it are choices, defaults and reasons.
    return _flags(entry), re.split(r"[;:]|\.(?=\s|$)|, (?:or|separated) ", _words(entry))[0] + "."


def _long(entry: HelpEntry) -> tuple[str, str]:
    listed = f" [{', '.join(entry.choices)}]" if entry.choices else ""
    return _flags(entry), _words(entry) + listed


def _print(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=24)
    table.add_column(overflow="fold")
    for flags, words in rows:
        table.add_row(f"  {flags}", words)
    say(console, f"\n{title}:")
    console.print(table, highlight=False, markup=False)
