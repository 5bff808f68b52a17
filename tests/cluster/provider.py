"""A provider of nodes for Ray, of the type `external`, whose cloud is cloud.py.

Ray loads it wherever its autoscaler runs: in the laptop for `ray up`, then on the head.
"""

import json
import socket
from typing import Any

from ray.autoscaler.node_provider import NodeProvider

SOCKET = "/run/cloud/socket"
"""A machine does not see the host, but a socket that is a file goes through a shared folder."""

Tags = dict[str, str]


def ask(question: str, **values: Any) -> Any:
    """Ask the cloud, and return its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(SOCKET)
        connection.sendall(json.dumps({"question": question} | values).encode() + b"\n")
        with connection.makefile() as answers:
            answer = json.loads(answers.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["answer"]


class NamespaceProvider(NodeProvider):
    """What Ray asks of a cloud."""

    def _nodes(self) -> dict[str, dict[str, Any]]:
        mine = ("ray-cluster-name", self.cluster_name)
        return {name: node for name, node in ask("list").items() if mine in node["tags"].items()}

    def non_terminated_nodes(self, tag_filters: Tags) -> list[str]:
        return [name for name, node in self._nodes().items() if tag_filters.items() <= node["tags"].items()]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._nodes()

    def is_terminated(self, node_id: str) -> bool:
        return node_id not in self._nodes()

    def node_tags(self, node_id: str) -> Tags:
        return dict(self._nodes()[node_id]["tags"])

    def external_ip(self, node_id: str) -> str:
        return str(self._nodes()[node_id]["address"])

    def internal_ip(self, node_id: str) -> str:
        return self.external_ip(node_id)

    def set_node_tags(self, node_id: str, tags: Tags) -> None:
        ask("tag", name=node_id, tags=tags)

    def create_node(self, node_config: dict[str, Any], tags: Tags, count: int) -> dict[str, Any]:
        mine = tags | {"ray-cluster-name": self.cluster_name}
        return dict(ask("create", pool=node_config["pool"], tags=mine, count=count))

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: Tags, count: int, resources: object, labels: object
    ) -> dict[str, Any]:
        return self.create_node(node_config, tags, count)

    def terminate_node(self, node_id: str) -> None:
        ask("terminate", names=[node_id])

    def terminate_nodes(self, node_ids: list[str]) -> None:
        ask("terminate", names=list(node_ids))

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config

    @staticmethod
    def fillout_available_node_types_resources(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config
