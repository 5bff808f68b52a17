"""The run on the screen while it goes on: the live grid in a terminal, a line a minute elsewhere."""

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import IO, TextIO, cast, final

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live

from sweep.monitor.console import note
from sweep.monitor.driver_log import kept_in_log
from sweep.monitor.grid import EVENTS, draw, shows_blocks
from sweep.record.progress import Scope, progress_line
from sweep.record.schema import TrialRow
from sweep.record.store import Store

LINE_EVERY_S = 60.0
DRAW_EVERY_S = 0.25
DRAW_ANYWAY_S = 5.0
"""How long what is shown may stay while no trial reports: times and the size of the terminal change nevertheless."""

PAUSE_PER_DRAW = 150.0
"""A drawing is followed by a pause of at least this many times what it took: below a hundredth of the driver's time."""


@final
class Trials:
    """The rows of a run's trials as they change, for another thread to read."""

    def __init__(self, scope: Scope, rows: Mapping[str, TrialRow]) -> None:
        """Begin with the rows of a run that goes on.

        Args:
            scope: what the run is to do.
            rows: of `trials` by trial_id.
        """
        self.scope = scope
        self.changes = 0
        self._rows = {key: row.copy() for key, row in rows.items()}
        self._lock = threading.Lock()

    def update(self, row: TrialRow) -> None:
        """Take a trial's row as it is now."""
        with self._lock:
            self._rows[row["trial_id"]] = row.copy()
            self.changes += 1

    def replace_all(self, scope: Scope, rows: Iterable[TrialRow]) -> None:
        """Take all rows anew, as a record has them."""
        with self._lock:
            self.scope = scope
            self._rows = {row["trial_id"]: row.copy() for row in rows}
            self.changes += 1

    def plan(self, planned: int) -> None:
        """Note how many trials the run has, now that it is known."""
        with self._lock:
            self.scope = replace(self.scope, planned=planned)
            self.changes += 1

    def seen(self) -> list[TrialRow]:
        """Return all rows."""
        with self._lock:
            return list(self._rows.values())


