"""NVIDIA's Multi-Process Service (MPS) on this machine: find its control daemon, or start one and end it.

The daemon is the child of a small process, the keeper, that this file is when it is run. The keeper lives as long as a
pipe to its owner is open, which the kernel closes however the owner ends, SIGKILL included; it then ends the daemon and
removes the folder. It knows neither Ray nor torch, so that it starts at once and stays small.

A keeper's folder, of which trials need to know the name alone:

    pipe    the daemon's sockets, or a link to those of a daemon that was there before; absent where MPS is not used
    log     what the daemon writes
    ready   made once it is known whether there is a daemon
"""

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

PROGRAM = "nvidia-cuda-mps-control"

VARIABLE = "CUDA_MPS_PIPE_DIRECTORY"
"""What tells CUDA, and the program, where a daemon is."""

DEFAULT_PIPE = "/tmp/nvidia-mps"  # noqa: S108 - NVIDIA's choice
"""Where a daemon is found that was started without CUDA_MPS_PIPE_DIRECTORY."""

START_WITHIN_S = 15.0
"""Seconds until a daemon that was started must answer."""

ANSWER_WITHIN_S = 5.0
"""Seconds within which a daemon must answer a command."""

QUIT_WITHIN_S = 10.0
"""Seconds within which a daemon must end after `quit`; it waits for its clients."""

LOOK_EVERY_S = 0.1


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of looking for a daemon."""

    pipe: str
    """The daemon's pipe directory; empty where there is none."""
    started: bool
    """Whether the daemon was started here, and ends with its keeper."""
    reason: str = ""
    """Why there is no daemon, in words without a full stop; empty where there is one."""


class RefusedError(Exception):
    """The daemon cannot be started; the text says why, as `Answer.reason` does."""


@final
class Keeper:
    """A control daemon for as long as this object, or the process that made it, lives."""

    def __init__(self, folder: str, patience_s: float = START_WITHIN_S) -> None:
        """Find a daemon or start one, and wait until it answers.

        Args:
            folder: what to make; a short path, since sockets are made in it. Nothing may be there.
            patience_s: seconds to wait for a daemon's first answer.
        """
        if sys.platform != "linux":
            self._answer = Answer(pipe="", started=False, reason="MPS needs Linux")
            return
        # By its path, since a node may have the code elsewhere than on Python's path; isolated, since the module
        # `code` beside this file would hide Python's own.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, folder, str(patience_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._process.wait()
        none = {"pipe": "", "started": False, "reason": f"{folder} could not be made"}
        self._answer = Answer(**(json.loads(line) if line else none))

    def answer(self) -> Answer:
        """Return what came of looking for a daemon."""
        return self._answer

    def end(self) -> None:
        """End the daemon, if it was started here, and wait until nothing is left of it."""
        if sys.platform == "linux":
            self._process.communicate()  # closes the pipe, and reads until the keeper has ended


def folder_of(node_id: str, job_id: str) -> str:
    """Return the folder of the keeper that a run has on a node, by Ray's names for both."""
    return f"/tmp/mps-{node_id[:16]}-{job_id}"  # noqa: S108 - others cannot make it ours, see `pipe_in`


def pipe_in(folder: str, wait_s: float) -> str | None:
    """Return what CUDA_MPS_PIPE_DIRECTORY must be for CUDA to use a keeper's daemon; None where MPS is not used."""
    deadline = time.monotonic() + wait_s
    while not Path(folder, "ready").exists():
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_EVERY_S)
    pipe = Path(folder, "pipe")
    try:
        # Who made a folder of this name first would otherwise have this process talk to a daemon of their own.
        is_ours = os.lstat(folder).st_uid == os.getuid()
    except OSError:
        return None
    return str(pipe) if is_ours and pipe.exists() else None


def find_daemon() -> str | None:
    """Return the pipe directory of a daemon that answers and takes this user's processes; None where there is none."""
    pipe = Path(os.environ.get(VARIABLE) or DEFAULT_PIPE)
    try:
        folder, socket = pipe.lstat(), (pipe / "control").lstat()
    except OSError:
        return None
    # A daemon serves its own user, and one of root's all users. In a folder that others can write to, or that is a
    # link, the socket could be replaced by another user's.
    is_trusted = (
        stat.S_ISDIR(folder.st_mode)
        and not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and {folder.st_uid, socket.st_uid} <= {0, os.getuid()}
    )
    return str(pipe) if is_trusted and _answers(pipe) else None


