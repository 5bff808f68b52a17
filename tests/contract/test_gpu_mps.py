"""NVIDIA's own MPS does what the stand-in of other tests does: needs a GPU and its driver's programs."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sweep.cluster.mps import PROGRAM, Keeper, find_daemon
from tests.mps import is_alive

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason=f"{PROGRAM} is not installed"),
]

CLIENT = "import torch; x = torch.ones(1000, device='cuda'); print(int(x.sum()), flush=True); input()"
OWNER = """
import sys, time
from sweep.cluster.mps import Keeper
keeper = Keeper(sys.argv[1])
print(keeper.answer(), flush=True)
time.sleep(1000)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    if find_daemon() is not None:
        pytest.skip("a daemon runs here, which tests leave alone")
    with tempfile.TemporaryDirectory(prefix="mps-test-") as temporary:
        yield Path(temporary, "own")


def using(folder: Path) -> dict[str, str]:
    return os.environ | {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe")}


def client(folder: Path) -> subprocess.Popen[str]:
    """Start a process that has computed on the GPU, and holds it until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT], env=using(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1000\n"
    return process


def numbers_of(folder: Path, command: str) -> list[int]:
    done = subprocess.run([PROGRAM], input=f"{command}\n", capture_output=True, text=True, env=using(folder))
    return [int(word) for word in done.stdout.split()]


def test_processes_share_a_server_that_ends_with_the_keeper(folder: Path) -> None:
    keeper = Keeper(str(folder))
    assert keeper.answer().started, keeper.answer().reason
    clients = [client(folder) for _ in range(2)]
    (server,) = numbers_of(folder, "get_server_list")
    assert set(numbers_of(folder, f"get_client_list {server}")) == {process.pid for process in clients}
    for process in clients:
        process.communicate("\n")
    keeper.end()
    assert not is_alive(server)
    assert not folder.exists()


@pytest.mark.parametrize("has_client", [False, True])
def test_nothing_is_left_when_the_owner_is_killed(folder: Path, has_client: bool) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert "started=True" in owner.stdout.readline()
    process = client(folder)
    (server,) = numbers_of(folder, "get_server_list")
    daemon = int((folder / "pipe" / "nvidia-cuda-mps-control.pid").read_text())
    if not has_client:
        process.communicate("\n")
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    deadline = time.monotonic() + 60
    while folder.exists() or is_alive(daemon) or is_alive(server):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.communicate()


def test_without_a_daemon_cuda_works_as_ever(folder: Path) -> None:
    client(folder).communicate("\n")
