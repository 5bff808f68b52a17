import io
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.monitor.screen import PAUSE_PER_DRAW, Events, Screen, Trials, is_live, line_a_minute
from tests.standings import RATES, row, scope


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor")


def test_the_grid_is_for_terminals_that_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert is_live(Tty(), plain=False)
    assert not is_live(Tty(), plain=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert is_live(Tty(), plain=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Tty(), plain=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not is_live(io.StringIO(), plain=False)
    closed = io.StringIO()
    closed.close()
    assert not is_live(closed, plain=False)


def test_whole_lines_are_events_and_all_of_them_are_in_the_log() -> None:
    log = io.StringIO()
    events = Events(log, clock=lambda: datetime(2026, 1, 2, 3, 4, 5))
    console = Console(file=events)  # type: ignore[arg-type]
    for number in range(7):
        console.print(f"  [{number}/7] model-c [red] ended", markup=False, highlight=False, soft_wrap=True)
    events.write("half a ")
    assert list(events.last) == [f"03:04:05 [{number}/7] model-c [red] ended" for number in range(2, 7)]
    events.write("line\n\n")
    assert events.last[-1] == "03:04:05 half a line"
    assert events.count == 8
    assert log.getvalue().count("\n") == 8
    assert "\x1b" not in log.getvalue()


def test_rows_are_copied() -> None:
    trials = Trials(scope(), {})
    one = row("model-a", 0.1, "running", val_error=0.3)
    trials.update(one)
    one["val_error"] = 0.5
    assert trials.seen()[0]["val_error"] == 0.3
    trials.update(one)
    assert trials.seen() == [one]
    trials.plan(9)
    assert trials.scope.planned == 9
    assert trials.changes == 3


def shown(out: Tty, trials: Trials) -> Screen:
    screen = Screen(out, trials, Events(None), dashboard="http://here")
    screen.show()
    return screen


def test_a_drawing_shows_the_rows_and_closing_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out, trials = Tty(), Trials(scope(), {})
    screen = shown(out, trials)
    trials.update(row("model-a", 0.1, "running", val_error=0.3))
    pause = screen.draw()
    assert pause >= max(0.25, PAUSE_PER_DRAW * screen.draw_s)
    assert "r 30.0*" in out.getvalue()
    screen.close()
    screen.close()
    assert out.getvalue().count("\x1b[?1049l") == 1
    length = len(out.getvalue())
    screen.draw()
    assert len(out.getvalue()) == length


def test_what_goes_wrong_with_the_grid_ends_the_grid_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out, trials = Tty(), Trials(scope(), {})
    screen = shown(out, trials)
    trials.update({**row("model-a", 0.1, "running"), "epochs_run": "a word"})
    screen.run(threading.Event())
    assert out.getvalue().endswith("\x1b[?25h\x1b[?1049l")
    trials.update(row("model-a", 0.1, "running"))


def test_a_minute_is_a_line() -> None:
    class Ended(threading.Event):
        """Lets two periods pass, and says for how long it was asked to wait."""

        asked: list[float | None] = []  # noqa: RUF012

        def wait(self, timeout: float | None = None) -> bool:
            self.asked.append(timeout)
            return len(self.asked) > 2

    out = io.StringIO()
    rows = {one["trial_id"]: one for one in (row("model-a", rate, "completed") for rate in RATES)}
    line_a_minute(Trials(scope(), rows), Console(file=out, width=20), Ended())
    assert out.getvalue() == "       progress  4 of 14 trials ended, 0 running\n" * 2
    assert Ended.asked == [60.0] * 3


def test_a_thousand_trials_cost_less_than_a_hundredth_of_the_drivers_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    found = scope(search="tpe", trials_per_cell=500)
    rows: list[dict[str, Any]] = [
        row(name, 0.001 + number / 1000, "running", number=number, val_error=0.5)
        for name in ("model-a", "all-cnn-a")
        for number in range(500)
    ]
    screen = shown(Tty(), Trials(found, {one["trial_id"]: one for one in rows}))
    for _ in range(5):
        before = screen.draw_s
        pause = screen.draw()
        assert (screen.draw_s - before) / pause < 0.01
    screen.close()
