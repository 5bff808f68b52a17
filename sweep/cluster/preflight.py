"""Does every node of a cluster reach the run's folder and the data, with the versions that the driver has?

Asked of the nodes that are up before the first trial. A node that joins later finds out by its first trial, see
`sweep.execution.trial`.
"""

import os
import platform
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import final

import pyarrow as pa
import pyarrow.fs as pafs
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.common.files import explain_os_error, filesystem_of, write_whole

TIMEOUT_S = 180.0
"""How long all nodes together may take to answer: the first task on a node waits for the code to arrive."""

COMPARED = ("torch", "torchvision", "ray")
"""Packages whose versions decide what a trial computes, or whether it can run."""


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one node says."""

    node: str
    """The node's address."""
    versions: dict[str, str | None]
    """Versions of Python and of `COMPARED`, None of what is not installed."""
    storage: str
    """Why the run's folder cannot be used there, in words; empty where it can."""
    data: str
    """Why the data cannot be read there, in words; empty where they can, or where there is no location."""


def check_nodes(location: str, data: str | None) -> None:
    """Have each node that is up read a file that this process writes, write one beside it, and say what it has.

    Nothing of the two files is left.

    Args:
        location: the run's folder or URI.
        data: the data's folder or URI; None where trials make or download them.

    Raises:
        ValueError: a node cannot do what a trial does there, or has other versions than this process.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    if set(nodes) == {here}:
        return
    text = secrets.token_hex(16)
    filesystem, root = filesystem_of(location)
    marker = f"{root}/.marker-{text[:8]}"
    try:
        write_whole(filesystem, marker, text.encode())
    except OSError as error:
        raise ValueError(
            f"output must be where this user can write, got {location!r} ({explain_os_error(error)})."
        ) from error
    try:
        answers = _ask(nodes, location, marker, text, data)
    finally:
        with suppress(OSError):
            filesystem.delete_file(marker)
    judge(answers, _versions(), location, data)


def judge(answers: Iterable[Answer], ours: dict[str, str | None], location: str, data: str | None) -> None:
    """Refuse what a node said.

    Raises:
        ValueError: see `check_nodes`.
    """
    for answer in answers:
        for name, theirs in answer.versions.items():
            if _public(theirs) != _public(ours[name]):
                raise ValueError(
                    f"{name} must be of one version on all nodes, {ours[name]} as here, got {theirs or 'none'} on the "
                    f"node {answer.node}; install the same there."
                )
    for answer in answers:
        if answer.storage:
            raise ValueError(
                f"output must be a folder that all nodes share or a URI that all can reach, got {location!r}, which "
                f"the node {answer.node} {answer.storage}; name an NFS folder or a URI such as s3://BUCKET/runs with "
                "--output."
            )
    for answer in answers:
        if answer.data:
            raise ValueError(
                f"The data must be on every node or at a URI, got {data!r}, which the node {answer.node} "
                f"{answer.data}; copy them there or name a shared folder or a URI with --data."
            )


def look(node: str, location: str, marker: str, text: str, data: str | None) -> Answer:
    """Return what the node that this runs on says, under its address `node`."""
    storage = _why_no_storage(location, marker, text)
    return Answer(node=node, versions=_versions(), storage=storage, data=_why_no_data(data))


def _ask(nodes: dict[str, str], location: str, marker: str, text: str, data: str | None) -> list[Answer]:
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
            address, location, marker, text, data
        ): address
        for node_id, address in nodes.items()
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=TIMEOUT_S)
    if late:
        raise ValueError(
            f"Each node must answer within {TIMEOUT_S:.0f} s, got nothing from the node {asked[late[0]]}; look at its "
            "state with ray status."
        )
    answers = []
    for reference in ready:
        try:
            answers.append(ray.get(reference))
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # gone in the meantime: no trial will run there
        except ray.exceptions.RayError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise ValueError(
                f"Each node must be able to run this code, got an error from the node {asked[reference]} ({reason}); "
                "install the project's requirements there."
            ) from error
    return answers


def _versions() -> dict[str, str | None]:
    return {"Python": platform.python_version()} | {package: installed_version(package) for package in COMPARED}


def installed_version(package: str) -> str | None:
    """Return a distribution's version, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _public(found: str | None) -> str | None:
    # torch 2.9.0+cpu on a head without a GPU and 2.9.0+cu129 on a worker are one version.
    return found and found.partition("+")[0]


def _why_no_storage(location: str, marker: str, text: str) -> str:
    try:
        filesystem, _ = filesystem_of(location)
        with filesystem.open_input_stream(marker) as stream:
            if stream.read() != text.encode():
                return "reads differently"
    except FileNotFoundError:
        return "does not share: what is written here is not there"
    except (pa.ArrowException, OSError) as error:
        return f"cannot read ({explain_os_error(error)})"
    own = f"{marker}-{ray.get_runtime_context().get_node_id()[:12]}-{os.getpid()}"
    try:
        write_whole(filesystem, own, b"")
        filesystem.delete_file(own)
    except (pa.ArrowException, OSError) as error:
        return f"cannot write to ({explain_os_error(error)})"
    return ""


def _why_no_data(data: str | None) -> str:
    if data is None:
        return ""
    try:
        filesystem, path = filesystem_of(data)
        kind = filesystem.get_file_info(path).type
    except (pa.ArrowException, OSError) as error:
        return f"cannot read ({explain_os_error(error)})"
    return "" if kind == pafs.FileType.Directory else "does not have"
