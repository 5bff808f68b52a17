"""One process writes a run: a lease with a heartbeat says which, on local disks, network disks and object stores alike.

The heartbeat counts. It is no time of day: clocks jump, and differ from machine to machine. Who wants a lease that
another one holds watches by its own clock whether the count still advances; one that does not is dead, and its lease is
taken over, with nothing to be deleted by hand.

Object stores have no lock that `pyarrow.fs` could ask for. So a newcomer writes its own token, waits, and reads it
back: of two that write at once the last one finds its own. A holder that finds another's token has been given up for
dead, by a network that was cut it may be: it writes no more. Nor does one that could not beat for nearly as long as a
newcomer waits, until it can again and finds its own token.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, final

import pyarrow.fs as pafs

from trainables.common.files import with_retries, write_whole

LEASE = "lease.json"
BEAT_S = 5.0
SILENT_FOR_S = 60.0
"""How long a count may stand still before its process is held for dead: longer than a write is tried again for."""
SETTLE_S = 2.0
"""How long a newcomer waits before it reads its token back."""


class LeaseLostError(OSError):
    """Another process has taken over the run."""


@final
@dataclass(kw_only=True)
class Periods:
    """Seconds between what a lease does."""

    beat: float = BEAT_S
    silent_for: float = SILENT_FOR_S
    settle: float = SETTLE_S


@final
@dataclass
class Lease:
    """A run's lease, as one process sees it."""

    filesystem: pafs.FileSystem
    path: str
    location: str
    """The run's, for messages."""
    is_shared: bool = True
    """Whether processes of other machines, or none that a lock could stop, may hold it too."""
    periods: Periods = field(default_factory=Periods)
    wait: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)
    """Sleeps for seconds."""
    clock: Callable[[], float] = time.monotonic
    """Seconds from any start."""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self._lost_to = ""
        self._beat = 0
        self._over = threading.Event()
        self._beat_at = self.clock()
        self._since = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def lost_to(self) -> str:
        """Who has taken over, in words; empty while nobody has."""
        return self._lost_to

    def check(self) -> None:
        """Make sure that this process may write.

        Raises:
            LeaseLostError: another one has taken over, or may have.
        """
        if self._lost_to:
            raise LeaseLostError(f"another process, {self._lost_to}, has taken over the run, since this one was silent")
        silent = self.clock() - self._beat_at
        # A newcomer has seen no beat later than this process has written it.
        if self._beat and silent > self.periods.silent_for - 2 * self.periods.beat:
            raise LeaseLostError(
                f"the lease could not be renewed for {silent:.0f} s, another process may have taken it"
            )

    def at_a_glance(self) -> bool | None:
        """Return whether a process holds the lease, as far as one look can tell: None where only its beats could.

        Raises:
            OSError: the storage does not answer.
        """
        found = self._read()
        if found is None:
            return False
        return _runs(found["pid"]) if found["host"] == platform.node() else None

    @contextmanager
    def held(self, say: Callable[[str], object]) -> Iterator[None]:
        """Hold the lease until the context ends.

        Raises:
            ValueError: another process holds it, or takes it at the same moment.
        """
        if (holder := self._living_holder(say)) is not None:
            raise self._refusal(holder)
        thread = threading.Thread(target=self._keep_beating, daemon=True, name="lease")
        try:
            self._write()
            if self.is_shared:
                self.wait(self.periods.settle)
                found = self._read()
                if found is not None and found["token"] != self.token:
                    raise self._refusal(found)
            thread.start()
            yield
        finally:
            self._over.set()
            if thread.ident is not None:
                # A beat under way would write the lease anew.
                thread.join(timeout=self.periods.silent_for)
            # Else the next one would wait for the heart of a process that has ended.
            with suppress(OSError):
                found = self._read()
                if found is not None and found["token"] == self.token:
                    with_retries(lambda: self.filesystem.delete_file(self.path))

    def _refusal(self, holder: dict[str, Any]) -> ValueError:
        return ValueError(
            f"A run must be written by one process, got {self.location}, where another is at work, {_name(holder)} "
            f"since {holder.get('since')}; wait for its end or choose another name."
        )

    def _living_holder(self, say: Callable[[str], object]) -> dict[str, Any] | None:
        found = self._read()
        if found is None or (found["host"] == platform.node() and not _runs(found["pid"])):
            return None
        if not self.is_shared and found["host"] == platform.node():
            # This machine's lock is ours: what has that number now is another process.
            return None
        say(f"{_name(found)} has written this run; seeing for up to {self.periods.silent_for:.0f} s whether it lives.")
        waited = 0.0
        while waited < self.periods.silent_for:
            self.wait(self.periods.beat)
            waited += self.periods.beat
            now = self._read()
            if now is None:
                return None
            if (now["token"], now["beat"]) != (found["token"], found["beat"]):
                return now
        return None

    def _keep_beating(self) -> None:
        while not self._over.wait(self.periods.beat):
            # Storage that fails for a while costs beats, not the lease.
            with suppress(OSError):
                found = self._read()
                if found is not None and found["token"] != self.token:
                    self._lost_to = _name(found)
                    return
                self._write()

    def _write(self) -> None:
        self._beat += 1
        held = {"token": self.token, "host": platform.node(), "pid": os.getpid(), "since": self._since}
        write_whole(self.filesystem, self.path, json.dumps(held | {"beat": self._beat, "format": 1}).encode())
        self._beat_at = self.clock()

    def _read(self) -> dict[str, Any] | None:
        def read() -> bytes:
            with self.filesystem.open_input_stream(self.path) as stream:
                return stream.read()  # type: ignore[no-any-return]

        try:
            found = json.loads(with_retries(read))
        except (FileNotFoundError, ValueError):
            return None
        is_ours = isinstance(found, dict) and {"token", "host", "pid", "beat"} <= set(found)
        return found if is_ours else None


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host']}"


def _runs(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
