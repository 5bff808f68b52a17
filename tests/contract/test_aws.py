"""The shipped cluster.yaml before an imitation of AWS: Ray's own bootstrap, the instances it starts, their types."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.cluster.__main__ import main
from tests.cluster_files import filled

moto = pytest.importorskip("moto", reason="moto is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")

REGION = "us-west-2"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Give an EC2 client of an empty AWS that lives in this process; nothing leaves it."""
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key pair that it makes in ~/.ssh
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    _forget()
    with moto.mock_aws():
        iam = boto3.client("iam", REGION)
        for name in ("all-cnn-sweep-head", "all-cnn-sweep-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        yield boto3.client("ec2", REGION)
    _forget()


def _forget() -> None:
    """Empty Ray's memory of AWS's answers, which outlives one imitation."""
    from ray.autoscaler._private.aws import config, node_provider, utils

    for module in (config, node_provider, utils):
        for thing in vars(module).values():
            if hasattr(thing, "cache_clear"):
                thing.cache_clear()


@pytest.fixture
def described(aws: Any) -> str:
    """Return the shipped file's text, filled in with what this AWS has."""
    vpc = aws.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = aws.create_security_group(GroupName="mine", Description="mine", VpcId=vpc)["GroupId"]
    image = aws.describe_images()["Images"][0]["ImageId"]
    return filled("cluster.yaml").replace("ami-0123456789abcdef0", image).replace("sg-0123456789abcdef1", group)


def bootstrap(text: str) -> dict[str, Any]:
    from ray.autoscaler._private.commands import _bootstrap_config

    return _bootstrap_config(yaml.safe_load(text), no_config_cache=True)  # type: ignore[no-any-return]


def test_ray_makes_of_the_shipped_file_the_machines_that_it_describes(aws: Any, described: str) -> None:
    from ray.autoscaler._private.providers import _get_node_provider

    groups = {group["GroupId"] for group in aws.describe_security_groups()["SecurityGroups"]}
    config = bootstrap(described)
    assert {group["GroupId"] for group in aws.describe_security_groups()["SecurityGroups"]} == groups
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for name, node_type in config["available_node_types"].items():
        tags = {"ray-node-name": name, "ray-node-type": "worker", "ray-user-node-type": name}
        provider.create_node(node_type["node_config"], tags, 1)
        subnets = aws.describe_subnets(SubnetIds=node_type["node_config"]["SubnetIds"])["Subnets"]
        assert {subnet["AvailabilityZone"] for subnet in subnets} == {"us-west-2a", "us-west-2b", "us-west-2c"}
    started = {}
    for reservation in aws.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            started[tags["ray-user-node-type"]] = instance
            assert instance["MetadataOptions"]["HttpTokens"] == "required"
            disks = [disk["Ebs"]["VolumeId"] for disk in instance["BlockDeviceMappings"]]
            assert disks
            assert all(volume["Encrypted"] for volume in aws.describe_volumes(VolumeIds=disks)["Volumes"])
    assert {name: instance["InstanceType"] for name, instance in started.items()} == {
        "head": "m6i.2xlarge",
        "gpu_spot": "g6.xlarge",
        "gpu_on_demand": "g6.xlarge",
    }
    profiles = {name: instance["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, instance in started.items()}
    assert profiles["head"] == "all-cnn-sweep-head"
    assert profiles["gpu_spot"] == profiles["gpu_on_demand"] == "all-cnn-sweep-worker"
    assert [name for name, one in started.items() if one.get("InstanceLifecycle") == "spot"] == ["gpu_spot"]


def test_a_bogus_instance_type_is_refused_by_the_check_where_ray_would_go_on(
    aws: Any, described: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "cluster.yaml"
    bogus = described.replace("InstanceType: g6.xlarge", "InstanceType: g6.hugest", 1)
    bootstrap(bogus)  # no error, only a line in the middle of what `ray up` prints
    assert "Instance type g6.hugest is not available in AWS region: us-west-2." in caplog.text
    file.write_text(described)
    assert main(["check", str(file)]) == 0, capsys.readouterr().err
    file.write_text(bogus)
    assert main(["check", str(file)]) == 2
    assert "gpu_spot.node_config.InstanceType must be a value that botocore " in capsys.readouterr().err
