"""`python -m sweep.cluster check`: a sentence for each fault of a file."""

from pathlib import Path

import pytest

from sweep.cluster.__main__ import main
from tests.cluster_files import altered, check, filled

AWS = [
    ("max_workers: 8\nidle", "max_wrokers: 8\nidle", "max_wrokers must be a key that Ray knows"),
    ("  region: us-west-2\n", "  regoin: us-west-2\n", "provider.regoin must be a key that Ray knows"),
    ("labels: {market: spot}", "lables: {market: spot}", "available_node_types.gpu_spot.lables must be a key that Ray"),
    (
        "      InstanceMarketOptions:",
        "      InstanceMarketOption:",
        "available_node_types.gpu_spot.node_config.InstanceMarketOption must be a parameter of EC2's RunInstances",
    ),
    ("m6i.2xlarge", "m6i", "available_node_types.head.node_config.InstanceType must be a value that botocore "),
    (
        "InstanceType: m6i.2xlarge",
        "KeyName: a",
        "available_node_types.head.node_config.InstanceType must be an instance",
    ),
    ("max_workers: 8\nidle", "max_workers: many\nidle", "max_workers must be of the type integer, got 'many'."),
    ("type: aws", "type: azure", "provider.type must be one of aws, gcp, local, external, got 'azure'."),
    ("--ray 2.60.0", "--ray 2.59.0", "setup_commands[1] must install Ray"),
    ("  - *set_up\n", "  - pip install 'ray[default]'\n", "setup_commands[1] must install Ray"),
    ("  - *set_up\n", "  - pip install -U 'ray[default]>=2.60.0'\n", "setup_commands[1] must install Ray"),
    ("  - *set_up\n", "", "setup_commands must say which Ray a node gets"),
    (
        "cluster_name: ",
        "docker: {image: 'rayproject/ray:latest', container_name: ray}\ncluster_name: ",
        "docker.image must name an image by a tag that begins with Ray's version",
    ),
    (
        "cluster_name: ",
        "docker: {image: 'rayproject/ray:nightly-py311-gpu', container_name: ray}\ncluster_name: ",
        "docker.image must name an image",
    ),
    (
        "cluster_name: ",
        "docker: {image: 'host:5000/ray', container_name: ray}\ncluster_name: ",
        "docker.image must name an image",
    ),
    (
        "cluster_name: ",
        "docker: {image: 'rayproject/ray:2.59.0-py311', container_name: ray}\ncluster_name: ",
        "docker.image must name an image",
    ),
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "head_start_ray_commands[1] must keep the dashboard on"),
    ("--dashboard-host=127.0.0.1", "--dashboard-host '::'", "head_start_ray_commands[1] must keep the dashboard on"),
    (
        "RAY_AUTH_MODE=token RAY_TRAIN_ENABLE_STATE_TRACKING=1 ray start --head",
        "ray start --head",
        "head_start_ray_commands[1] must have RAY_AUTH_MODE=token before `ray start`",
    ),
    (
        "RAY_AUTH_MODE=token RAY_TRAIN_ENABLE_STATE_TRACKING=1 ray start --address",
        "RAY_AUTH_MODE=disabled ray start --address",
        "worker_start_ray_commands[1] must have RAY_AUTH_MODE=token before `ray start`",
    ),
    ("  ~/.ray/auth_token: ~/.ray/auth_token\n", "", "file_mounts must bring the token to every node"),
    ("  - chmod 600 ~/.ray/auth_token\n", "", "setup_commands must have `chmod 600 ~/.ray/auth_token`"),
    ("chmod 600", "chmod 644", "setup_commands must have `chmod 600 ~/.ray/auth_token`"),
    (
        "  cache_stopped_nodes: false",
        "  security_group: {IpPermissions: [{IpRanges: [{CidrIp: 0.0.0.0/0}]}]}\n  cache_stopped_nodes: false",
        "provider.security_group.IpPermissions[0] must let in your own addresses only, got 0.0.0.0/0",
    ),
    (
        "IamInstanceProfile: {Name: all-cnn-sweep-worker}",
        "IamInstanceProfile: {}",
        "available_node_types.gpu_spot.node_config.IamInstanceProfile must name an instance profile",
    ),
    (
        "resources: {CPU: 0, GPU: 0}",
        "resources: {CPU: 0, GPU: 1}",
        "available_node_types.head.resources must say GPU: 0",
    ),
    ("resources: {CPU: 0, GPU: 0}", "resources: {}", "available_node_types.head.resources must say GPU: 0"),
    (
        "min_workers: 0\n    max_workers: 0",
        "min_workers: 0\n    max_workers: 1",
        "available_node_types.head.max_workers",
    ),
    ("head_node_type: head", "head_node_type: haed", "The file must be one that `ray up` takes, got from Ray: "),
    (
        "resources: {CPU: 4, GPU: 1}\n    labels: {market: on-demand}",
        "resources: {CPU: 2, GPU: 1}",
        "available_node_types.gpu_spot must have beside it an on-demand type with as much, {'CPU': 4, 'GPU': 1}",
    ),
]


