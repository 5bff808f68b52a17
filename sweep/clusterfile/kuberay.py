"""What must hold in a file for KubeRay: the fields of its RayJob and RayCluster, versions, and who may reach it."""

import re
from collections.abc import Iterator
from typing import Any, TypeGuard

from sweep.clusterfile.versions import image_fault, pinned_ray
from sweep.clusterfile.yaml_file import is_unfilled, shown, within, words

# Fields of KubeRay's ray.io/v1, releases 1.5 and 1.6, and of Kubernetes' core v1.
_TOP = words("apiVersion kind metadata spec")
_JOB = words(
    """activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint entrypointNumCpus
    entrypointNumGpus entrypointResources jobId managedBy metadata preRunningDeadlineSeconds rayClusterSpec
    runtimeEnvYAML shutdownAfterJobFinishes submissionMode submitterConfig submitterPodTemplate
    suspend ttlSecondsAfterFinished"""
)
_CLUSTER = words(
    """authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec
    headServiceAnnotations managedBy rayVersion suspend upgradeStrategy workerGroupSpecs"""
)
_AUTH = words("enableK8sTokenAuth mode secretName")
_AUTOSCALER = words(
    """env envFrom idleTimeoutSeconds image imagePullPolicy resources securityContext upscalingMode version
    volumeMounts"""
)
_HEAD = words("enableIngress headService labels rayStartParams resources serviceType template")
_GROUP = words(
    """groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams replicas resources
    scaleStrategy suspend template"""
)
_POD = words(
    """activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks
    ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname hostnameOverride imagePullSecrets
    initContainers nodeName nodeSelector os overhead preemptionPolicy priority priorityClassName readinessGates
    resourceClaims resources restartPolicy runtimeClassName schedulerName schedulingGates securityContext serviceAccount
    serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations
    topologySpreadConstraints volumes"""
)
_CONTAINER = words(
    """args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy
    resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath
    terminationMessagePolicy tty volumeDevices volumeMounts workingDir"""
)
_SUBMISSION = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"


