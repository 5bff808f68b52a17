"""Check a file that describes a cluster, offline: the faults that would otherwise show minutes later, or never."""

from pathlib import Path
from typing import NamedTuple

from sweep.clusterfile.kuberay import kuberay_faults
from sweep.clusterfile.ray_up import launcher_faults
from sweep.clusterfile.schemas import unchecked
from sweep.clusterfile.yaml_file import read_description, unfilled


class Checked(NamedTuple):
    """What a file describes, a sentence for each fault, and one about what a missing package left unchecked."""

    what: str
    faults: list[str]
    missing: str | None


def check_file(file: Path) -> Checked:
    """Return what the file describes, what is wrong with it, and what could not be checked.

    Raises:
        ValueError: the file cannot be read or is nothing that describes a cluster.
    """
    description = read_description(file)
    if "kind" in description or "apiVersion" in description:
        faults = unfilled(description) + kuberay_faults(description)
        return Checked(f"{description.get('kind')} for KubeRay", faults, unchecked("kuberay"))
    if not isinstance(description.get("provider"), dict):
        raise ValueError(
            f"FILE must describe a cluster, with a mapping `provider` (for ray up) or a `kind` (for KubeRay), got "
            f"neither in {str(file)!r}."
        )
    kind = description["provider"].get("type")
    faults = unfilled(description) + launcher_faults(description)
    return Checked(f"cluster for ray up, provider {kind}", faults, unchecked(str(kind)))
