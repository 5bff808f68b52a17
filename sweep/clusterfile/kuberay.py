"""What must hold in a file for KubeRay: the fields of its RayJob and RayCluster, versions, and who may reach it."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sweep.clusterfile.schemas import Schema, closed, kubernetes, schema_faults
from sweep.clusterfile.versions import image_fault, pinned_ray
from sweep.clusterfile.yaml_file import is_unfilled, shown, within

_NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"


def kuberay_faults(description: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is wrong, and that needs no Kubernetes to be seen."""
    kind = description.get("kind")
    if kind not in ("RayJob", "RayCluster"):
        return [f"kind must be RayJob or RayCluster, got {shown(kind)}."]
    faults = schema_faults(_schema(kind), description)
    if faults:
        return faults
    name, spec = within(description, "metadata", "name"), description["spec"]
    # KubeRay appends to it to name services, and refuses what would then be too long.
    if not is_unfilled(name) and not (isinstance(name, str) and re.fullmatch(_NAME, name) and len(name) <= 47):
        faults.append(
            f"metadata.name must be at most 47 small letters, digits and hyphens, from a letter on, got {shown(name)}."
        )
    return [*faults, *(_job_faults(spec) if kind == "RayJob" else _cluster_faults("spec", spec))]


def _schema(kind: str) -> Schema:
    """The fields of KubeRay's ray.io/v1, releases 1.5 and 1.6, which no package on PyPI has, over Kubernetes' own."""
    count = {"type": "integer", "minimum": 0}
    params = {"type": "object", "additionalProperties": {"type": "string"}}
    pod: dict[str, Any] = {"rayStartParams": params, "template": _type("PodTemplateSpec")}
    autoscaler = _fields(
        "idleTimeoutSeconds image imagePullPolicy upscalingMode version",
        env=_list_of(_type("EnvVar")),
        envFrom=_list_of(_type("EnvFromSource")),
        resources=_type("ResourceRequirements"),
        securityContext=_type("SecurityContext"),
        volumeMounts=_list_of(_type("VolumeMount")),
    )
    head = _fields("enableIngress labels resources serviceType", headService=_type("Service"), **pod)
    group = _fields(
        "idleTimeoutSeconds labels numOfHosts resources scaleStrategy suspend",
        ["groupName", "maxReplicas"],
        groupName={"type": "string", "minLength": 1},
        minReplicas=count,
        replicas=count,
        maxReplicas=count,
        **pod,
    )
    cluster = _fields(
        "enableInTreeAutoscaling gcsFaultToleranceOptions headServiceAnnotations managedBy rayVersion suspend "
        "upgradeStrategy",
        ["headGroupSpec"],
        authOptions=_fields("enableK8sTokenAuth mode secretName"),
        autoscalerOptions=autoscaler,
        headGroupSpec=head,
        workerGroupSpecs=_list_of(group),
    )
    job = _fields(
        "activeDeadlineSeconds clusterSelector deletionStrategy entrypoint entrypointNumCpus entrypointNumGpus "
        "entrypointResources jobId managedBy metadata preRunningDeadlineSeconds runtimeEnvYAML "
        "shutdownAfterJobFinishes submitterConfig suspend",
        backoffLimit=count,
        rayClusterSpec=cluster,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        submitterPodTemplate=_type("PodTemplateSpec"),
        ttlSecondsAfterFinished=count,
    )
    spec, api = job if kind == "RayJob" else cluster, {"const": "ray.io/v1"}
    whole = _fields("kind", ["apiVersion", "spec"], apiVersion=api, metadata=_type("ObjectMeta"), spec=spec)
    return whole | {"$defs": kubernetes(), "what": "a field that KubeRay or Kubernetes knows", "package": "kubernetes"}


def _fields(untyped: str, required: Sequence[str] = (), **typed: Schema) -> Schema:
    return closed({name: {} for name in untyped.split()} | typed, required)


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _type(name: str) -> Schema:
    return {"$ref": f"#/$defs/V1{name}"}


