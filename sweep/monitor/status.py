"""`python -m sweep.status [DIR|URI]`: the runs in a folder, or how one run stands, from the record alone.

Reads study.json and Parquet only, from any machine that reaches the folder or URI. Exit status 0, 2 for bad input, 130
after Ctrl-C.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, cast, final

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.cli.app import new_app, run_app
from sweep.monitor.console import PipeSafeConsole, note, say
from sweep.monitor.grid import draw, printable, shows_blocks
from sweep.monitor.screen import LINE_EVERY_S, Events, Screen, Trials, in_background, is_live
from sweep.record.document import RunDocument
from sweep.record.params import read_params
from sweep.record.progress import (
    Place,
    Scope,
    arrange,
    count_states,
    duration,
    epochs_per_s,
    estimate_left,
    outcome_in_words,
    progress_line,
)
from sweep.record.schema import FINAL_STATES, TrialRow
from sweep.record.store import Store, runs_in
from trainables.common.files import explain_os_error
from trainables.common.validation import one_line

READ_EVERY_S = 3.0

Flag = Parameter(negative=())

app = new_app(name="python -m sweep.status", help="Show the runs in a folder, or how one of them stands.")


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its record says, at one moment."""

    store: Store
    document: RunDocument
    scope: Scope
    rows: Sequence[TrialRow]
    alive: bool | None

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state."""
        return count_states(self.scope, self.rows)

    @property
    def ended(self) -> int:
        """Trials in a final state."""
        return sum(row["state"] in FINAL_STATES for row in self.rows)

    @property
    def is_over(self) -> bool:
        """Whether every planned trial has ended."""
        return self.ended >= self.scope.planned

    @property
    def state(self) -> str:
        """How the run is, in a word."""
        if self.is_over:
            return "ended"
        return {True: "running", False: "interrupted", None: "not ended"}[self.alive]

    @property
    def words(self) -> str:
        """How the run is, with what tells whether it is alive."""
        alive = {True: "alive", False: "no process writes it", None: "whether a process writes it cannot be told"}
        return self.state if self.is_over else f"{self.state}, {alive[self.alive]}"


def read_run(store: Store) -> Run:
    """Read a run.

    Raises:
        ValueError: there is none, or its record is broken.
    """
    alive = store.is_alive()
    document = store.read_run()
    name = Path(store.location.partition("?")[0]).name
    scope = Scope.of(document.study, name, document.planned_trials)
    rows = store.trial_rows()
    if alive is False:
        # The process that would have said otherwise is no more.
        rows = [row | {"state": "pending"} if row["state"] == "running" else row for row in rows]
    return Run(store=store, document=document, scope=scope, rows=rows, alive=alive)


def as_json(run: Run) -> dict[str, Any]:
    """Return all that is shown of a run as plain values: errors as fractions in [0, 1], times in s."""
    left = estimate_left(run.scope, run.rows)
    cells = []
    for name, standing in zip(run.scope.cells, arrange(run.scope, run.rows, places=False), strict=True):
        search, best, confirm = standing.search, standing.best, standing.confirm or Place()
        confirmed = confirm.best(completed=True)
        cells.append(
            {
                "cell": name,
                "trials": search.trials,
                "ended": search.ended,
                "states": dict(search.states),
                "best_error": best[0] if best else None,
                "params": dict(read_params(best[1])) if best else None,
                "confirm_trials": confirm.trials,
                "confirm_ended": confirm.ended,
                "confirm_error": confirmed[0] if confirmed else None,
            }
        )
    return {
        "name": run.scope.run,
        "location": run.store.location,
        "study": run.scope.study,
        "created": run.document.created,
        "state": run.state,
        "alive": run.alive,
        "planned": run.scope.planned,
        "ended": run.ended,
        "states": run.counts,
        "epochs_per_s": epochs_per_s(run.rows),
        "left_s": left.seconds if left else None,
        "left_plus_minus_s": left.plus_minus if left else None,
        "cells": cells,
    }


def age(created: str, now: datetime) -> str:
    """Return how long ago an ISO time was, in words; empty where it is none."""
    try:
        return duration(max(0.0, (now - datetime.fromisoformat(created)).total_seconds()))
    except (TypeError, ValueError):
        return ""


def table_of(runs: Sequence[Run], now: datetime) -> Table:
    """Return a row per run: its study, state, progress, the best error of each cell in %, and age."""
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "study", "state", "alive", "ended", "failed", "age"):
        table.add_column(heading, overflow="fold", justify="right" if heading in ("ended", "failed", "age") else "left")
    table.add_column("best error of each cell, %", overflow="fold", ratio=1)
    for run in runs:
        cells = (
            f"{standing.label} {100 * standing.best[0]:.2f}"
            for standing in arrange(run.scope, run.rows, places=False)
            if standing.best
        )
        words = (
            run.scope.run,
            run.scope.study,
            run.state,
            {True: "yes", False: "no", None: "?"}[run.alive],
            f"{run.ended:,}/{run.scope.planned:,}",
            f"{run.counts['failed']:,}",
            age(run.document.created, now),
            ", ".join(cells),
        )
        table.add_row(*(Text(printable(word)) for word in words))
    return table


def follow_run(
    store: Store, console: Console, wait: Callable[[float], object], *, plain: bool, every_s: float = READ_EVERY_S
) -> None:
    """Show a run until it ends, or until no process writes it any more.

    Args:
        store: the run's.
        console: where it is shown; the live grid in a terminal, else a line a minute and one per trial that ended.
        wait: sleeps for seconds.
        plain: lines in a terminal too.
        every_s: how often the record is read.
    """
    run = read_run(store)
    trials = Trials(run.scope, {row["trial_id"]: row for row in run.rows})
    events, out = Events(None), cast("TextIO", console.file)
    screen = Screen(out, trials, events) if is_live(out, plain=plain) else None
    # What is said is an event below the grid, or a line where there is none.
    lines = Console(file=cast("TextIO", events)) if screen else console
    with ExitStack() as stack:
        if screen is not None:
            screen.show()
            stack.callback(screen.close)
            stack.enter_context(in_background(screen.run, "grid"))
        since = LINE_EVERY_S
        while True:
            if screen is not None:
                screen.title = run.words.__str__
            elif since >= LINE_EVERY_S:
                since = 0.0
                note(lines, "progress", printable(progress_line(run.scope, run.rows)))
            if run.is_over or run.alive is False:
                break
            wait(every_s)
            since += every_s
            try:
                run = read_run(store)
            except (OSError, ValueError) as error:
                # A network that fails for a moment is no reason to stop looking.
                reason = explain_os_error(error) if isinstance(error, OSError) else error
                say(lines, printable(f"the record cannot be read: {reason}"))
            before = {row["trial_id"]: row["state"] for row in trials.seen()}
            trials.replace_all(run.scope, run.rows)
            for row in run.rows:
                if row["state"] in FINAL_STATES and before.get(row["trial_id"]) not in FINAL_STATES:
                    say(lines, printable(outcome_in_words(row)))
    if screen is not None:
        screen.leave()
    say(console, printable(f"{run.scope.run}: {run.words}."))


@app.default
def status(
    where: Annotated[str, Parameter(env_var="SWEEP_OUTPUT", show_env_var=False)] = "runs",
    /,
    *,
    follow: Annotated[bool, Flag] = False,
    format: Literal["text", "json"] = "text",
    plain: Annotated[bool, Flag] = False,
) -> None:
    """Print a line per run of a folder, or the grid of one run.

    Args:
        where: a folder or URI that holds runs, or that of one run; default: the variable SWEEP_OUTPUT, else runs.
        follow: show one run's grid until it ends.
        format: text, or json for other programs.
        plain: with follow, lines in a terminal too.
    """
    if not where.strip():
        raise ValueError(f"DIR must be a folder or a URI, got {where!r}.")
    if follow and format == "json":
        raise ValueError("format must be text where a run is followed, got 'json'; leave --follow out.")
    store = Store(os.path.expanduser(where) if "://" not in where else where)  # noqa: PTH111 - as run_location
    # Whoever follows a run ends with the reader of its output.
    console = Console() if follow else PipeSafeConsole()
    if store.exists():
        if follow:
            follow_run(store, console, threading.Event().wait, plain=plain)
            return
        run = read_run(store)
        if format == "json":
            print(json.dumps(as_json(run), indent=2))
            return
        title = f"{run.words}, begun {age(run.document.created, datetime.now(UTC))} ago"
        unicode = shows_blocks(console)
        console.print(draw(run.scope, run.rows, width=console.width, unicode=unicode, title=title))
        return
    if follow:
        raise ValueError(
            f"DIR must be one run's folder or URI where a run is followed, got {where!r}, which holds no run."
        )
    runs = []
    for found in runs_in(store):
        try:
            runs.append(read_run(found))
        except ValueError as error:
            print(f"{found.location} cannot be read: {one_line(error, longest=None)}", file=sys.stderr)
    if format == "json":
        print(json.dumps({"runs": [as_json(run) for run in runs]}, indent=2))
    elif runs:
        console.print(table_of(runs, datetime.now(UTC)))
    else:
        say(console, f"No run lies directly in {where}.")


main = partial(run_app, app)
"""Run the command line, that of this process by default, and return its exit status."""
