"""Faults deep inside a cluster's file, by the schemas of AWS, Google Cloud and Kubernetes."""

import sys
from pathlib import Path

import pytest

from sweep.cluster.__main__ import main
from tests.cluster_files import altered, check, filled

NESTED = [
    (
        "cluster.yaml",
        "InstanceType: g6.xlarge",
        "InstanceType: g6.xlage",
        "available_node_types.gpu_spot.node_config.InstanceType must be a value that botocore ",
        "got 'g6.xlage'; did you mean g6.xlarge? If it is newer, upgrade botocore.",
    ),
    (
        "cluster.yaml",
        "VolumeSize: 150",
        "VolumSize: 150",
        "available_node_types.head.node_config.BlockDeviceMappings[0].Ebs.VolumSize must be a parameter of EC2's",
        "got it with 150; did you mean VolumeSize?",
    ),
    (
        "cluster.yaml",
        "{Name: all-cnn-sweep-worker}",
        "{Name: 7}",
        "available_node_types.gpu_spot.node_config.IamInstanceProfile.Name must be of the type string",
        "got 7; put it in quotes.",
    ),
    (
        "clusters/gcp.yaml",
        "provisioningModel: SPOT",
        "provisioningModel: SPOTTY",
        "available_node_types.gpu_spot.node_config.scheduling.provisioningModel must be one of ",
        "got 'SPOTTY'.",
    ),
    (
        "clusters/gcp.yaml",
        "scheduling: {onHostMaintenance: TERMINATE}",
        "scheduling: [{preemptable: true}]",
        "available_node_types.gpu_on_demand.node_config.scheduling[0].preemptable must be a field of Compute Engine's",
        "did you mean preemptible?",
    ),
    (
        "clusters/gcp.yaml",
        "machineType: n2-standard-8",
        "status: RUNNING",
        "available_node_types.head.node_config.status must be a field of Compute Engine's",  # only Google writes it
        "got it with 'RUNNING'; is it misspelt?",
    ),
    (
        "clusters/kuberay.yaml",
        "persistentVolumeClaim: {claimName: all-cnn-sweep-runs}",
        "persistentVolumeClaim: {}",
        "spec.rayClusterSpec.headGroupSpec.template.spec.volumes[0].persistentVolumeClaim.claimName must be there",
        "got nothing.",
    ),
    (
        "clusters/kuberay.yaml",
        "idleTimeoutSeconds: 300}",
        "idleTimeoutSeconds: 300, resources: {limit: {cpu: 4}}}",
        "spec.rayClusterSpec.autoscalerOptions.resources.limit must be a field that KubeRay or Kubernetes knows",
        "did you mean limits?",
    ),
]


@pytest.mark.parametrize(("name", "before", "after", "begins", "ends"), NESTED)
def test_a_fault_deep_inside_is_named_by_the_vendors_own_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, before: str, after: str, begins: str, ends: str
) -> None:
    fault = check(tmp_path, capsys, altered(name, before, after))[0]
    assert fault.startswith(begins)
    assert fault.endswith(ends)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("clusters/gcp.yaml", "diskSizeGb: 150", 'diskSizeGb: "150"'),
        (
            "clusters/gcp.yaml",
            "machineType: n2",
            "sourceInstanceTemplate: global/instanceTemplates/a\n      machineType: n2",
        ),
        ("clusters/gcp.yaml", "scheduling: {onHostMaintenance: TERMINATE}", "scheduling: [{preemptible: false}]"),
        ("cluster.yaml", "InstanceType: m6i", "SubnetIds: [subnet-0123456789abcdef0]\n      InstanceType: m6i"),
        ("clusters/kuberay.yaml", 'requests: {cpu: "4"', "requests: {cpu: 4"),
        (
            "clusters/kuberay.yaml",
            "          volumes: &volumes",
            "          nodeName: null\n          volumes: &volumes",
        ),
    ],
)
def test_what_ray_and_the_vendors_take_beside_their_schemas_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, before: str, after: str
) -> None:
    assert check(tmp_path, capsys, altered(name, before, after)) == []


MISSING = [
    ("cluster.yaml", "HttpTokens: required, ", "botocore", "cluster"),
    ("clusters/gcp.yaml", "      serviceAccounts: *accounts\n", "googleapiclient", "gcp"),
    ("clusters/kuberay.yaml", "authOptions: {mode: token}", "kubernetes", "kuberay"),
]


@pytest.mark.parametrize(("name", "needed", "package", "extra"), MISSING)
def test_without_a_vendors_package_a_note_says_what_was_not_checked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    needed: str,
    package: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / "file.yaml"
    file.write_text(filled(name))
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr()
    assert "nothing wrong was found" in said.out
    (note,) = said.err.splitlines()
    assert note.startswith("note: Not checked: fields of ")
    assert note.endswith(f"is not installed. Add it: pip install 'all-cnn-sweep[{extra}]'")
    # All that needs no schema is refused as ever.
    file.write_text(altered(name, needed, ""))
    assert main(["check", str(file)]) == 2
    assert "error: " in capsys.readouterr().err