def kuberay_faults(description: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is wrong, and that needs no Kubernetes to be seen."""
    kind = description.get("kind")
    if kind not in ("RayJob", "RayCluster"):
        return [f"kind must be RayJob or RayCluster, got {shown(kind)}."]
    faults = []
    if description.get("apiVersion") != "ray.io/v1":
        faults.append(f"apiVersion must be ray.io/v1, got {shown(description.get('apiVersion'))}.")
    name = within(description, "metadata", "name")
    # KubeRay appends to it to name services, and refuses what would then be too long.
    if not is_unfilled(name) and not (isinstance(name, str) and re.fullmatch(_NAME, name) and len(name) <= 47):
        faults.append(
            f"metadata.name must be at most 47 small letters, digits and hyphens, from a letter on, got {shown(name)}."
        )
    faults += _unknown("", description, _TOP)
    spec = description.get("spec")
    if kind == "RayJob":
        return faults + _job_faults(spec)
    return faults + _cluster_faults("spec", spec)


def _job_faults(spec: Any) -> list[str]:
    if not isinstance(spec, dict):
        return [f"spec must hold the job's fields, got {shown(spec)}."]
    faults = _unknown("spec", spec, _JOB)
    if not spec.get("entrypoint") and spec.get("submissionMode") != "InteractiveMode":
        faults.append(f"spec.entrypoint must be the command that runs the study, got {shown(spec.get('entrypoint'))}.")
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in _SUBMISSION:
        faults.append(f"spec.submissionMode must be one of {', '.join(_SUBMISSION)}, got {shown(mode)}.")
    for key in ("backoffLimit", "ttlSecondsAfterFinished"):
        value = spec.get(key, 0)
        if not _is_count(value):
            faults.append(f"spec.{key} must be a whole number of at least 0, got {shown(value)}.")
    resumes = re.search(r"begin-or-resume|--resume", str(spec.get("entrypoint")))
    if _is_count(spec.get("backoffLimit", 0)) and spec.get("backoffLimit", 0) and not resumes:
        faults.append(
            f"spec.entrypoint must go on with the run when KubeRay submits it again, as scripts/begin-or-resume does, "
            f"got {shown(spec.get('entrypoint'))} with a backoffLimit of {spec['backoffLimit']}."
        )
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        faults.append(
            "spec.shutdownAfterJobFinishes must be true where ttlSecondsAfterFinished is given, got "
            f"{shown(spec.get('shutdownAfterJobFinishes'))}; the cluster would never end."
        )
    if "clusterSelector" in spec and "rayClusterSpec" not in spec:
        return faults
    return faults + _cluster_faults("spec.rayClusterSpec", spec.get("rayClusterSpec"))


def _cluster_faults(path: str, spec: Any) -> list[str]:
    if not isinstance(spec, dict):
        return [f"{path} must hold the cluster's fields, got {shown(spec)}."]
    faults = _unknown(path, spec, _CLUSTER)
    if str(spec.get("rayVersion")) != pinned_ray():
        faults.append(
            f"{path}.rayVersion must be {pinned_ray()}, as in constraints.txt, got {shown(spec.get('rayVersion'))}."
        )
    for key, known in (("authOptions", _AUTH), ("autoscalerOptions", _AUTOSCALER)):
        if isinstance(spec.get(key), dict):
            faults += _unknown(f"{path}.{key}", spec[key], known)
        elif key in spec:
            faults.append(f"{path}.{key} must be a mapping, got {shown(spec[key])}.")
    if within(spec, "authOptions", "mode") != "token":
        faults.append(
            f"{path}.authOptions.mode must be token, got {shown(within(spec, 'authOptions', 'mode'))}; without it "
            "every pod of Kubernetes may run code on the cluster."
        )
    groups = spec.get("workerGroupSpecs", [])
    faults += _head_faults(f"{path}.headGroupSpec", spec.get("headGroupSpec"))
    if not isinstance(groups, list):
        return [*faults, f"{path}.workerGroupSpecs must be a list, got {shown(groups)}."]
    for number, group in enumerate(groups):
        faults += _group_faults(f"{path}.workerGroupSpecs[{number}]", group)
    names = [str(within(group, "groupName")) for group in groups]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"{path}.workerGroupSpecs must have a groupName each of its own, got {shown(name)} twice.")
    return faults


def _head_faults(path: str, head: Any) -> list[str]:
    if not isinstance(head, dict):
        return [f"{path} must hold the head's fields, got {shown(head)}."]
    faults = _unknown(path, head, _HEAD)
    service = head.get("serviceType", "ClusterIP")
    if service != "ClusterIP" or head.get("enableIngress"):
        how = f"serviceType {service}" if service != "ClusterIP" else "enableIngress"
        faults.append(
            f"{path} must keep the dashboard inside Kubernetes, serviceType ClusterIP and no ingress, got {how}; "
            "`kubectl port-forward` brings it to your own machine."
        )
    for key in ("num-cpus", "num-gpus"):
        given = within(head, "rayStartParams", key)
        if str(given) != "0":
            faults.append(
                f'{path}.rayStartParams.{key} must be "0", since the head holds the run\'s state and trains nothing, '
                f"got {shown(given)}."
            )
    return faults + _params_faults(path, head) + _template_faults(path, head.get("template"))


def _group_faults(path: str, group: Any) -> list[str]:
    if not isinstance(group, dict):
        return [f"{path} must hold a worker group's fields, got {shown(group)}."]
    faults = _unknown(path, group, _GROUP)
    if not isinstance(group.get("groupName"), str) or not group["groupName"]:
        faults.append(f"{path}.groupName must name the group, got {shown(group.get('groupName'))}.")
    low, high = group.get("minReplicas", 0), group.get("maxReplicas")
    now = group.get("replicas", low)
    if not _is_count(low) or not _is_count(high):
        faults.append(
            f"{path}.minReplicas and maxReplicas must be whole numbers of at least 0, got {shown(low)} and "
            f"{shown(high)}."
        )
    elif not _is_count(now) or not low <= now <= high:
        faults.append(f"{path} must have minReplicas <= replicas <= maxReplicas, got {low}, {shown(now)} and {high}.")
    return faults + _params_faults(path, group) + _template_faults(path, group.get("template"))


def _params_faults(path: str, group: dict[str, Any]) -> list[str]:
    params = group.get("rayStartParams", {})
    if isinstance(params, dict):
        return [
            f"{path}.rayStartParams.{key} must be a text, got {shown(value)}; put it in quotes."
            for key, value in params.items()
            if not isinstance(value, str)
        ]
    return [f"{path}.rayStartParams must be a mapping, got {shown(params)}."]


def _template_faults(path: str, template: Any) -> list[str]:
    path = f"{path}.template"
    pod = within(template, "spec")
    if not isinstance(pod, dict) or not isinstance(pod.get("containers"), list) or not pod["containers"]:
        return [
            f"{path}.spec.containers must hold the container that runs Ray, got {shown(within(pod, 'containers'))}."
        ]
    faults = _unknown(path, template, words("metadata spec")) + _unknown(f"{path}.spec", pod, _POD)
    for number, container in enumerate(pod["containers"]):
        here = f"{path}.spec.containers[{number}]"
        if not isinstance(container, dict):
            faults.append(f"{here} must hold a container's fields, got {shown(container)}.")
            continue
        faults += _unknown(here, container, _CONTAINER)
        if number == 0:  # KubeRay starts Ray in the first one
            faults += [fault for fault in [image_fault(f"{here}.image", container.get("image"))] if fault]
        for key in ("env", "volumeMounts"):
            if not isinstance(container.get(key, []), list):
                faults.append(f"{here}.{key} must be a list, got {shown(container[key])}.")
        faults += _environment_faults(here, container)
    if not isinstance(pod.get("volumes", []), list):
        return [*faults, f"{path}.spec.volumes must be a list, got {shown(pod['volumes'])}."]
    faults += _volume_faults(path, pod)
    return faults


def _environment_faults(path: str, container: dict[str, Any]) -> Iterator[str]:
    for number, variable in enumerate(_list(container, "env")):
        value = within(variable, "value")
        if value is not None and not isinstance(value, str):
            yield f"{path}.env[{number}].value must be a text, got {shown(value)}; put it in quotes."
        if within(variable, "name") == "RAY_AUTH_TOKEN" and value is not None:
            yield f"{path}.env[{number}] must take the token from a Secret (valueFrom), got it written out in the file."


def _volume_faults(path: str, pod: dict[str, Any]) -> Iterator[str]:
    there = [within(volume, "name") for volume in _list(pod, "volumes")]
    for container in pod["containers"]:
        for mount in _list(container, "volumeMounts"):
            name = within(mount, "name")
            if name not in there:
                yield f"{path}.spec.volumes must hold every volume that is mounted, got none named {shown(name)}."


def _list(node: Any, key: str) -> list[Any]:
    value = within(node, key)
    return value if isinstance(value, list) else []


def _unknown(path: str, node: dict[str, Any], known: frozenset[str]) -> list[str]:
    paths = {f"{path}.{key}".lstrip("."): value for key, value in node.items() if key not in known}
    return [
        f"{here} must be a field that KubeRay or Kubernetes knows, got it with {shown(value)}; is it misspelt?"
        for here, value in paths.items()
    ]


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
