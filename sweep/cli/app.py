"""Run a command: parse its arguments, report bad input in a sentence, return the exit status.

Every command of `sweep` and `analysis` ends here. This module knows none of them.
"""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Never

import cyclopts

from sweep.cli.garbage import skip_last_collection
from trainables.common.validation import one_line, quote

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130

new_app = partial(cyclopts.App, version_flags=(), result_action="return_value", suppress_keyboard_interrupt=False)
"""Make an app as `run_app` takes it."""


def run_app(app: cyclopts.App, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: its own or 0, 2 for bad input, 130 after Ctrl-C.

    Args:
        app: of `new_app`; its functions raise ValueError for bad input, and return a status or None.
        arguments: the command line, that of this process by default.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; without this Python would complain once more as it ends.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except cyclopts.CycloptsError as error:
        return refuse(misunderstood(error))
    except ValueError as error:
        return refuse(str(error))
    return status if isinstance(status, int) else OK


def refuse(message: str) -> int:
    """Print what is wrong, on one line of the standard error, and return the exit status of bad input."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def misunderstood(error: cyclopts.CycloptsError) -> str:
    """Return what is wrong with a command line, as a sentence."""
    if not isinstance(error, cyclopts.UnusedCliTokensError) or error.target is None:
        error.command_chain = None  # who typed it knows it, and `python -m sweep.NAME` has none
        return one_line(error)
    parameters = inspect.signature(error.target).parameters.values()
    names = [f"one {each.name.upper()}" for each in parameters if each.kind is each.POSITIONAL_ONLY]
    takes = f"{', '.join(names)} and then options" if names else "options alone"
    extra = quote(" ".join(map(repr, error.unused_tokens or ())))[1:-1]
    return f"The command line must hold {takes}, got {extra} besides."


def exit_with(main: Callable[[], int]) -> Never:
    """Run a command as all that this process does, and end it with the status."""
    skip_last_collection()
    sys.exit(main())
