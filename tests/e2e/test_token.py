"""What a cluster with a token says to those who have none, a wrong one, or the right one: docs/security.md."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import environment

RAY = str(Path(sys.executable).with_name("ray"))
WRONG = "0" * 64

# The project's own way to start Ray, by a user who lets everybody read all files; it lives until its input closes.
START = """
import os, sys
os.umask(0)
from sweep.cluster.connect import connect
with connect(None) as cluster:
    import ray
    (node,) = ray.nodes()
    metrics = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    print(ray.get_runtime_context().gcs_address, cluster.dashboard, metrics, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Guarded:
    """A running cluster whose token is in a home of its own."""

    address: str
    dashboard: str
    metrics: str
    token_file: Path

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def ask(self, path: str, token: str | None, body: dict[str, str] | None = None) -> tuple[int, Any]:
        """Return the status and the answer of the dashboard's server."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.dashboard + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def nodes(self) -> list[str]:
        """Return the states of the nodes that ever joined."""
        status, answer = self.ask("/api/v0/nodes", self.token)
        assert status == 200, answer
        return [node["state"] for node in answer["data"]["result"]["result"]]


def variables(home: Path, **token: str) -> dict[str, str]:
    """Return an environment with another home, and no token but this one."""
    named = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return {name: value for name, value in environment().items() if name not in named} | {"HOME": str(home)} | token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables(home)
    )
    assert process.stdout is not None
    address, dashboard, metrics = process.stdout.readline().split()
    yield Guarded(address, dashboard, metrics, home / ".ray" / "auth_token")
    process.communicate("")


def test_the_token_is_long_and_its_owners_alone(guarded: Guarded) -> None:
    assert len(guarded.token) == 64
    assert guarded.token_file.stat().st_mode & 0o777 == 0o600
    assert guarded.token_file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "path", ["/api/jobs/", "/api/v0/nodes", "/api/v0/actors", "/api/cluster_status", "/api/v0/logs"]
)
def test_the_api_answers_to_the_token_alone(guarded: Guarded, path: str) -> None:
    if path != "/api/v0/logs":  # which needs to be told a node
        assert guarded.ask(path, guarded.token)[0] == 200
    assert guarded.ask(path, None)[0] == 401
    assert guarded.ask(path, WRONG)[0] == 403


def test_a_job_is_taken_with_the_token_alone(guarded: Guarded, tmp_path: Path) -> None:
    def submit(token: str | None, file: Path) -> tuple[int, Any]:
        return guarded.ask("/api/jobs/", token, {"entrypoint": f"touch {file}"})

    assert submit(None, tmp_path / "none")[0] == 401
    assert submit(WRONG, tmp_path / "wrong")[0] == 403
    status, answer = submit(guarded.token, tmp_path / "right")
    while status == 500 and "try again later" in answer:  # the part of Ray that starts jobs comes up last
        status, answer = submit(guarded.token, tmp_path / "right")
    assert status == 200, answer
    while guarded.ask(f"/api/jobs/{answer['submission_id']}", guarded.token)[1]["status"] in ("PENDING", "RUNNING"):
        time.sleep(0.2)
    assert [file.name for file in tmp_path.iterdir()] == ["right"]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Authentication required: Unauthorized: Missing authentication token"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG},
            "Authentication failed: Forbidden: Invalid authentication token",
        ),
    ],
    ids=["without", "wrong"],
)
def test_rays_own_command_cannot_submit_a_job(
    guarded: Guarded, tmp_path: Path, token: dict[str, str], said: str
) -> None:
    command = [RAY, "job", "submit", "--address", guarded.dashboard, "--", "touch", str(tmp_path / "ran")]
    done = subprocess.run(command, capture_output=True, text=True, env=variables(tmp_path, **token))
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not (tmp_path / "ran").exists()


def join(guarded: Guarded, home: Path, token: dict[str, str]) -> subprocess.Popen[str]:
    """Start a node that would join; it ends with its process."""
    return subprocess.Popen(
        [RAY, "start", "--address", guarded.address, "--block", "--num-cpus", "0", "--disable-usage-stats"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables(home, **token),
    )


@pytest.mark.parametrize(
    "token",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG}],
    ids=["without", "wrong"],
)
def test_a_node_cannot_join_without_the_token(guarded: Guarded, tmp_path: Path, token: dict[str, str]) -> None:
    before = guarded.nodes()
    said, _ = (process := join(guarded, tmp_path, token)).communicate()
    assert process.returncode != 0
    assert "InvalidAuthToken: Authentication token is missing or incorrect" in said
    assert guarded.nodes() == before


def test_a_node_joins_with_the_token(guarded: Guarded, tmp_path: Path) -> None:
    alive = guarded.nodes().count("ALIVE")
    process = join(guarded, tmp_path, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": guarded.token})
    try:
        while guarded.nodes().count("ALIVE") == alive:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.5)
    finally:
        process.terminate()
        process.communicate()
    assert guarded.nodes().count("ALIVE") == alive


def test_metrics_are_open_to_all_who_reach_their_port(guarded: Guarded) -> None:
    # Not as one would wish: docs/security.md says that a firewall must keep the port. Mend it there when this fails.
    with urllib.request.urlopen(guarded.metrics) as answer:
        assert answer.status == 200
        assert b"ray_" in answer.read()
