"""What a cluster with a token says to those who have none, a wrong one, or the right one: docs/security.md."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray._private.services import get_node_ip_address

from tests.cluster_files import ROOT
from tests.e2e.conftest import environment

RAY = str(Path(sys.executable).with_name("ray"))
WRONG = "0" * 64

# The project's own way to make a token, by a user who lets everybody read all files.
ENSURE = "import os; os.umask(0); from sweep.cluster.connect import ensure_token; ensure_token()"


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

    def is_up(self) -> bool:
        """Return whether the dashboard's server answers and knows the head."""
        try:
            return self.nodes() == ["ALIVE"]
        except OSError:
            return False

    def nodes(self) -> list[str]:
        """Return the states of the nodes that ever joined."""
        status, answer = self.ask("/api/v0/nodes", self.token)
        assert status == 200, answer
        return [node["state"] for node in answer["data"]["result"]["result"]]


def variables(home: Path, **token: str) -> dict[str, str]:
    """Return an environment with another home, and no token but this one."""
    named = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return {name: value for name, value in environment().items() if name not in named} | {"HOME": str(home)} | token


def free_ports(count: int) -> list[int]:
    """Return ports that no one listens on: another Ray of this machine may hold the usual ones."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start a head as the cluster files do."""
    home = tmp_path_factory.mktemp("home")
    subprocess.run([sys.executable, "-c", ENSURE], env=variables(home), check=True)
    port, dashboard, metrics, agent = free_ports(4)
    command = [RAY, "start", "--head", "--block", "--dashboard-host=127.0.0.1", "--num-cpus=1", "--disable-usage-stats"]
    ports = [f"--port={port}", f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}"]
    process = subprocess.Popen(
        [*command, *ports, f"--dashboard-agent-listen-port={agent}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables(home, RAY_AUTH_MODE="token"),
    )
    here = get_node_ip_address()
    cluster = Guarded(
        f"{here}:{port}",
        f"http://127.0.0.1:{dashboard}",
        f"http://{here}:{metrics}/metrics",
        home / ".ray" / "auth_token",
    )
    try:
        while not cluster.is_up():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
        yield cluster
    finally:
        process.terminate()
        process.communicate()


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


@pytest.mark.parametrize(
    "token",
    [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG}],
    ids=["without", "wrong"],
)
def test_a_run_cannot_join_without_the_token(guarded: Guarded, tmp_path: Path, token: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sweep.run", "quickstart", "--address", guarded.address, "--output", "runs"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=variables(tmp_path, **token) | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")  # Ray prints lines of its own before
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
