"""Ask AWS what a cluster's description cannot tell: whether the instance types are there."""

from pathlib import Path
from typing import Any

from sweep.clusterfile.yaml_file import read_description
from trainables.common.validation import line


def instance_type_faults(file: Path) -> list[str]:
    """Return a sentence for each instance type that the region of a checked file does not have.

    Raises:
        ValueError: the file is not for AWS, boto3 is not installed, or AWS does not answer.
    """
    description = read_description(file)
    provider = description["provider"]
    if provider.get("type") != "aws":
        raise ValueError(f"--instance-types must be left out for a file that is not for AWS, got {str(file)!r}.")
    region = provider.get("region", "us-west-2")
    there = _offered(region)
    return [
        f"available_node_types.{name}.node_config.InstanceType must be one that AWS has in {region}, got {kind!r}."
        for name, node_type in description["available_node_types"].items()
        if (kind := node_type["node_config"].get("InstanceType")) not in there
    ]


def _offered(region: str) -> set[str]:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise ValueError(
            "--instance-types needs boto3, got an environment without it; install the extra `cluster`."
        ) from error
    try:
        pages: Any = (
            boto3.client("ec2", region_name=region).get_paginator("describe_instance_type_offerings").paginate()
        )
        return {offer["InstanceType"] for page in pages for offer in page["InstanceTypeOfferings"]}
    except (BotoCoreError, ClientError) as error:
        reason = line(error).rstrip(".")
        raise ValueError(
            f"--instance-types must find AWS credentials that may list instance types, got {reason}; set "
            "AWS_PROFILE, or leave the option out."
        ) from error
