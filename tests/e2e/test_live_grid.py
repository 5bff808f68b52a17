"""The live grid of a real run in a terminal, and of one that is followed from its record."""

import sys
from pathlib import Path

from sweep.record.store import Store
from tests.e2e.conftest import TINY, command, environment
from tests.terminals import Screen, Terminal

STUDY = ("quickstart", *TINY, "--variants", "model-c", "all-cnn-c", "--name", "mine")


def in_terminal(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in environment().items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONIOENCODING": "utf-8"} | changes


def test_a_run_fills_the_grid_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    terminal = Terminal(command(tmp_path, *STUDY), in_terminal(), 80, 24)
    grids: list[list[str]] = []
    sizes = iter([(160, 50), (60, 20), (80, 24)])

    def look(screen: Screen) -> None:
        shown = screen.lines_shown
        if screen.is_alternate and shown[0].startswith("mine"):
            grids.append(shown)
            if len(grids) % 3 == 0 and (size := next(sizes, None)):
                terminal.resize(*size)

    status = terminal.wait(look)
    end = "\n".join(terminal.screen.lines_shown)
    assert status == 0, end
    assert grids
    last = grids[-1]
    assert any(line.startswith("model-c") for line in last)
    assert any("of 4 trials ended" in line for line in last)
    # What stands there at the end is the table; nothing of the grid's screen is left below it.
    assert not terminal.screen.is_alternate
    assert not terminal.screen.cursor.hidden
    text = terminal.raw.decode()
    assert text.count("best test error %") + text.count("best error %") == 1
    after = text.rpartition("\x1b[?1049l")[2]
    assert after.count("4 of 4 trials ended") == 1
    assert "\x1b[?1049" not in after
    # Before it the plan, and what libraries printed nowhere.
    assert "Study quickstart" in text
    log = (tmp_path / "mine" / "driver.log").read_text()
    assert "[4/4]" in log
    assert "\x1b" not in log
    assert Store(str(tmp_path / "mine")).read_trials()["state"].to_pylist() == ["completed"] * 4


def test_ctrl_c_gives_the_terminal_back_and_says_how_to_go_on(tmp_path: Path) -> None:
    study = ("quickstart", "--train-size", "400", "--epochs", "60", "--width", "0.1", "--name", "mine")
    terminal = Terminal(command(tmp_path, *study, "--protocol", "paper"), in_terminal(), 80, 24)
    pressed: list[bool] = []

    def look(screen: Screen) -> None:
        begun = any(line.startswith("waiting") and "running 0" not in line for line in screen.lines_shown)
        if screen.is_alternate and begun and not pressed:
            pressed.append(True)
            terminal.press(b"\x03")

    assert terminal.wait(look) == 130
    assert pressed
    assert not terminal.screen.is_alternate
    assert "Resume with: " in terminal.raw.decode().rpartition("\x1b[?1049l")[2]


def test_a_run_is_plain_on_a_terminal_that_cannot_move_its_cursor(tmp_path: Path) -> None:
    study = ("quickstart", *TINY, "--variants", "model-c", "--learning-rates", "0.01", "--name", "mine")
    terminal = Terminal(command(tmp_path, *study), in_terminal(TERM="dumb"), 80, 24)
    assert terminal.wait() == 0
    text = terminal.raw.decode()
    assert "[1/1] model-c lr 0.01 seed 0: completed" in text
    # At the end of the process Ray's colorama resets the colours of any terminal.
    assert "\x1b" not in text.removesuffix("\x1b[0m")


def test_a_run_without_colours_still_has_its_grid(tmp_path: Path) -> None:
    study = ("quickstart", *TINY, "--variants", "model-c", "--learning-rates", "0.01", "--name", "mine")
    terminal = Terminal(command(tmp_path, *study), in_terminal(NO_COLOR="1"), 80, 24)
    assert terminal.wait() == 0
    grid = terminal.raw.decode().partition("\x1b[?1049h")[2].partition("\x1b[?1049l")[0]
    assert "model-c" in grid
    assert not any(f"\x1b[{code}m" in grid for code in ("32", "1;32", "36", "1;36"))


def test_a_run_is_followed_from_its_record_until_it_ends(tmp_path: Path) -> None:
    run = Terminal(command(tmp_path, *STUDY, "--plain"), in_terminal(), 80, 24)
    while not Store(str(tmp_path / "mine")).exists():
        assert run.read(), run.raw.decode()
    status = [sys.executable, "-m", "sweep.status", str(tmp_path / "mine"), "--follow"]
    follower = Terminal(status, in_terminal(), 80, 24)
    grids: list[str] = []

    def look(screen: Screen) -> None:
        if screen.is_alternate and screen.lines_shown[0].startswith("mine"):
            grids.append(screen.lines_shown[0])
        run.read(0)  # what is followed must not wait for a reader of what it prints

    code = follower.wait(look)
    assert run.wait() == 0
    assert code == 0, follower.raw.decode()
    assert any("running, alive" in line for line in grids)
    after = follower.raw.decode().rpartition("\x1b[?1049l")[2]
    assert "4 of 4 trials ended" in after
    assert "mine: ended." in after
    # The run itself was asked for lines.
    assert "[4/4] " in run.raw.decode()
    assert "\x1b[?1049h" not in run.raw.decode()