def start_daemon(folder: Path, patience_s: float) -> subprocess.Popen[bytes]:
    """Start a daemon in a folder, as a child in a process group of its own, and return it once it answers.

    Raises:
        RefusedError: it cannot be started, ends, or does not answer in time; nothing runs then.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise RefusedError(f"{PROGRAM} is not installed")
    for name in ("pipe", "log"):
        (folder / name).mkdir(mode=0o700)
    # Ray hides all GPUs from a process that has claimed none, and the daemon is to serve all.
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    output = folder / "log" / "output"
    try:
        with output.open("wb") as file:
            daemon = subprocess.Popen(
                [program, "-f"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment | {VARIABLE: str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")},
                process_group=0,
            )
    except OSError as error:
        raise RefusedError(f"{program} cannot be run ({error.strerror})") from error
    deadline = time.monotonic() + patience_s
    while daemon.poll() is None and time.monotonic() < deadline:
        if _answers(folder / "pipe"):
            return daemon
        time.sleep(LOOK_EVERY_S)
    status = daemon.returncode
    _kill(daemon)
    if status is None:
        raise RefusedError(f"{PROGRAM} did not answer within {patience_s:g} s")
    lines = output.read_text(errors="replace").strip().splitlines()
    raise RefusedError(f"{PROGRAM} ended with status {status}" + (f" ({lines[-1].strip()})" if lines else ""))


def end_daemon(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """End a daemon that `start_daemon` has started, and its servers."""
    if daemon.poll() is None:
        _command("quit", folder / "pipe", QUIT_WITHIN_S)
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(QUIT_WITHIN_S)
    _kill(daemon)


def _kill(daemon: subprocess.Popen[bytes]) -> None:
    """End what is left of a daemon's process group: one that does not answer, or servers without their daemon."""
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def _answers(pipe: Path) -> bool:
    # The list of servers may be empty; this is a number.
    return (pipe / "control").exists() and bool(_command("get_default_active_thread_percentage", pipe, ANSWER_WITHIN_S))


def _command(command: str, pipe: Path, within_s: float) -> str:
    """Return what a daemon answers to a command; an empty string where nothing answers."""
    try:
        done = subprocess.run(
            [PROGRAM],
            input=f"{command}\n",
            capture_output=True,
            text=True,
            timeout=within_s,
            check=True,
            env=os.environ | {VARIABLE: str(pipe)},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def keep(folder: Path, patience_s: float) -> None:
    """Find a daemon or start one, print the answer as JSON, and end what was started once the standard input ends."""
    folder.mkdir(mode=0o700)
    daemon, reason = None, ""
    try:
        pipe = find_daemon()
        if pipe is not None:
            (folder / "pipe").symlink_to(pipe)
        else:
            try:
                daemon = start_daemon(folder, patience_s)
                pipe = str(folder / "pipe")
            except RefusedError as error:
                shutil.rmtree(folder / "pipe", ignore_errors=True)
                reason = str(error)
        (folder / "ready").touch()
        print(json.dumps(asdict(Answer(pipe=pipe or "", started=daemon is not None, reason=reason))), flush=True)
        while not select.select([sys.stdin], [], [], 1.0)[0]:
            if daemon is not None and daemon.poll() is not None:
                # CUDA fails where there are sockets without a daemon, and does without MPS where there are none.
                shutil.rmtree(folder / "pipe", ignore_errors=True)
    finally:
        if daemon is not None:
            end_daemon(daemon, folder)
        shutil.rmtree(folder, ignore_errors=True)


def main(folder: str, patience_s: str) -> None:
    """Run a keeper in a process that no signal to its owner reaches."""
    # An orphan: Ray kills what children a process has when that ends, and this one has yet to end the daemon.
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    keep(Path(folder), float(patience_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