@pytest.mark.parametrize(("before", "after", "said"), AWS)
def test_one_fault_of_a_cluster_on_aws_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    (fault,) = check(tmp_path, capsys, altered("cluster.yaml", before, after))
    assert fault.startswith(said)


EVERY_AWS_NODE = [
    ("ami-0123456789abcdef0", "resolve:ssm:/aws/latest", "ImageId must be one AMI by its id"),
    (
        "      SecurityGroupIds: [*security_group]",
        "     ",
        "SecurityGroupIds must name a group of your own, got nothing",
    ),
    ("HttpTokens: required", "HttpTokens: optional", "MetadataOptions.HttpTokens must be required (IMDSv2)"),
    ("HttpTokens: required, ", "", "MetadataOptions.HttpTokens must be required (IMDSv2), got nothing"),
    ("Encrypted: true", "Encrypted: false", "BlockDeviceMappings[0].Ebs.Encrypted must be true, got False."),
    (", Encrypted: true", "", "BlockDeviceMappings[0].Ebs.Encrypted must be true, got nothing."),
]


@pytest.mark.parametrize(("before", "after", "said"), EVERY_AWS_NODE)
def test_a_fault_of_all_machines_gets_a_sentence_for_each_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    faults = check(tmp_path, capsys, altered("cluster.yaml", before, after))
    assert len(faults) == 3
    for fault, name in zip(faults, ("head", "gpu_spot", "gpu_on_demand"), strict=True):
        assert fault.startswith(f"available_node_types.{name}.node_config.{said}")


def test_the_least_number_of_workers_is_held_against_the_greatest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = altered("cluster.yaml", "min_workers: 0\n    max_workers: 8", "min_workers: 5\n    max_workers: 4")
    assert check(tmp_path, capsys, text) == [
        "available_node_types.gpu_spot.min_workers must be at least 0 and at most max_workers, 4, got 5."
    ]


def test_a_spot_head_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = altered(
        "cluster.yaml", "node_config: &node\n", "node_config: &node\n      InstanceMarketOptions: {MarketType: spot}\n"
    )
    faults = check(tmp_path, capsys, text)
    assert faults[0].startswith("available_node_types.head.node_config must not be spot")


def test_what_ray_fills_in_is_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Without these keys Ray would install a nightly build, and open the dashboard.
    text = filled("cluster.yaml")
    text = text[: text.index("setup_commands:")] + text[text.index("head_setup_commands:") : text.index("head_start")]
    faults = check(tmp_path, capsys, text)
    assert any(fault.startswith("setup_commands[1] must install Ray") for fault in faults)
    assert any("must keep the dashboard on the head itself" in fault and "0.0.0.0" in fault for fault in faults)
    assert sum("must have RAY_AUTH_MODE=token" in fault for fault in faults) == 2


def test_each_of_several_faults_gets_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = altered("cluster.yaml", "127.0.0.1", "0.0.0.0").replace("  - chmod 600 ~/.ray/auth_token\n", "")
    text = text.replace("s3://bucket/runs", "s3://FILL_IN/runs")
    assert [fault.split(" must ")[0] for fault in check(tmp_path, capsys, text)] == [
        "metadata.set_up",
        "setup_commands",
        "head_start_ray_commands[1]",
    ]


