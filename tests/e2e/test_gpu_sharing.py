"""Trials that share a GPU: MPS on its node for as long as the run lasts. No GPU is there, and MPS is a stand-in."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.clusters import Nodes, nodes
from tests.e2e.conftest import TINY, command, environment
from tests.mps import install, is_alive, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="MPS is Linux's")

PLUGIN = """
import os, sys
from pathlib import Path
from torch import nn
from trainables.architectures import register_variant

if "default_worker" in sys.argv[0]:
    (Path({here!r}) / f"pipe-{{os.getpid()}}").write_text(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", ""))


@register_variant("linear")
def _linear(options, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
"""

DRIVER = """
import os, sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from sweep.cluster.sharing import join_mps, mps_on_nodes


def pipe():
    return join_mps() and os.environ["CUDA_MPS_PIPE_DIRECTORY"]


options = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False} if sys.argv[1] == "local" else {}
ray.init(address=sys.argv[1], log_to_driver=False, **options)
with mps_on_nodes(lambda line: print(line, flush=True)):
    for _ in sys.stdin:
        for node in sorted(node["NodeID"] for node in ray.nodes()):
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            task = ray.remote(num_cpus=0, num_gpus=0.25)(pipe).options(scheduling_strategy=there)
            print(ray.get(task.remote()), flush=True)
"""

STARTED = "MPS  started on 1 node: trials that share a GPU compute at the same time"


@pytest.fixture(scope="module", autouse=True)
def _program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the stand-in on the PATH of all that is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", install(tmp_path_factory.mktemp("bin")))
        patch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(_program: None) -> Iterator[Nodes]:
    """Return a cluster of one node that says it has a GPU."""
    with nodes({"num_cpus": 2, "num_gpus": 1}) as cluster:
        yield cluster


def started(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A terminal sends Ctrl-C to every process of the group.
        start_new_session=True,
    )


def answers(driver: subprocess.Popen[str], count: int) -> list[Path]:
    """Return the pipe directory that a task finds on each node of a driver's cluster."""
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write("\n")
    driver.stdin.flush()
    return [Path(driver.stdout.readline().strip()) for _ in range(count)]


def kill_and_wait_until_gone(driver: subprocess.Popen[str], pipes: list[Path]) -> None:
    numbers = [number for pipe in pipes for number in processes(pipe)]
    assert all(is_alive(number) for number in numbers)
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 120
    while any(is_alive(number) for number in numbers) or any(pipe.parent.exists() for pipe in pipes):
        assert time.monotonic() < deadline, (numbers, pipes)
        time.sleep(0.1)


def test_an_interrupted_run_leaves_no_daemon_and_says_how_its_gpus_were_shared(cluster: Nodes, tmp_path: Path) -> None:
    plugin = tmp_path / "linear.py"
    plugin.write_text(PLUGIN.format(here=str(tmp_path)))
    own = ("--plugins", str(plugin), "--variants", "linear", "--name", "shared", "--address", cluster.address)
    rates = ("--gpus-per-trial", "0.5", "--max-concurrent", "1", "--learning-rates", "0.01", "0.02", "0.03", "0.04")
    run = started(command(tmp_path, "quickstart", *TINY, *own, *rates))
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line)
        if line.startswith("[1/4]"):
            os.killpg(run.pid, signal.SIGINT)
            break
    rest, errors = run.communicate()
    assert run.returncode == 130, "".join(lines) + rest + errors
    assert [line.strip() for line in lines if "MPS" in line] == [STARTED]
    assert "MPS" not in rest
    assert Store(str(tmp_path / "shared")).read_run().executions[-1].gpu_sharing == "mps"
    (pipe,) = {Path(file.read_text()) for file in tmp_path.glob("pipe-*")}
    assert pipe.name == "pipe"
    assert not pipe.parent.exists()


@pytest.mark.cluster
def test_a_node_that_joins_has_a_daemon_and_none_outlives_a_killed_driver(cluster: Nodes) -> None:
    driver = started([sys.executable, "-c", DRIVER, cluster.address])
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == STARTED
    cluster.add(num_cpus=1, num_gpus=1)
    pipes = answers(driver, 2)
    assert len(set(pipes)) == 2
    kill_and_wait_until_gone(driver, pipes)


def test_no_daemon_outlives_a_killed_driver_and_the_ray_that_it_started() -> None:
    driver = started([sys.executable, "-c", DRIVER, "local"])
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == STARTED
    kill_and_wait_until_gone(driver, answers(driver, 1))
