"""The run on the screen while it goes on: the live grid in a terminal, a line a minute elsewhere."""

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import IO, Any, TextIO, cast, final

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from sweep.monitor.background import in_background
from sweep.monitor.console import note
from sweep.monitor.driver_log import kept_in_log
from sweep.monitor.grid import EVENTS, Facts, draw
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
        self._drawn: object = None
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
            width, _ = self._resize()
            self.console.print(self.picture(width, None, ()))

    def draw(self) -> float:
        """Draw once and return how long the next drawing should wait, s."""
        began = time.thread_time()
        with self._lock:
            if self._is_shown:
                width, height = self._resize()
                self._live.update(self.picture(width, height), refresh=True)
        took = time.thread_time() - began
        self.drawings += 1
        self.draw_s += took
        return max(DRAW_EVERY_S, PAUSE_PER_DRAW * took)

    def picture(self, width: int, height: int | None, events: Sequence[str] | None = None) -> Any:
        """Return the grid as it is now.

        Args:
            width: columns.
            height: lines, None for as many as there are.
            events: what stands below it, by default what happened last.
        """
        rows = self._trials.seen()
        facts = Facts(
            dashboard=self._dashboard,
            title=self.title(),
            events=tuple(self._events.last) if events is None else events,
        )
        can = (self.console.encoding or "").startswith("utf")
        scope = self._trials.scope
        return draw(scope, rows, facts, width=width, height=height, unicode=can)

    def run(self, ended: threading.Event) -> None:
        """Draw whenever something has changed, until the event; what goes wrong here ends the drawing, not the run."""
        try:
            pause, waited = 0.0, 0.0
            while not ended.wait(pause):
                now = (self._trials.changes, self._events.count, self._size(), self.title())
                waited += pause
                if now == self._drawn and waited < DRAW_ANYWAY_S:
                    pause = DRAW_EVERY_S
                    continue
                self._drawn, waited = now, 0.0
                pause = self.draw()
        except Exception as error:  # whatever it is, the run goes on
            self.close()
            self._events.write(f"the grid could not be drawn: {type(error).__name__}: {error}\n")

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._out.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _resize(self) -> tuple[int, int]:
        # Asked of the terminal itself: the streams that rich would ask lead elsewhere while the run goes on.
        width, height = self._size()
        self.console.size = ConsoleDimensions(width, height)
        return width, height


def is_live(out: TextIO, *, plain: bool) -> bool:
    """Return whether the grid can be drawn there: on a terminal that can move its cursor, unless it is to be plain."""
    try:
        is_terminal = out.isatty()
    except ValueError:
        is_terminal = False
    return is_terminal and not plain and not Console(file=out).is_dumb_terminal


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

    trials: Trials
    """To be told of each change."""
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
                with in_background(line_a_minute(trials, console), "progress"):
                    yield View(trials=trials, errors=streams.error, close=lambda: None, out=streams.out.fileno())
                return
            events = Events(streams.log)
            screen = Screen(streams.out, trials, events, dashboard=look.dashboard)
            screen.title = lambda: "stopping the trials and closing the record" if look.is_stopping() else ""
            console.file = cast("IO[str]", events)
            screen.show()
            try:
                with in_background(screen.run, "grid"):
                    # The grid says itself that it is stopping.
                    yield View(trials=trials, errors=streams.log.fileno(), close=screen.close, out=streams.out.fileno())
            finally:
                screen.close()
                console.file = streams.out
                screen.leave()
        finally:
            console.file = sys.stdout


def line_a_minute(
    trials: Trials, console: Console, period_s: float = LINE_EVERY_S
) -> Callable[[threading.Event], None]:
    """Return work for a thread: it prints how far the run is, each time that the period has passed."""

    def work(ended: threading.Event) -> None:
        while not ended.wait(period_s):
            note(console, "progress", progress_line(trials.scope, trials.seen()))

    return work
