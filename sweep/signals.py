"""What a run does on Ctrl-C and on SIGTERM."""

import os
import signal
from contextlib import suppress
from typing import Any, final

from sweep.execution.deadline import AFTER_SIGTERM_S, CLOSING_S, Deadline
from sweep.monitor.screen import View


@final
class Interruption:
    """Whether the run was asked to end: by Ctrl-C at once, by SIGTERM after the epoch that each trial is in."""

    def __init__(self, deadline: Deadline) -> None:
        self.is_set = False
        self.is_terminated = False
        self._deadline = deadline
        self.view: View | None = None
        """What shows the run, while it is shown."""
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Return whether it was asked for."""
        return self.is_set

    def listen(self) -> None:
        """From now on take signals as requests; a second Ctrl-C raises KeyboardInterrupt."""
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._note)

    def stop_listening(self) -> None:
        """Leave signals to whom they belonged before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signal module's signature
        if number == signal.SIGTERM and (self.is_terminated or self.is_set):
            # Whoever sends it to the whole process group sends it twice where a script passes it on.
            return
        if self.is_set:
            raise KeyboardInterrupt
        if number == signal.SIGTERM:
            self.is_terminated = True
            self._deadline.end_after_epoch()
            message = f"SIGTERM: trials stop after this epoch, or in {AFTER_SIGTERM_S - CLOSING_S:g} s."
        else:
            self.is_set = True
            message = "Stopping the trials and closing the record: some seconds."
        # To a descriptor, since the signal may have come in the middle of a print; what reads it may have had its own
        # Ctrl-C.
        with suppress(OSError):
            os.write(2 if self.view is None else self.view.errors, f"{message}\n".encode())
