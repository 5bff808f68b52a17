"""Connect to a Ray cluster, or start Ray on this machine: dashboard on loopback, token authentication on."""

import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

import ray
import torch
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._private.utils import get_num_cpus
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # a compiled module, typed in part
from ray.util.state import list_actors

from sweep.cluster.autoscaling import BOOTSTRAP, largest
from sweep.cluster.runtime_env import shipped_code

TOKEN_FILE = Path.home() / ".ray" / "auth_token"
"""Where Ray looks for its token when no variable names another place."""

LOCAL_PORT = 8265
"""Where the near end of a tunnel to the dashboard listens: Ray's own port for it."""

CONNECT_TIMEOUT_S = 10.0
"""How long the head of a cluster to join may take to accept a connection."""

THIS_MACHINE = "this machine"
"""The address of what is started here."""


@final
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a run may use."""

    nodes: tuple[tuple[int, int], ...]
    """CPUs and GPUs of each node that is up."""
    address: str
    """Of the cluster's head, or `this machine`."""
    dashboard: str = ""
    """Where the Ray dashboard answers; empty where it is not known."""
    grown: tuple[tuple[int, int], ...] = ()
    """CPUs and GPUs of each node of the cluster at its largest, where it scales by itself; else empty."""

    @property
    def is_this_machine(self) -> bool:
        """Whether Ray is started here instead of joined."""
        return self.address == THIS_MACHINE

    @property
    def most(self) -> tuple[tuple[int, int], ...]:
        """CPUs and GPUs of each node that there is or can be."""
        return self.grown or self.nodes

    @property
    def cpus(self) -> int:
        """CPUs of all nodes that there are or can be."""
        return sum(cpus for cpus, _ in self.most)

    @property
    def gpus(self) -> int:
        """GPUs of all nodes that there are or can be."""
        return sum(gpus for _, gpus in self.most)


@final
@dataclass(frozen=True, kw_only=True)
class ClusterChoice:
    """Which cluster a run joins, and why that one."""

    address: str
    """HOST:PORT of its head, or auto."""
    by: str
    """What named it, in words."""


def find_cluster(address: str | None) -> ClusterChoice | None:
    """Return the cluster to join, or None where Ray is started here.

    The option comes first, then the variable `RAY_ADDRESS`, as Ray has it; in both `local` is this machine by itself.
    Without either the cluster is joined whose head `ray up` has made of this machine: the file that it leaves there
    says so. A Ray that merely happens to run here, another user's or a test's, is never joined unasked.
    """
    for named, by in ((address, "--address"), (os.environ.get("RAY_ADDRESS"), "RAY_ADDRESS")):
        if named:
            return None if named == "local" else ClusterChoice(address=named, by=by)
    if BOOTSTRAP.exists():
        return ClusterChoice(address="auto", by=f"{BOOTSTRAP}, which ray up leaves on a cluster's head")
    return None


def this_machine() -> Cluster:
    """Return what Ray would find here, without starting it."""
    cpus = int(get_num_cpus(override_docker_cpu_warning=True))  # within a container's limit
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        cpus = min(cpus, len(os.sched_getaffinity(0)))
    return Cluster(nodes=((max(1, cpus), torch.cuda.device_count()),), address=THIS_MACHINE)


