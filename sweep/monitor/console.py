"""Lines for people: printed as they are, on a console that survives the end of whatever reads it."""

import os
from typing import final

from rich.console import Console


@final
class PipeSafeConsole(Console):
    """rich's console, except that the run continues when the reader of its output has ended."""

    def on_broken_pipe(self) -> None:
        """Discard everything that is printed from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def say(console: Console, text: str) -> None:
    """Print text as it is: neither wrapped nor coloured, and brackets are no markup."""
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def note(console: Console, heading: str, text: str) -> None:
    """Print a line under its heading, as below a plan."""
    say(console, f"{heading:>15}  {text}")
