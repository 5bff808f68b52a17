"""MPS on one machine: found, started, refused and ended; the program itself is a stand-in."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sweep.cluster.mps
from sweep.cluster.mps import Answer, Keeper, find_daemon, folder_of, pipe_in, start_daemon
from tests.mps import Behaviour, install, is_alive, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="MPS is Linux's")


@pytest.fixture
def short() -> Iterator[Path]:
    """Return a folder whose name leaves room for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="mps-test-") as folder:
        yield Path(folder)


@pytest.fixture
def put(short: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Behaviour], None]:
    """Return a function that puts the program on the PATH, with no daemon to be found."""
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(sweep.cluster.mps, "DEFAULT_PIPE", str(short / "default"))

    def put_on_path(behaviour: Behaviour) -> None:
        monkeypatch.setenv("PATH", install(short / "bin", behaviour))

    return put_on_path


def until_gone(numbers: list[int], folder: Path | None = None) -> None:
    """Wait until processes have ended, which takes a moment also after SIGKILL, and a folder is removed."""
    deadline = time.monotonic() + 60
    while (folder is not None and folder.exists()) or any(is_alive(number) for number in numbers):
        assert time.monotonic() < deadline, (folder, numbers)
        time.sleep(0.05)


def test_a_daemon_is_started_for_all_gpus_and_ended_with_all_that_it_made(
    short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("works")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # what Ray sets where no GPU is claimed
    monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "50")
    folder = short / "own"
    keeper = Keeper(str(folder))
    pipe = folder / "pipe"
    assert keeper.answer() == Answer(pipe=str(pipe), started=True)
    assert pipe_in(str(folder), 0) == str(pipe)
    assert [(folder / name).stat().st_mode & 0o777 for name in (".", "pipe", "log")] == [0o700] * 3
    handed = json.loads((folder / "log" / "environment.json").read_text())
    assert handed["CUDA_MPS_PIPE_DIRECTORY"] == str(pipe)
    assert handed["CUDA_MPS_LOG_DIRECTORY"] == str(folder / "log")
    assert handed["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"
    assert "CUDA_VISIBLE_DEVICES" not in handed
    numbers = processes(pipe)
    assert [is_alive(number) for number in numbers] == [True, True]
    keeper.end()
    assert [is_alive(number) for number in numbers] == [False, False]
    assert not folder.exists()
    assert pipe_in(str(folder), 0) is None


@pytest.mark.parametrize("named", [True, False], ids=["by the variable", "at NVIDIA's place"])
def test_a_daemon_that_is_there_is_used_and_not_ended(
    named: bool, short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("works")
    there = short / "default"
    there.mkdir()
    daemon = start_daemon(there, 30)
    # The keeper is a process of its own, to which the test's other place for NVIDIA's does not get.
    if named:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(there / "pipe"))
        keeper = Keeper(str(short / "own"))
        assert keeper.answer() == Answer(pipe=str(there / "pipe"), started=False)
        pipe = pipe_in(str(short / "own"), 0)
        assert pipe is not None
        assert Path(pipe).resolve() == there / "pipe"
        keeper.end()
        assert not (short / "own").exists()
    else:
        monkeypatch.setattr(sweep.cluster.mps, "DEFAULT_PIPE", str(there / "pipe"))
    assert find_daemon() == str(there / "pipe")
    assert daemon.poll() is None
    sweep.cluster.mps.end_daemon(daemon, there)
    assert (there / "pipe" / "control").exists(), "the socket stays, as the real one's does"
    assert find_daemon() is None


def test_a_daemon_of_another_user_is_not_used(
    short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("works")
    daemon = start_daemon(short, 30)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(short / "pipe"))
    assert find_daemon() == str(short / "pipe")
    if os.getuid() == 0:
        os.chown(short / "pipe" / "control", 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert find_daemon() is None
    sweep.cluster.mps.end_daemon(daemon, short)


def test_a_daemon_in_a_folder_that_others_can_change_is_not_used(
    short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("works")
    daemon = start_daemon(short, 30)
    pipe = short / "pipe"
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipe))
    for mode, is_used in ((0o770, False), (0o702, False), (0o1777, False), (0o755, True)):
        pipe.chmod(mode)
        assert (find_daemon() is not None) is is_used
    # Who made a link can make it lead elsewhere later.
    (short / "link").symlink_to(pipe)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(short / "link"))
    assert find_daemon() is None
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipe))
    if os.getuid() == 0:
        os.chown(pipe, 12345, -1)
        assert find_daemon() is None
        os.chown(pipe, 0, -1)
    sweep.cluster.mps.end_daemon(daemon, short)


