"""How large a cluster can become that scales by itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
import yaml

BOOTSTRAP = Path.home() / "ray_bootstrap_config.yaml"
"""The cluster's own description, which `ray up` puts on its head."""


def largest(alive: Iterable[Mapping[str, float]]) -> tuple[tuple[int, int], ...]:
    """Return CPUs and GPUs of each node of the connected cluster at its largest; nothing where it does not grow.

    What can grow is told by Ray where the autoscaler has reported it, else by the description that `ray up` leaves on
    the head; so a run on the head, or a job submitted to it, knows.

    Args:
        alive: resources of the nodes that are up, the head's with `node:__internal_head__` among them.
    """
    nodes = list(alive)
    config = ray._private.state.state.get_cluster_config()
    if config is not None and config.node_group_configs:
        groups = [(dict(group.resources), group.max_count) for group in config.node_group_configs]
        # A group without bound is a count below 0.
        counted = [(resources, count if count >= 0 else UNBOUNDED) for resources, count in groups]
        return at_most(nodes, counted, UNBOUNDED)
    return described(nodes)


def described(alive: Iterable[Mapping[str, float]]) -> tuple[tuple[int, int], ...]:
    """Return what `largest` does, by the description on the head alone."""
    try:
        description = yaml.safe_load(BOOTSTRAP.read_text())
        head, types, most = (description[key] for key in ("head_node_type", "available_node_types", "max_workers"))
        workers = [
            (kind.get("resources") or {}, int(kind.get("max_workers", most)))
            for name, kind in types.items()
            if name != head
        ]
        return at_most(alive, workers, int(most))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        # No such file, or one of another shape: the nodes that are up are all that is known.
        return ()


UNBOUNDED = 10_000
"""Nodes of a group that has no bound: more than a sweep has trials at once."""


def at_most(
    alive: Iterable[Mapping[str, float]], types: Iterable[tuple[Mapping[str, float], int]], workers: int
) -> tuple[tuple[int, int], ...]:
    """Return CPUs and GPUs of the head and of the workers that can be, those with the most GPUs first.

    Empty where no type of worker says what it has, or all the workers that can be are up.

    Args:
        alive: resources of the nodes that are up.
        types: resources of each type of worker, and how many of it there may be.
        workers: how many there may be of all types together.
    """
    up = list(alive)
    heads = [_size(node) for node in up if "node:__internal_head__" in node]
    possible = sorted(
        (_size(resources) for resources, count in types for _ in range(count)), key=lambda size: (-size[1], -size[0])
    )
    possible = [size for size in possible[: max(0, workers)] if any(size)]
    if len(possible) <= len(up) - len(heads):
        return ()
    return (*heads, *possible)


def _size(resources: Mapping[str, Any]) -> tuple[int, int]:
    return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