@final
class Events(io.TextIOBase):
    """A file for a console to print on: the last lines are events below the grid, and all are kept in the log."""

    def __init__(self, log: TextIO | None, clock: Callable[[], datetime] = datetime.now) -> None:
        self.last: deque[str] = deque(maxlen=EVENTS)
        self.count = 0
        self._log, self._clock, self._rest = log, clock, ""

    def write(self, text: str) -> int:
        """Take a piece of text; a line is an event once it is whole."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.last.append(f"{self._clock():%H:%M:%S} {line.strip()}")
                self.count += 1
                if self._log is not None:
                    print(self.last[-1], file=self._log)
        return len(text)


@final
class Screen:
    """Draws the grid on a terminal's alternate screen, which gives back what stood there before."""

    def __init__(self, out: TextIO, trials: Trials, events: Events, *, dashboard: str = "") -> None:
        """Prepare; nothing is drawn yet.

        Args:
            out: the terminal.
            trials: whose rows are drawn.
            events: whose last lines stand below them.
            dashboard: address that is shown.
        """
        self._out, self._trials, self._events, self._dashboard = out, trials, events, dashboard
        self.console = Console(file=out)
        self.drawings = 0
        self.draw_s = 0.0
        """CPU time of all drawings."""
        self.title: Callable[[], str] = lambda: ""
        self._live = Live(
            console=self.console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._is_shown = False
        self._lock = threading.Lock()

    def show(self) -> None:
        """Take the terminal."""
        self._live.start()
        self._is_shown = True

    def close(self) -> None:
        """Give the terminal back as it was. May be called again, and by any thread."""
        with self._lock:
            if self._is_shown:
                self._is_shown = False
                with suppress(OSError):  # a terminal that was closed
                    self._live.stop()

    def leave(self) -> None:
        """Print the grid as it is at the end, where the terminal scrolls."""
        with suppress(OSError):
            width, _ = self._size()
            self.console.print(self._picture(width, None, ()))

    def draw(self) -> float:
        """Draw once and return how long the next drawing should wait, s."""
        began = time.thread_time()
        with self._lock:
            if self._is_shown:
                width, height = self._size()
                self._live.update(self._picture(width, height, self._events.last), refresh=True)
        took = time.thread_time() - began
        self.drawings += 1
        self.draw_s += took
        return max(DRAW_EVERY_S, PAUSE_PER_DRAW * took)

    def _picture(self, width: int, height: int | None, events: Iterable[str]) -> Group:
        return draw(
            self._trials.scope,
            self._trials.seen(),
            width=width,
            height=height,
            unicode=shows_blocks(self.console),
            title=self.title(),
            dashboard=self._dashboard,
            events=tuple(events),
        )

    def run(self, ended: threading.Event) -> None:
        """Draw whenever something has changed, until the event; what goes wrong here ends the drawing, not the run."""
        try:
            pause, waited, drawn = 0.0, 0.0, None
            while not ended.wait(pause):
                now = (self._trials.changes, self._events.count, self._size(), self.title())
                waited += pause
                if now == drawn and waited < DRAW_ANYWAY_S:
                    pause = DRAW_EVERY_S
                    continue
                drawn, waited = now, 0.0
                pause = self.draw()
        except Exception as error:  # whatever it is, the run goes on
            self.close()
            self._events.write(f"the grid could not be drawn: {type(error).__name__}: {error}\n")

    def _size(self) -> tuple[int, int]:
        """Return the terminal's columns and lines, by which the console goes from now on."""
        # Asked of the terminal itself: the streams that rich would ask lead elsewhere while the run goes on.
        try:
            size = os.get_terminal_size(self._out.fileno())
        except OSError:
            size = os.terminal_size((80, 24))
        self.console.size = ConsoleDimensions(size.columns or 80, size.lines or 24)
        return self.console.size


def is_live(out: TextIO, *, plain: bool) -> bool:
    """Return whether the grid can be drawn there: on a terminal that can move its cursor, unless it is to be plain."""
    return not out.closed and out.isatty() and not plain and not Console(file=out).is_dumb_terminal


@final
@dataclass(frozen=True, kw_only=True)
class Look:
    """How a run is shown."""

    plain: bool = False
    """Lines in a terminal too."""
    dashboard: str = ""
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the user has asked for the end."""


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """A run that is shown."""

    errors: int
    """Descriptor for what must be said at once, from a signal's handler."""
    close: Callable[[], None]
    """Gives the terminal back, for a process that is about to end without leaving the context."""
    out: int
    """Descriptor of the terminal, or of what stands in its place: for such a process's last words."""


@contextmanager
def shown(store: Store, trials: Trials, console: Console, look: Look) -> Iterator[View]:
    """Show a run until the context ends: what `console` prints is a line, or an event below the live grid.

    Args:
        store: the run's, whose folder gets the log.
        trials: the run's.
        console: prints on the standard output before and after.
        look: how.
    """
    with kept_in_log(store) as streams:
        console.file = streams.out
        try:
            if not is_live(streams.out, plain=look.plain):
                with in_background(partial(line_a_minute, trials, console), "progress"):
                    yield View(errors=streams.error, close=lambda: None, out=streams.out.fileno())
                return
            events = Events(streams.log)
            screen = Screen(streams.out, trials, events, dashboard=look.dashboard)
            screen.title = lambda: "stopping the trials and closing the record" if look.is_stopping() else ""
            console.file = cast("IO[str]", events)
            screen.show()
            try:
                with in_background(screen.run, "grid"):
                    # The grid says itself that it is stopping.
                    yield View(errors=streams.log.fileno(), close=screen.close, out=streams.out.fileno())
            finally:
                screen.close()
                console.file = streams.out
                screen.leave()
        finally:
            console.file = sys.stdout


def line_a_minute(trials: Trials, console: Console, ended: threading.Event) -> None:
    """Print how far the run is each minute until the event, as a thread does."""
    while not ended.wait(LINE_EVERY_S):
        note(console, "progress", progress_line(trials.scope, trials.seen()))


@contextmanager
def in_background(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Do the work in a thread until the context ends; the work watches the event that it is given."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