REFUSALS: list[tuple[Behaviour, str]] = [
    ("ends at once", "nvidia-cuda-mps-control ended with status 3 (the GPUs are busy)"),
    ("hangs", "nvidia-cuda-mps-control did not answer within 0.5 s"),
]


@pytest.mark.parametrize(("behaviour", "reason"), REFUSALS)
def test_a_daemon_that_refuses_is_a_reason(
    behaviour: Behaviour, reason: str, short: Path, put: Callable[[Behaviour], None]
) -> None:
    put(behaviour)
    keeper = Keeper(str(short / "own"), patience_s=0.5 if behaviour == "hangs" else 30)
    assert keeper.answer() == Answer(pipe="", started=False, reason=reason)
    assert pipe_in(str(short / "own"), 0) is None
    keeper.end()
    assert not (short / "own").exists()


def test_no_program_is_a_reason(short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(short))
    keeper = Keeper(str(short / "own"))
    assert keeper.answer().reason == "nvidia-cuda-mps-control is not installed"
    keeper.end()
    assert not (short / "own").exists()


def test_a_program_that_cannot_be_run_is_a_reason(short: Path, put: Callable[[Behaviour], None]) -> None:
    put("works")
    (short / "bin" / "nvidia-cuda-mps-control").write_text("#!/nowhere/at-all\n")
    keeper = Keeper(str(short / "own"))
    assert "cannot be run (No such file or directory)" in keeper.answer().reason
    keeper.end()


def test_a_folder_of_somebody_else_s_is_no_daemon_of_ours(
    short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("works")
    theirs = short / "theirs"
    theirs.mkdir()
    keeper = Keeper(str(theirs))
    assert keeper.answer().reason == f"{theirs} could not be made"
    keeper.end()
    (theirs / "pipe").mkdir()
    (theirs / "ready").touch()
    assert pipe_in(str(theirs), 0) == str(theirs / "pipe")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert pipe_in(str(theirs), 0) is None


def test_a_daemon_that_does_not_quit_is_killed_with_its_server(
    short: Path, put: Callable[[Behaviour], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("does not quit")
    daemon = start_daemon(short, 30)
    numbers = processes(short / "pipe")
    monkeypatch.setattr(sweep.cluster.mps, "QUIT_WITHIN_S", 0.2)
    sweep.cluster.mps.end_daemon(daemon, short)
    until_gone(numbers)


def test_a_daemon_that_has_died_leaves_no_sockets_behind(short: Path, put: Callable[[Behaviour], None]) -> None:
    put("works")
    keeper = Keeper(str(short / "own"))
    daemon, server = processes(short / "own" / "pipe")
    os.kill(daemon, signal.SIGKILL)
    until_gone([daemon], short / "own" / "pipe")
    assert pipe_in(str(short / "own"), 0) is None
    keeper.end()
    until_gone([server])


OWNER = """
import signal, sys, time
from sweep.cluster.mps import Keeper
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
keeper = Keeper(sys.argv[1])
print(keeper.answer().started, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_owner_is_killed(
    number: signal.Signals, short: Path, put: Callable[[Behaviour], None]
) -> None:
    put("works")
    folder = short / "own"
    # A group of its own, all of which gets the signal, as from a terminal.
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "True\n"
    numbers = processes(folder / "pipe")
    os.killpg(owner.pid, number)
    owner.communicate()
    until_gone(numbers, folder)


def test_the_sockets_names_are_short_enough() -> None:
    longest = Path(folder_of("f" * 56, "f" * 8), "pipe", "control_privileged")
    assert len(str(longest)) < 108, "Linux's bound on the path of a socket"
