"""`sweep run [STUDY] [options]`, or `python -m sweep.run`: run a study and print its table.

Exit status 0 when every planned trial ended in a known state, 1 when some failed, 2 for bad input, 75 when time ran out
and --resume has more to do, 130 after Ctrl-C.
"""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from sweep.cli.app import INTERRUPTED, OK, refuse
from sweep.cli.garbage import collector_off, skip_last_collection
from sweep.cli.parse import parse
from sweep.study.diff import StudyMismatchError
from sweep.study.file import StudyFile, check_named

SOME_FAILED, OUT_OF_TIME = 1, 75
"""75 is EX_TEMPFAIL of sysexits.h: the same command, given again, will do more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    started = time.monotonic()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with ExitStack() as stack:
            settle = stack.enter_context(collector_off())
            try:
                parsed = parse(words)
                if parsed is None:
                    return OK
                study_name, options = parsed
                if StudyFile.named_by(study_name) is None:
                    check_named(study_name, may_come=bool(options.plugins) or options.resume)
                # Here, since it loads torch and Ray: a slip of the finger should not have to wait for them.
                from sweep import preparation, session
                from sweep.execution.deadline import Deadline

                deadline = Deadline()
                if options.time_limit is not None:
                    deadline.end_within(options.time_limit - (time.monotonic() - started))
                prepared = preparation.prepare(study_name, options, words, deadline, stack)
            except ValueError as error:
                status = refuse(str(error))
                if isinstance(error, StudyMismatchError):
                    print(*error.lines, sep="\n", file=sys.stderr)
                return status
            except KeyboardInterrupt:
                print("Interrupted before the first trial; nothing new was recorded.", file=sys.stderr)
                return INTERRUPTED
            settle()
            outcome = prepared if isinstance(prepared, str) else session.execute(prepared)
    except KeyboardInterrupt:
        # While the table was printed or Ray shut down: all that there was to record is recorded.
        return INTERRUPTED
    return {
        "all ended": OK,
        "some failed": SOME_FAILED,
        "interrupted": INTERRUPTED,
        "out of time": OUT_OF_TIME,
    }[outcome]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in a process that does nothing else, and return the exit status."""
    skip_last_collection()
    # Until the run listens for itself, and once it has ended: what is written is whole at any moment.
    signal.signal(signal.SIGTERM, _terminated)
    return main(arguments)


def _terminated(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module's signature
    print("Stopped by SIGTERM. Everything is saved; give the command again to resume.", file=sys.stderr)
    sys.exit(OUT_OF_TIME)
