"""Clusters of several nodes on this machine, beside whatever Ray runs here."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.conftest import environment

# A process of its own: the cluster's processes are its children, and its state is not this process's.
_SERVE = """
import json, os, socket, sys
import sweep  # the token's mode
from sweep.cluster.connect import ensure_token
from ray.cluster_utils import Cluster

ensure_token()
cluster = Cluster()
nodes = []
try:
    for line in sys.stdin:
        command, argument = json.loads(line)
        if command == "add":
            # A port of its own: beside another Ray, the process that takes jobs would find its usual one taken.
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = dict(dashboard_agent_listen_port=free.getsockname()[1])
            head = dict(include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=None) if not nodes else {}
            head |= port
            nodes.append(cluster.add_node(**argument, **head))
            said = [cluster.address, f"http://{cluster.webui_url}"]
        elif command == "count":
            said = sum(node["Alive"] for node in cluster.global_state.node_table())
        elif command == "id":
            said = nodes[argument].node_id
        elif command == "lose":
            # As a machine ends: its processes are killed and say goodbye to nobody.
            cluster.remove_node(nodes[argument], allow_graceful=False)
            said = None
        print("answer", json.dumps(said), flush=True)
finally:
    cluster.shutdown()
"""


class Nodes:
    """A cluster and what can happen to it."""

    def __init__(self, process: subprocess.Popen[str], variables: Mapping[str, str]) -> None:
        self._process = process
        self._apart: list[subprocess.Popen[bytes]] = []
        self.address = ""
        """Of the head, HOST:PORT."""
        self.dashboard = ""
        """Where its dashboard answers, http://HOST:PORT."""
        self.variables = variables
        """By which Ray's `auto` finds this cluster and no other one."""

    def add(self, **node: Any) -> None:
        """Add a node of `num_cpus`, `num_gpus` and the like; the first one is the head."""
        self.address, self.dashboard = self._do("add", node)

    def add_apart(self, hidden: Path, *, num_cpus: int) -> None:
        """Add a node that sees an empty folder in the place of `hidden`, as another machine would.

        It has a view of the file systems of its own, which Linux gives to the administrator.
        """
        before = self._do("count", None)
        mount = 'mount -t tmpfs tmpfs "$0"'
        ray = Path(sys.executable).with_name("ray")
        options = f"--address={self.address} --num-cpus={num_cpus} --min-worker-port=0 --max-worker-port=0 --block"
        self._apart.append(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", f"{mount} && cd / && exec {ray} start {options}", str(hidden)],
                stdout=subprocess.DEVNULL,
                env=environment() | dict(self.variables) | {"RAY_AUTH_MODE": "token", "PYTHONPATH": ""},
            )
        )
        while self._do("count", None) == before:
            assert self._apart[-1].poll() is None, "the node has not come up"
            time.sleep(0.2)

    def end(self) -> None:
        """End all nodes."""
        for process in self._apart:
            process.terminate()
            process.wait()
        self._process.communicate()

    def node_id(self, number: int) -> str:
        """Return Ray's name of a node, counted as in `lose`."""
        return str(self._do("id", number))

    def lose(self, number: int) -> None:
        """Kill a node, counted from 0 in the order of adding."""
        self._do("lose", number)

    def _do(self, command: str, argument: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, argument]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise AssertionError("the cluster's process has ended")


@contextmanager
def nodes(*each: Mapping[str, Any]) -> Iterator[Nodes]:
    """Run a cluster of these nodes, the first one its head, until the context ends."""
    # A folder of its own, with a short name for the sockets in it: in Ray's, clusters overwrite each other's address.
    folder = tempfile.mkdtemp(prefix="ray-")
    variables = {"RAY_TMPDIR": folder}
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | variables,
    )
    cluster = Nodes(process, variables)
    try:
        for node in each:
            cluster.add(**node)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)