def _job_faults(spec: dict[str, Any]) -> Iterator[str]:
    entrypoint = spec.get("entrypoint")
    if not entrypoint and spec.get("submissionMode") != "InteractiveMode":
        yield f"spec.entrypoint must be the command that runs the study, got {shown(entrypoint)}."
    if spec.get("backoffLimit") and not re.search(r"begin-or-resume|--resume", str(entrypoint)):
        yield (
            f"spec.entrypoint must resume the run when KubeRay submits it again, as scripts/begin-or-resume does, "
            f"got {shown(entrypoint)} with a backoffLimit of {spec['backoffLimit']}."
        )
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield (
            "spec.shutdownAfterJobFinishes must be true where ttlSecondsAfterFinished is given, got "
            f"{shown(spec.get('shutdownAfterJobFinishes'))}; the cluster would never end."
        )
    if "rayClusterSpec" in spec:
        yield from _cluster_faults("spec.rayClusterSpec", spec["rayClusterSpec"])
    elif "clusterSelector" not in spec:
        yield "spec.rayClusterSpec must hold the cluster's fields, got nothing."


def _cluster_faults(path: str, spec: dict[str, Any]) -> Iterator[str]:
    if str(spec.get("rayVersion")) != pinned_ray():
        yield f"{path}.rayVersion must be {pinned_ray()}, as in constraints.txt, got {shown(spec.get('rayVersion'))}."
    mode = within(spec, "authOptions", "mode")
    if mode != "token":
        yield (
            f"{path}.authOptions.mode must be token, got {shown(mode)}; without it every pod of Kubernetes may run "
            "code on the cluster."
        )
    yield from _head_faults(f"{path}.headGroupSpec", spec["headGroupSpec"])
    groups = spec.get("workerGroupSpecs", [])
    for number, group in enumerate(groups):
        here = f"{path}.workerGroupSpecs[{number}]"
        low, high = group.get("minReplicas", 0), group["maxReplicas"]
        now = group.get("replicas", low)
        if not low <= now <= high:
            yield f"{here} must have minReplicas <= replicas <= maxReplicas, got {low}, {now} and {high}."
        yield from _template_faults(f"{here}.template", group.get("template"))
    names = [group["groupName"] for group in groups]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{path}.workerGroupSpecs must have a groupName each of its own, got {shown(name)} twice."


def _head_faults(path: str, head: dict[str, Any]) -> Iterator[str]:
    service = head.get("serviceType", "ClusterIP")
    if service != "ClusterIP" or head.get("enableIngress"):
        how = f"serviceType {service}" if service != "ClusterIP" else "enableIngress"
        yield (
            f"{path} must keep the dashboard inside Kubernetes, serviceType ClusterIP and no ingress, got {how}; "
            "`kubectl port-forward` brings it to your own machine."
        )
    for key in ("num-cpus", "num-gpus"):
        given = within(head, "rayStartParams", key)
        if given != "0":
            yield (
                f'{path}.rayStartParams.{key} must be "0", since the head holds the run\'s state and trains nothing, '
                f"got {shown(given)}."
            )
    yield from _template_faults(f"{path}.template", head.get("template"))


def _template_faults(path: str, template: Any) -> Iterator[str]:
    """What Kubernetes would take and should not have; of any form, since its schema may be missing."""
    pod = within(template, "spec")
    containers = _list(pod, "containers")
    if not containers:
        got = shown(within(pod, "containers"))
        yield f"{path}.spec.containers must hold the container that runs Ray, got {got}."
    there = [within(volume, "name") for volume in _list(pod, "volumes")]
    for number, container in enumerate(containers):
        here = f"{path}.spec.containers[{number}]"
        # KubeRay starts Ray in the first one.
        if number == 0 and (fault := image_fault(f"{here}.image", within(container, "image"))):
            yield fault
        for index, variable in enumerate(_list(container, "env")):
            if within(variable, "name") == "RAY_AUTH_TOKEN" and within(variable, "value") is not None:
                yield f"{here}.env[{index}] must take the token from a Secret (valueFrom), got its value in the file."
        for mount in _list(container, "volumeMounts"):
            name = within(mount, "name")
            if name not in there:
                yield f"{path}.spec.volumes must hold every volume that is mounted, got none named {shown(name)}."


def _list(node: Any, key: str) -> list[Any]:
    value = within(node, key)
    return value if isinstance(value, list) else []
