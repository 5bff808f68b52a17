"""What must hold for the machines of one cloud, which Ray's own schema does not look at."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from sweep.clusterfile.schemas import machine, schema_faults
from sweep.clusterfile.yaml_file import is_unfilled, shown, within

_ANYWHERE = ("0.0.0.0/0", "::/0")


def is_spot(node_config: dict[str, Any]) -> bool:
    """Return whether the cloud may take such a machine away."""
    if within(node_config, "InstanceMarketOptions", "MarketType") == "spot":
        return True
    scheduling = node_config.get("scheduling") or {}
    parts = scheduling if isinstance(scheduling, list) else [scheduling]
    return any(within(part, "preemptible") is True or within(part, "provisioningModel") == "SPOT" for part in parts)


def aws_faults(config: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the machines of a cluster on AWS."""
    yield from _open_ports(config)
    for name, node_type in config["available_node_types"].items():
        path, node = f"available_node_types.{name}.node_config", node_type["node_config"]
        yield from schema_faults(machine("aws"), node, path)
        if node.get("InstanceType") is None:
            yield f"{path}.InstanceType must be an instance type such as g6.xlarge, got nothing."
        what = "one AMI by its id, which never changes, such as ami-0123456789abcdef0"
        yield from _matches(path, node, "ImageId", r"ami-[0-9a-f]{8,17}", what)
        if not node.get("SecurityGroupIds") and not node.get("NetworkInterfaces"):
            yield (
                f"{path}.SecurityGroupIds must name a group of your own, got nothing; the one that Ray would make "
                "lets the whole internet in on port 22."
            )
        profile = node.get("IamInstanceProfile")
        if not (within(profile, "Name") or within(profile, "Arn")):
            yield (
                f"{path}.IamInstanceProfile must name an instance profile, got {shown(profile)}; without one the node "
                "cannot reach the bucket."
            )
        tokens = within(node, "MetadataOptions", "HttpTokens")
        if tokens != "required":
            yield (
                f"{path}.MetadataOptions.HttpTokens must be required (IMDSv2), got {shown(tokens)}; else a forged "
                "request can read the node's credentials."
            )
        yield from _open_disks(path, node)


def gcp_faults(config: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the machines of a cluster on Google Cloud."""
    project = within(config, "provider", "project_id")
    if not isinstance(project, str) or not project:
        yield f"provider.project_id must be your project's id, got {shown(project)}."
    for name, node_type in config["available_node_types"].items():
        path, node = f"available_node_types.{name}.node_config", node_type["node_config"]
        yield from schema_faults(machine("gcp"), node, path)
        yield from _matches(
            path, node, "machineType", r"[a-z0-9]+(-[a-z0-9]+)+", "a machine type such as g2-standard-4"
        )
        disks = node.get("disks") if isinstance(node.get("disks"), list) else []
        images = [within(disk, "initializeParams", "sourceImage") for disk in disks or ()]
        if not images:
            yield f"{path}.disks must hold the boot disk, got {shown(node.get('disks'))}."
        for number, image in enumerate(images):
            if not is_unfilled(image) and (
                not isinstance(image, str) or "/family/" in image or "/images/" not in image
            ):
                yield (
                    f"{path}.disks[{number}].initializeParams.sourceImage must name one image, "
                    f"projects/PROJECT/global/images/NAME, got {shown(image)}; a family's image changes."
                )
        networks = node.get("networkInterfaces")
        if not isinstance(networks, list) or not all(within(one, "subnetwork") for one in networks) or not networks:
            yield (
                f"{path}.networkInterfaces must name a subnetwork of your own, got {shown(networks)}; the default "
                "network lets the whole internet in on port 22."
            )
        if name != config["head_node_type"] and not node.get("serviceAccounts"):
            yield (
                f"{path}.serviceAccounts must name a service account, got nothing; without one the node cannot reach "
                "the bucket."
            )


def local_faults(description: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the list of a user's own machines."""
    provider = description["provider"]
    head, workers = provider.get("head_ip"), provider.get("worker_ips")
    if "coordinator_address" in provider:
        return
    if not _is_host(head):
        yield f"provider.head_ip must be an address or a host's name, got {shown(head)}."
    if not isinstance(workers, list) or not workers or not all(map(_is_host, workers)):
        yield f"provider.worker_ips must be a list of addresses or hosts' names, got {shown(workers)}."
    elif len({*workers, head}) <= len(workers) and not any(map(is_unfilled, workers)):
        twice = next(host for host in [head, *workers] if [head, *workers].count(host) > 1)
        yield f"provider.worker_ips must name each machine once, and not the head, got {twice} twice."
    for key in ("ssh_user", "ssh_private_key"):
        if not within(description, "auth", key):
            yield f"auth.{key} must be there, since Ray reaches the machines by SSH, got nothing."
    for key in ("min_workers", "max_workers"):
        given = description.get(key)
        if given is not None and isinstance(workers, list) and given != len(workers):
            yield f"{key} must be left out or be the number of worker_ips, {len(workers)}, got {given}."


def _is_host(value: object) -> bool:
    if is_unfilled(value):
        return True
    if not isinstance(value, str):
        return False
    try:
        ipaddress.ip_address(value)
    except ValueError:
        # Four numbers are an address: 10.0.0.300 is none, and no name either.
        parts = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
        return bool(re.fullmatch(rf"{parts}(\.{parts})*", value)) and not re.fullmatch(r"[0-9.]+", value)
    return True


def _matches(path: str, node: dict[str, Any], key: str, pattern: str, what: str) -> list[str]:
    value = node.get(key)
    if is_unfilled(value) or (isinstance(value, str) and re.fullmatch(pattern, value)):
        return []
    return [f"{path}.{key} must be {what}, got {shown(value)}."]


def _open_disks(path: str, node: dict[str, Any]) -> list[str]:
    disks = node.get("BlockDeviceMappings")
    if not isinstance(disks, list) or not disks:
        return [f"{path}.BlockDeviceMappings must describe the disk, with Encrypted: true, got {shown(disks)}."]
    return [
        f"{path}.BlockDeviceMappings[{number}].Ebs.Encrypted must be true, got {shown(encrypted)}."
        for number, disk in enumerate(disks)
        if (encrypted := within(disk, "Ebs", "Encrypted")) is not True and not within(disk, "VirtualName")
    ]


def _open_ports(config: dict[str, Any]) -> Iterator[str]:
    for number, rule in enumerate(within(config, "provider", "security_group", "IpPermissions") or ()):
        ranges = [within(one, "CidrIp") for one in within(rule, "IpRanges") or ()]
        ranges += [within(one, "CidrIpv6") for one in within(rule, "Ipv6Ranges") or ()]
        for anywhere in [one for one in ranges if one in _ANYWHERE]:
            yield (
                f"provider.security_group.IpPermissions[{number}] must let in your own addresses only, got {anywhere}, "
                "the whole internet."
            )
