"""Joining a cluster that runs already, and what its dashboard says to strangers."""

import platform
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from sweep.cluster.connect import TOKEN_FILE
from sweep.record.store import Store
from tests.e2e.conftest import TINY, Sweep, command, environment

# The project's own way to start Ray; it lives until its standard input closes.
START = """
import sys
from sweep.cluster.connect import connect
with connect(None) as cluster:
    import ray
    print(ray.get_runtime_context().gcs_address, cluster.dashboard, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    address, dashboard = process.stdout.readline().split()
    yield address, dashboard
    process.communicate("")


def test_a_run_joins_the_cluster_at_an_address(running: tuple[str, str], sweep: Sweep, tmp_path: Path) -> None:
    address, _ = running
    done = sweep(
        *("quickstart", *TINY, "--variants", "strided-cnn-a", "--learning-rates", "0.01", "--address", address),
        *("--name", "joined", "--output", f"file://{tmp_path}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{address} with" in done.stdout
    assert [row["state"] for row in Store(str(tmp_path / "joined")).read_trials().to_pylist()] == ["completed"]


def test_a_run_finds_the_cluster_by_the_environment(running: tuple[str, str], tmp_path: Path) -> None:
    address, _ = running
    arguments = ("quickstart", *TINY, "--workers-per-trial", "999", "--name", "more")
    too_many = subprocess.run(
        command(tmp_path, *arguments), capture_output=True, text=True, env=environment() | {"RAY_ADDRESS": address}
    )
    assert too_many.returncode == 2
    assert too_many.stderr.startswith("error: workers_per_trial must leave one trial within the")
    assert not (tmp_path / "more").exists()


def test_the_dashboard_is_on_loopback_and_asks_for_the_token(running: tuple[str, str]) -> None:
    _, dashboard = running
    assert dashboard.startswith("http://127.0.0.1:")

    def status(token: str | None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{dashboard}/api/jobs/", headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert (status(None), status("wrong"), status(TOKEN_FILE.read_text().strip())) == (401, 403, 200)
    assert TOKEN_FILE.stat().st_mode & 0o077 == 0


def test_a_wrong_token_is_refused(running: tuple[str, str], tmp_path: Path) -> None:
    address, _ = running
    done = subprocess.run(
        command(tmp_path, "quickstart", *TINY, "--address", address, "--name", "stranger"),
        capture_output=True,
        text=True,
        env=environment() | {"RAY_AUTH_TOKEN": "wrong"},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: Ray's token must be that of the cluster, in RAY_AUTH_TOKEN, "
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "stranger").exists()


# This process as one with another Ray; it asks the real cluster for its versions.
OTHER_RAY = """
import sys
import sweep
import ray
ray.__version__ = "2.1.0"
from sweep.run import main
sys.exit(main(sys.argv[1:]))
"""


def test_another_version_of_ray_is_refused(running: tuple[str, str], tmp_path: Path) -> None:
    address, _ = running
    arguments = command(tmp_path, "quickstart", *TINY, "--address", address, "--name", "old")[3:]
    done = subprocess.run(
        [sys.executable, "-c", OTHER_RAY, *arguments], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2, done.stdout + done.stderr
    python, ours = platform.python_version(), version("ray")
    assert done.stderr.splitlines()[-1] == (
        f"error: Ray and Python must be of the same versions here as on the cluster {address}, which has Ray {ours} "
        f"and Python {python}, got Ray 2.1.0 and Python {python}; run this on the cluster's head, or install those "
        "here."
    )
    assert not (tmp_path / "old").exists()


def test_an_address_where_nothing_answers_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("quickstart", *TINY, "--address", "127.0.0.1:1", "--name", "nowhere")
    assert done.returncode == 2
    assert "address must be that of a running Ray cluster, got '127.0.0.1:1'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "nowhere").exists()


# The table is printed while Ray shuts down, and a large one takes longer than that.
BESIDE = """
import subprocess, sys
from sweep.cluster.connect import connect
waiting = [sys.executable, "-c", "import sys; print('the table', sys.stdin.read())"]
with connect(None):
    table = subprocess.Popen(waiting, stdin=subprocess.PIPE, text=True)
table.communicate("after Ray")
sys.exit(table.returncode)
"""


def test_what_was_started_beside_ray_outlives_its_shutdown() -> None:
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (0, "the table after Ray\n"), done.stderr
