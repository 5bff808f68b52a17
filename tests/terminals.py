"""A terminal for tests: a command under a pseudo-terminal, and what stands on its screen."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyte


class Screen(pyte.Screen):
    """pyte's screen, with an alternate one that gives back what stood there before."""

    before: Any = None

    def set_mode(self, *modes: int, **options: Any) -> None:
        super().set_mode(*modes, **options)
        if options.get("private") and 1049 in modes:
            self.before = deepcopy((self.buffer, self.cursor.x, self.cursor.y))
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        super().reset_mode(*modes, **options)
        if options.get("private") and 1049 in modes and self.before is not None:
            self.buffer, self.cursor.x, self.cursor.y = self.before
            self.before = None

    @property
    def is_alternate(self) -> bool:
        return self.before is not None

    @property
    def lines_shown(self) -> list[str]:
        return [line.rstrip() for line in self.display]


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], width: int, height: int) -> None:
        self.screen = Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.pid, self._descriptor = pty.fork()
        if not self.pid:
            os.execvpe(command[0], list(command), dict(env))  # noqa: S606
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if (width, height) != (self.screen.columns, self.screen.lines):
            self.screen.resize(height, width)

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def read(self, timeout_s: float = 1.0) -> bool:
        """Take in what has come; return whether more may come."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not ready:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any more
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def wait(self, look: Callable[[Screen], None] = lambda _: None) -> int:
        """Read until the command ends, looking at the screen each time, and return its exit status."""
        while self.read():
            look(self.screen)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def keep_screens(folder: Path, command: Sequence[str], every_s: float = 8.0) -> int:
    """Keep what stands on a command's screen, by turns of 80x24 and of 160x50, as text; return its exit status."""
    sizes = [(80, 24), (160, 50)]
    terminal = Terminal(command, os.environ | {"TERM": "xterm-256color"}, *sizes[0])
    folder.mkdir(parents=True, exist_ok=True)
    kept, since = 0, time.monotonic()

    def look(screen: Screen) -> None:
        nonlocal kept, since
        if time.monotonic() - since < every_s:
            return
        width, height = sizes[kept % 2]
        (folder / f"{kept:04d}-{width}x{height}.txt").write_text("\n".join(screen.lines_shown).rstrip() + "\n")
        kept, since = kept + 1, time.monotonic()
        terminal.resize(*sizes[kept % 2])

    return terminal.wait(look)


if __name__ == "__main__":
    # python -m tests.terminals FOLDER COMMAND...: how docs/screens was made
    sys.exit(keep_screens(Path(sys.argv[1]), sys.argv[2:]))
