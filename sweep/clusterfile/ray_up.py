"""What must hold in a file of Ray's cluster launcher, `ray up`, whatever the cloud."""

import contextlib
import copy
import io
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from sweep.clusterfile.clouds import aws_faults, gcp_faults, is_spot, local_faults
from sweep.clusterfile.schemas import ray_cluster, schema_faults
from sweep.clusterfile.versions import pin_faults
from sweep.clusterfile.yaml_file import shown, within
from trainables.common.validation import one_line

LOOPBACK = ("127.0.0.1", "localhost", "::1")

TOKEN = ".ray/auth_token"  # noqa: S105 - where a token lies

_CLOUDS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {"aws": aws_faults, "gcp": gcp_faults}

_PROVIDERS = (*_CLOUDS, "local", "external")


def launcher_faults(description: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is wrong, and that needs no cloud to be seen."""
    kind = within(description, "provider", "type")
    if kind not in _PROVIDERS:
        return [f"provider.type must be one of {', '.join(_PROVIDERS)}, got {shown(kind)}."]
    faults = schema_faults(ray_cluster(), description) or [*(local_faults(description) if kind == "local" else ())]
    if faults:
        return faults
    prepared = _prepare(description)
    if isinstance(prepared, str):
        return [prepared]
    return [
        *pin_faults(prepared),
        *_token_faults(prepared),
        *_dashboard_faults(prepared),
        *(_node_type_faults(prepared) if kind != "local" else []),
        *(_CLOUDS[kind](prepared) if kind in _CLOUDS else []),
    ]


def _prepare(description: dict[str, Any]) -> dict[str, Any] | str:
    """Return the description with Ray's defaults filled in, as `ray up` would; a sentence where it would not."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            prepared: dict[str, Any] = prepare_config(copy.deepcopy(description))
            validate_config(prepared)
    except Exception as error:  # Ray raises of every kind here, assertions among them
        reason = one_line(error)
        return f"The file must be one that `ray up` takes, got from Ray: {reason[:300]}"
    return prepared


def _start_commands(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and text of each command that starts Ray."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for number, command in enumerate(config[key]):
            if re.search(r"\bray start\b", command):
                yield f"{key}[{number}]", command


def _container_options(config: dict[str, Any]) -> str:
    return " ".join(map(str, within(config, "docker", "run_options") or ()))


def _token_faults(config: dict[str, Any]) -> Iterator[str]:
    starts = list(_start_commands(config))
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not any(path.startswith(key) for path, _ in starts):
            yield f"{key} must start Ray by `ray start`, got {shown(config[key])}."
    for path, command in starts:
        before = command.partition("ray start")[0] + " " + _container_options(config)
        if not re.search(r"\bRAY_AUTH_MODE=[\"']?token\b", before):
            yield (
                f"{path} must have RAY_AUTH_MODE=token before `ray start`, got {shown(command)}; without it the node "
                "takes orders from whoever reaches it."
            )
    mounted = [target for target in config["file_mounts"] if str(target).endswith(TOKEN)]
    if not mounted:
        yield (
            f"file_mounts must bring the token to every node, got no ~/{TOKEN} in it; add "
            f"~/{TOKEN}: ~/{TOKEN} and make the file by `ray get-auth-token --generate`."
        )
    commands = config["head_setup_commands"], config["worker_setup_commands"]
    if not all(any(re.search(rf"\bchmod 0?[46]00 \S*{re.escape(TOKEN)}", line) for line in some) for some in commands):
        yield (
            f"setup_commands must have `chmod 600 ~/{TOKEN}`, got no such line; the copy of the token would be "
            "readable by every user of a node."
        )


def _dashboard_faults(config: dict[str, Any]) -> Iterator[str]:
    for path, command in _start_commands(config):
        for host in re.findall(r"--dashboard-host[= ]\s*[\"']?([^\s\"';]+)", command):
            if host not in LOOPBACK:
                yield (
                    f"{path} must keep the dashboard on the head itself, --dashboard-host=127.0.0.1, got {host}; "
                    "`ray dashboard FILE` brings it to your own machine through SSH."
                )


def _node_type_faults(config: dict[str, Any]) -> Iterator[str]:
    head = config["head_node_type"]
    for name, node_type in config["available_node_types"].items():
        path = f"available_node_types.{name}"
        low, high = node_type["min_workers"], node_type["max_workers"]
        if low < 0 or low > high:
            yield f"{path}.min_workers must be at least 0 and at most max_workers, {high}, got {low}."
        elif high > config["max_workers"]:
            yield f"{path}.max_workers must be at most that of the cluster, {config['max_workers']}, got {high}."
    path = f"available_node_types.{head}"
    described = config["available_node_types"][head]
    if described["resources"].get("GPU") != 0:
        yield (
            f"{path}.resources must say GPU: 0, since the head holds the run's state and trains nothing, got "
            f"{shown(described['resources'])}."
        )
    if described["max_workers"] != 0:
        yield f"{path}.max_workers must be 0, since it is the head's own type, got {described['max_workers']}."
    if is_spot(described["node_config"]):
        yield f"{path}.node_config must not be spot, got it as such; with the head the whole cluster is lost."
    yield from _fallback_faults(config)


def _fallback_faults(config: dict[str, Any]) -> Iterator[str]:
    """A spot type needs another with as much of everything, which can be had when there is no spot capacity."""
    workers = {name: one for name, one in config["available_node_types"].items() if name != config["head_node_type"]}
    lasting = [one for one in workers.values() if not is_spot(one["node_config"]) and one["max_workers"]]
    for name, one in workers.items():
        wanted = one["resources"].items()
        if is_spot(one["node_config"]) and not any(
            all(other["resources"].get(key, 0) >= amount for key, amount in wanted) for other in lasting
        ):
            yield (
                f"available_node_types.{name} must have beside it an on-demand type with as much, "
                f"{shown(one['resources'])}, for hours without spot capacity, got none; add one."
            )
