"""Connect to a Ray cluster, or start Ray on this machine: dashboard on loopback, token authentication on."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import ray
import torch
from ray.util.state import list_actors

TOKEN_FILE = Path.home() / ".ray" / "auth_token"
"""Where Ray looks for its token when no variable names another place."""

CONNECT_TIMEOUT_S = 10.0
"""How long the head of a cluster to join may take to accept a connection."""


@final
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a run may use."""

    cpus: int
    gpus: int
    address: str
    """Of the cluster's head, or `this machine`."""
    dashboard: str = ""
    """Where the Ray dashboard answers; empty where it is not known."""


def address_of(address: str | None) -> str | None:
    """Return the address of the cluster to join: the one given, else `RAY_ADDRESS`, else None."""
    return address or os.environ.get("RAY_ADDRESS") or None


def this_machine() -> Cluster:
    """Return what Ray would find here, without starting it."""
    return Cluster(cpus=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count(), address="this machine")


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start Ray here, until the context ends.

    Raises:
        ValueError: no cluster answers at the address, or its dashboard does not.
    """
    before = os.environ.get("RAY_ADDRESS")
    ensure_token()
    if address is None:
        _start_here()
    else:
        _join(address)
    try:
        context = ray.get_runtime_context()
        # Ray's State API, which frees the places of stopped trials, must find this cluster among others.
        os.environ["RAY_ADDRESS"] = context.gcs_address
        _check_state_api()
        resources = ray.cluster_resources()
        url = ray._private.worker.get_dashboard_url()
        yield Cluster(
            cpus=int(resources.get("CPU", 0)),
            gpus=int(resources.get("GPU", 0)),
            address=address or "this machine",
            dashboard=f"http://{url}" if url else "",
        )
    finally:
        ray.shutdown()
        if before is None:
            os.environ.pop("RAY_ADDRESS", None)
        else:
            os.environ["RAY_ADDRESS"] = before


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
    temporary.replace(TOKEN_FILE)


def _start_here() -> None:
    here = this_machine()
    ray.init(
        num_cpus=here.cpus,
        num_gpus=here.gpus,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        logging_level=logging.ERROR,
        log_to_driver=False,
    )


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and "/" not in host and port.isdecimal():
            # Ray itself tries for minutes where nothing answers.
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"address must be that of a running Ray cluster, got {address!r} ({reason}).") from error


def _check_state_api() -> None:
    try:
        list_actors(limit=1)
    except Exception as error:
        raise ValueError(
            "The cluster's dashboard must be running, since Ray frees the places of stopped trials through it, "
            f"got no answer from its State API ({type(error).__name__}); start the head with --include-dashboard=true."
        ) from error