GCP = [
    (
        "global/images/common-gpu-v20260901",
        "global/images/family/common-gpu",
        "available_node_types.head.node_config.disks[0].initializeParams.sourceImage must name one image",
    ),
    (
        "machineType: n2",
        "machinType: n2",
        "available_node_types.head.node_config.machinType must be a field of Compute",
    ),
    (
        "      serviceAccounts: *accounts\n",
        "",
        "available_node_types.gpu_on_demand.node_config.serviceAccounts must name a service account",
    ),
    (
        "        - subnetwork: *subnetwork\n          accessConfigs",
        "        - accessConfigs",
        "available_node_types.head.node_config.networkInterfaces must name a subnetwork of your own",
    ),
    ("project_id: project-1", "project_id: null", "provider.project_id must be your project's id, got nothing."),
    (
        "scheduling: {onHostMaintenance: TERMINATE}",
        "scheduling: [{preemptible: true}]",
        "available_node_types.gpu_spot must have beside it an on-demand type",
    ),
]


@pytest.mark.parametrize(("before", "after", "said"), GCP)
def test_a_fault_of_a_cluster_on_google_cloud_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    assert check(tmp_path, capsys, altered("clusters/gcp.yaml", before, after))[0].startswith(said)


LOCAL = [
    (
        "head_ip: 10.0.0.1",
        "head_ip: 10.0.0.300",
        "provider.head_ip must be an address or a host's name, got '10.0.0.300'.",
    ),
    ("head_ip: 10.0.0.1", "head_ip: -oProxyCommand=x", "provider.head_ip must be an address or a host's name"),
    ("[10.0.0.2, gpu-2.lab]", "[]", "provider.worker_ips must be a list of addresses or hosts' names, got []."),
    ("[10.0.0.2, gpu-2.lab]", "[10.0.0.1]", "provider.worker_ips must name each machine once, and not the head"),
    ("  ssh_user: ubuntu\n", "", "auth.ssh_user must be there"),
    (
        "cluster_name: ",
        "max_workers: 1\ncluster_name: ",
        "max_workers must be left out or be the number of worker_ips, 2",
    ),
    ("127.0.0.1", "0.0.0.0", "head_start_ray_commands[1] must keep the dashboard on the head itself"),
]


@pytest.mark.parametrize(("before", "after", "said"), LOCAL)
def test_a_fault_of_a_cluster_of_own_machines_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    (fault,) = check(tmp_path, capsys, altered("clusters/local.yaml", before, after))
    assert fault.startswith(said)


