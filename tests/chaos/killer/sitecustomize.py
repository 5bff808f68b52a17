"""Does harm to a run at a chosen write, and notes every write; Python imports this module by its name in every process.

CHAOS_FOLDER  files of this folder count
CHAOS_LOG     a line is added for each of them that took its place: 1 or 0 (the driver or not) and the file
CHAOS_FAULT   WHO:WHEN:NUMBER:WHAT, done once a run
                WHO     `driver`, the process of `sweep.run`, or `trial`, any other one
                WHEN    `half` (half of the temporary file is there), `before` (it is whole, but has not its place) or
                        `after`
                NUMBER  of the write among those of WHO, from 0
                WHAT    `die`: the process ends, as at a loss of power; `raylet`, `gcs_server` or `cluster`: Ray's
                        process of this name is killed, or all that Ray has started; `full:COUNT`: this write and the
                        COUNT - 1 next ones, of any process, find no room on the disk
"""

import errno
import os
import signal
import sys
from pathlib import Path

FOLDER, LOG = os.environ.get("CHAOS_FOLDER", ""), os.environ.get("CHAOS_LOG", "")
WHO, WHEN, NUMBER, WHAT, COUNT = (os.environ.get("CHAOS_FAULT", "") + "::::").split(":")[:5]
IS_DRIVER = "sweep.run" in sys.orig_argv
DONE, LEFT = Path(f"{LOG}.done"), Path(f"{LOG}.left")

_fsync, _replace = os.fsync, os.replace


def fsync(descriptor: int) -> None:
    _fsync(descriptor)
    file = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - no reference to the file is left
    if file.startswith(FOLDER) and not os.path.isdir(file) and "lease.json" not in file:  # noqa: PTH112
        _fill_the_disk()
        if _is_due("half"):
            os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
            _do_harm()


def replace(source: "str | os.PathLike[str]", target: "str | os.PathLike[str]", **options: int) -> None:
    # Not the heartbeat, whose number of writes is the clock's.
    counts = os.fspath(target).startswith(FOLDER) and not os.fspath(target).endswith("lease.json")
    if counts and _is_due("before"):
        _do_harm()
    _replace(source, target, **options)
    if counts:
        is_due = _is_due("after")
        with open(LOG, "a") as log:  # noqa: PTH123 - nothing that could be patched in turn
            log.write(f"{int(IS_DRIVER)} {os.fspath(target)}\n")
        if is_due:
            _do_harm()


def _is_due(when: str) -> bool:
    if when != WHEN or (WHO == "driver") != IS_DRIVER or DONE.exists():
        return False
    lines = Path(LOG).read_text().splitlines() if Path(LOG).exists() else []
    return sum(line.startswith("1") == IS_DRIVER for line in lines) == int(NUMBER)


def _do_harm() -> None:
    DONE.touch()
    if WHAT == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif WHAT == "full":
        LEFT.write_text(COUNT)
        _fill_the_disk()
    else:
        for process, command in _of_this_run():
            if WHAT in ("cluster", command):
                os.kill(process, signal.SIGKILL)


def _fill_the_disk() -> None:
    left = int(LEFT.read_text()) if WHAT == "full" and LEFT.exists() else 0
    if left:
        LEFT.write_text(str(left - 1))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _of_this_run() -> "list[tuple[int, str]]":
    """Return the processes that Ray has started for this run, with their commands."""
    mark, found = f"CHAOS_LOG={LOG}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # Workers write their title over their variables; they end with their raylet.
        if mark in variables and b"sweep.run" not in command and int(folder.name) != os.getpid():
            found.append((int(folder.name), command[0].decode().rpartition("/")[2]))
    return found


if FOLDER:
    os.fsync, os.replace = fsync, replace
