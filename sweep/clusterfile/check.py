"""Check a file that describes a cluster, offline: the faults that would otherwise show minutes later, or never."""

from pathlib import Path

from sweep.clusterfile.kuberay import kuberay_faults
from sweep.clusterfile.ray_up import launcher_faults
from sweep.clusterfile.yaml_file import read_description, unfilled


def check_file(file: Path) -> tuple[str, list[str]]:
    """Return what the file describes, in a few words, and a sentence for each fault of it.

    Raises:
        ValueError: the file cannot be read or is nothing that describes a cluster.
    """
    description = read_description(file)
    if "kind" in description or "apiVersion" in description:
        return f"{description.get('kind')} for KubeRay", unfilled(description) + kuberay_faults(description)
    if not isinstance(description.get("provider"), dict):
        raise ValueError(
            f"FILE must describe a cluster, with a mapping `provider` (for ray up) or a `kind` (for KubeRay), got "
            f"neither in {str(file)!r}."
        )
    kind = description["provider"].get("type")
    return f"cluster for ray up, provider {kind}", unfilled(description) + launcher_faults(description)