CLUSTER = "spec.rayClusterSpec"
KUBERAY = [
    ("kind: RayJob", "kind: RayJbo", "kind must be RayJob or RayCluster, got 'RayJbo'."),
    ("ray.io/v1", "ray.io/v1alpha1", "apiVersion must be ray.io/v1"),
    ("  name: all-cnn-sweep\n", "  name: All_CNN\n", "metadata.name must be at most 47 small letters"),
    ("  backoffLimit: 3", "  backofLimit: 3", "spec.backofLimit must be a field that KubeRay or Kubernetes knows"),
    ("  backoffLimit: 3", "  backoffLimit: -1", "spec.backoffLimit must be at least 0, got -1."),
    (
        "/home/ray/all-cnn-sweep/scripts/begin-or-resume",
        "python -m sweep.run --name",
        "spec.entrypoint must resume the run when KubeRay",
    ),
    ("submissionMode: K8sJobMode", "submissionMode: Job", "spec.submissionMode must be one of K8sJobMode"),
    ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false", "spec.shutdownAfterJobFinishes must be true"),
    ("rayVersion: 2.60.0", "rayVersion: 2.59.0", f"{CLUSTER}.rayVersion must be"),
    ("authOptions: {mode: token}", "authOptions: {mode: disabled}", f"{CLUSTER}.authOptions.mode must be token"),
    ("authOptions: {mode: token}", "suspend: false", f"{CLUSTER}.authOptions.mode must be token, got nothing"),
    ("idleTimeoutSeconds", "idleTimeout", f"{CLUSTER}.autoscalerOptions.idleTimeout must be a field"),
    ("serviceType: ClusterIP", "serviceType: LoadBalancer", f"{CLUSTER}.headGroupSpec must keep the dashboard inside"),
    ("serviceType: ClusterIP", "enableIngress: true", f"{CLUSTER}.headGroupSpec must keep the dashboard inside"),
    ('num-gpus: "0"', 'num-gpus: "1"', f'{CLUSTER}.headGroupSpec.rayStartParams.num-gpus must be "0"'),
    ("replicas: 0", "replicas: 9", f"{CLUSTER}.workerGroupSpecs[0] must have minReplicas <= replicas <= maxReplicas"),
    ("minReplicas: 0", "minReplicas: none", f"{CLUSTER}.workerGroupSpecs[0].minReplicas must be of the type integer"),
    ("tolerations:", "toleration:", f"{CLUSTER}.workerGroupSpecs[0].template.spec.toleration must be a field"),
    (
        'value: "1"',
        "value: 1",
        f"{CLUSTER}.headGroupSpec.template.spec.containers[0].env[1].value must be of the type string, got 1; put",
    ),
    (
        "- {name: runs, persistent",
        "- {name: run, persistent",
        f"{CLUSTER}.headGroupSpec.template.spec.volumes must hold",
    ),
    (
        "- {name: SWEEP_OUTPUT, value: /mnt/runs}",
        "- {name: RAY_AUTH_TOKEN, value: abc}",
        f"{CLUSTER}.headGroupSpec.template.spec.containers[0].env[0] must take the token from a Secret",
    ),
    (
        "env: &env",
        "env: 3\n              envFrom: &env",
        f"{CLUSTER}.headGroupSpec.template.spec.containers[0].env must be",
    ),
    (
        "2.60.0-py311",
        "latest",
        f"{CLUSTER}.headGroupSpec.template.spec.containers[0].image must name an image by a tag",
    ),
    ("2.60.0-py311", "2.60.1-py311", f"{CLUSTER}.headGroupSpec.template.spec.containers[0].image must name an image"),
]


@pytest.mark.parametrize(("before", "after", "said"), KUBERAY)
def test_a_fault_of_a_file_for_kuberay_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    assert check(tmp_path, capsys, altered("clusters/kuberay.yaml", before, after))[0].startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "FILE must be YAML, got "),
        ("- a\n- b\n", "FILE must hold a mapping of keys to values, got list"),
        ("", "FILE must hold a mapping of keys to values, got NoneType"),
        ("a: 1\n", "FILE must describe a cluster, with a mapping `provider`"),
        ("1: a\n", "FILE must have words for keys, got 1"),
        ("provider: {type: aws}\nprovider: {type: gcp}\n", "FILE must be YAML, got "),
        ("provider: {type: [aws]}\ncluster_name: x\n", "provider.type must be one of"),
        ("a: !!python/object:os.system {}\n", "FILE must be YAML, got "),
        ("provider: {type: aws}\ncluster_name: x\nsetup_commands: ls\n", "setup_commands must be of the type array"),
        ("provider: {type: aws}\n", "cluster_name must be there, got nothing."),
        ("provider: {type: local, head_ip: a}\ncluster_name: x\n", "provider.worker_ips must be a list"),
        ("kind: RayJob\napiVersion: ray.io/v1\nmetadata: {name: a}\n", "spec must be there, got nothing."),
        (
            "kind: RayCluster\nspec: 1\napiVersion: ray.io/v1\nmetadata: {name: a}\n",
            "spec must be of the type object, got 1.",
        ),
    ],
)
def test_what_describes_no_cluster_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert check(tmp_path, capsys, text)[0].startswith(said)


def test_a_key_that_comes_twice_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = filled("cluster.yaml").replace("cluster_name: all-cnn-sweep", "cluster_name: a\ncluster_name: b")
    (fault,) = check(tmp_path, capsys, text)
    line = text.splitlines().index("cluster_name: b") + 1
    assert f"(line {line} has the key 'cluster_name', which the same mapping has already)" in fault


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "FILE requires an argument"),
        (["chek", "cluster.yaml"], "chek"),
        (
            ["check", "no-such.yaml"],
            "FILE must be a file that can be read, got 'no-such.yaml' (No such file or directory).",
        ),
        (["check", "."], "FILE must be a file that can be read, got '.' (Is a directory)."),
    ],
)
def test_a_command_line_that_cannot_be_followed_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
