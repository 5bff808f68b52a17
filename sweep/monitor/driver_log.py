"""What libraries print while a run goes on is kept in a file of the run: the screen is for the run itself.

Ray, Optuna, torch and Python's warnings write to the process's two streams, some of it from C++. So the descriptors
themselves lead to the file while the run goes on, and the run prints to copies of where they led before.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, final

from sweep.record.store import Store

LOG = "driver.log"
"""The file's name in the run's folder."""


@final
@dataclass(frozen=True, kw_only=True)
class Streams:
    """Where the run itself prints while all else goes to the file."""

    out: TextIO
    """What was the standard output."""
    error: int
    """Descriptor of what was the standard error."""
    log: TextIO
    """The file."""


@contextmanager
def kept_in_log(store: Store) -> Iterator[Streams]:
    """Lead the standard output and error into the run's `driver.log` until the context ends.

    Of a run at a URI the file lies in a temporary folder and is copied at the end, for object stores cannot append.
    An exception that leaves the context is printed where the standard error was, by whoever prints it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory() as temporary:
        is_local = "://" not in store.location
        path = Path(store.location if is_local else temporary) / LOG
        out, error = os.dup(1), os.dup(2)
        # Line by line, for what is still in a buffer when a process dies is what it died of.
        with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            screen = os.fdopen(out, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False)
            try:
                # A stream that something has put in the place of the standard output is nobody's but its own.
                yield Streams(out=screen if _leads_to(sys.stdout, 1) else sys.stdout, error=error, log=log)
            finally:
                for stream in (sys.stdout, sys.stderr, screen):
                    with suppress(OSError, ValueError):
                        stream.flush()
                os.dup2(out, 1)
                os.dup2(error, 2)
                os.close(out)
                os.close(error)
        if not is_local:
            # The record does not need it: storage that fails now must not take the run's outcome with it.
            with suppress(OSError):
                store.write_file(LOG, path.read_bytes())


def _leads_to(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):
        return False
