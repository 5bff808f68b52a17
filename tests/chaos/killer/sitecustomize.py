"""Ends its process at a chosen write, as a loss of power would, and notes every write; Python imports it by its name.

CHAOS_FOLDER  files of this folder count
CHAOS_LOG     a line is added for each of them that took its place
CHAOS_KILL    WHEN:NUMBER: the process of `sweep.run` dies at its write of this number, from 0; WHEN is `half` (half of
              the temporary file is there), `before` (it is whole, but has not its place) or `after`
"""

import os
import signal
import sys

FOLDER, LOG = os.environ.get("CHAOS_FOLDER", ""), os.environ.get("CHAOS_LOG", "")
WHEN, _, NUMBER = os.environ.get("CHAOS_KILL", "").partition(":")
IS_DRIVER = "sweep.run" in sys.orig_argv

_fsync, _replace = os.fsync, os.replace
_count = 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _is_due(when: str) -> bool:
    return IS_DRIVER and when == WHEN and int(NUMBER) == _count


def fsync(descriptor: int) -> None:
    _fsync(descriptor)
    if os.readlink(f"/proc/self/fd/{descriptor}").startswith(FOLDER) and _is_due("half"):  # noqa: PTH115 - no imports
        os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
        _die()


def replace(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]", **options: int) -> None:
    global _count
    counts = os.fspath(target).startswith(FOLDER)
    if counts and _is_due("before"):
        _die()
    _replace(source, target, **options)
    if counts:
        with open(LOG, "a") as log:  # noqa: PTH123 - nothing that could be patched in turn
            log.write(f"{int(IS_DRIVER)} {os.fspath(target)}\n")
        if _is_due("after"):
            _die()
        _count += 1


if FOLDER:
    os.fsync, os.replace = fsync, replace
