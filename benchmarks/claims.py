"""What a benchmark claims, in figures: `benchmarks/run` gathers them into one table, `--guard` compares them.

Each benchmark that makes claims takes `--claims FILE` and writes there, a line of JSON for each.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class Claim:
    """One figure with its spread, and what it should be."""

    name: str
    """Stable: the guard finds its floor by it."""
    values: Sequence[float]
    """One for each repeat; of a ratio, both sides of the same repeat."""
    unit: str
    """`x` for a ratio, `%`, `s`, `ms` or `MiB`."""
    target: float | None = None
    at_least: bool = True
    """Whether more is better; else `target` is the most allowed."""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is as good as the target; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """Return a row of a Markdown table: claim, median, range, repeats, target, whether it is met."""
        spread = f"{_digits(min(self.values))} to {_digits(max(self.values))}" if len(self.values) > 1 else "one run"
        aim = "" if self.target is None else f"{'at least' if self.at_least else 'at most'} {_digits(self.target)}"
        verdict = {True: "met", False: "**missed**", None: ""}[self.met]
        return f"| {self.name} | {_digits(self.value)} {self.unit} | {spread} | {aim} | {verdict} |"


HEAD = "| claim | median | range | target | |\n|---|---|---|---|---|"
"""Of the table whose rows `Claim.line` gives."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark take `--claims FILE`."""
    parser.add_argument("--claims", type=Path, help="file to which the claims are added, a line of JSON each")


def keep(path: Path | None, claims: Sequence[Claim]) -> None:
    """Print claims, and add them to a file where one is named."""
    print(f"\n{HEAD}")
    for claim in claims:
        print(claim.line(), flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(claim)) + "\n" for claim in claims)


def read(path: Path) -> list[Claim]:
    """Return the claims of a file, none where it does not exist."""
    if not path.exists():
        return []
    return [Claim(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _digits(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