def tunnel_command(dashboard: str) -> str:
    """Return what to type on one's own machine, after which http://127.0.0.1:8265 is the dashboard.

    HEAD stays to be filled in: the address by which the nodes know their head is seldom one that others can reach.

    Args:
        dashboard: its address as the head knows it, `http://HOST:PORT`.

    Raises:
        ValueError: the dashboard's address has no host or no port.
    """
    parts = urlsplit(dashboard)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"The dashboard's address must be http://HOST:PORT, got {dashboard!r}.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    elsewhere = "" if parts.port == LOCAL_PORT else f" --remote-port {parts.port}"
    return f"ray dashboard cluster.yaml{elsewhere}, or: ssh -L {LOCAL_PORT}:{host}:{parts.port} HEAD"


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start Ray here, until the context ends.

    Raises:
        ValueError: no cluster answers at the address, it takes no token of ours, or its dashboard does not answer.
    """
    before = os.environ.get("RAY_ADDRESS")
    with _signals_kept():
        context = _start_here() if address is None else _join(address)
    try:
        # Ray's State API, which frees the places of stopped trials, must find this cluster among others.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        _check_state_api()
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Cluster(
            nodes=tuple((int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive),
            address=THIS_MACHINE if address is None else os.environ["RAY_ADDRESS"],
            dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
            grown=() if address is None else largest(alive),
        )
    finally:
        ray.shutdown()
        if before is None:
            os.environ.pop("RAY_ADDRESS", None)
        else:
            os.environ["RAY_ADDRESS"] = before


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep Ray from taking SIGTERM for itself where this program has a handler."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        # Ray's own handler, for as long as it starts.
        if error.code == signal.SIGTERM and callable(before):
            before(signal.SIGTERM, None)
        raise
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)


def end_own_cluster() -> None:
    """Kill what is left of the Ray that was started here, if it was: for a process that cannot await its shutdown."""
    node = ray._private.worker._global_node
    if node is not None and node.head:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def ensure_token() -> None:
    """Make a token for the clusters that this user starts, where there is none: readable by its owner only.

    Ray would make one itself, but with whatever permissions the umask leaves.
    """
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if os.environ["RAY_AUTH_MODE"] != "token" or named or TOKEN_FILE.exists():
        return
    TOKEN_FILE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = TOKEN_FILE.with_name(f".auth_token.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    with suppress(FileExistsError):  # another run was faster: its token stays
        os.link(temporary, TOKEN_FILE)
    temporary.unlink()


def _start_here() -> Any:
    ((cpus, gpus),) = this_machine().nodes
    try:
        ensure_token()
        return ray.init(
            # Not a cluster that happens to run on this machine: that one is joined by --address auto.
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except ray.exceptions.AuthenticationError as error:
        raise _no_token(error) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"Ray must be able to start on this machine, got {_first_line(error)}.") from error


def _join(address: str) -> Any:
    match = re.fullmatch(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})|auto", address)
    if not match:
        raise ValueError(
            f"address must be HOST:PORT of a Ray cluster's head, auto or local, got {address!r}; from another machine "
            "submit the run with ray job submit."
        )
    try:
        # What auto finds: the cluster that was started last on this machine.
        gcs_address = address if match["host"] else canonicalize_bootstrap_address_or_die(address)
        host, _, port = gcs_address.rpartition(":")
        # Ray itself tries for minutes where nothing answers, and for many seconds where its token is refused.
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
        GcsClient(address=gcs_address)
        return ray.init(
            address=gcs_address, runtime_env=shipped_code(), logging_level=logging.ERROR, log_to_driver=False
        )
    except ray.exceptions.AuthenticationError as error:
        raise _no_token(error) from error
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RpcError) as error:
        if str(error).startswith("Version mismatch"):
            raise _other_version(address, str(error)) from error
        raise ValueError(
            f"address must be that of a running Ray cluster, got {address!r} ({_first_line(error)})."
        ) from error


def _other_version(address: str, said: str) -> ValueError:
    # Ray says it in two paragraphs, the cluster's versions first.
    theirs, ours = (
        f"Ray {ray_version} and Python {python}"
        for ray_version, python in re.findall(r"Ray: (\S+)\s+Python: (\S+)", said)[:2]
    )
    return ValueError(
        f"Ray and Python must be of the same versions here as on the cluster {address}, which has {theirs}, got {ours}"
        "; run this on the cluster's head, or install those here."
    )


def _no_token(error: Exception) -> ValueError:
    return ValueError(
        f"Ray's token must be that of the cluster, in RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH or {TOKEN_FILE}, "
        f"got none that it takes ({_first_line(error)})."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_state_api() -> None:
    try:
        list_actors(limit=1)
    except Exception as error:
        raise ValueError(
            "The cluster's dashboard must be running, since Ray frees the places of stopped trials through it, "
            f"got no answer from its State API ({type(error).__name__}); start the head with --include-dashboard=true."
        ) from error
