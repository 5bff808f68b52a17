"""By which code, on what, a run was made: what study.json keeps beside the study."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sweep.execution.plan import Plan
from sweep.study.diff import Difference
from sweep.study.study import Study

PACKAGES = ("all-cnn-sweep", "torch", "torchvision", "ray", "optuna", "numpy", "pyarrow", "pillow", "kornia")


def describe_run(plan: Plan, arguments: list[str]) -> dict[str, Any]:
    """Return the contents of study.json: the study, its data, the command, the code and the hardware."""
    return {
        "study": plan.study.to_dict(),
        "planned_trials": plan.trials,
        "placement": dict(plan.asked),
        "workers": plan.placement.workers,
        "plugins": plugin_checksums(plan.study.base.plugins),
        "data": {
            name: {
                "checksum": data.checksum,
                "train_images": len(data.train),
                "test_images": len(data.test),
                "num_classes": data.num_classes,
                "generated": data.generated,
            }
            for name, data in plan.datasets.items()
        },
        "command": ["python", "-m", "sweep.run", *arguments],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_surroundings(plan),
    }


def describe_resumption(
    document: Mapping[str, Any],
    plan: Plan,
    arguments: list[str],
    *,
    study: Study,
    changed: Sequence[Difference] = (),
    planned_trials: int,
) -> dict[str, Any]:
    """Return study.json with one more entry in `resumed`: by which code, on what, the run goes on.

    Where it was extended, what is planned is the larger study, and `extended` has one more entry: what was changed,
    when and by which command.

    Args:
        document: study.json as it is.
        plan: what is run.
        arguments: the command line as it was typed.
        study: what is run, as it is to be recorded.
        changed: what an extension changes; empty where the run merely goes on.
        planned_trials: trials that the run will hold, where it was extended.
    """
    when = {
        "command": ["python", "-m", "sweep.run", *arguments],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found = {**document, "resumed": [*document.get("resumed", []), when | _surroundings(plan)]}
    if not changed:
        return found
    changes = {each.setting: {"recorded": each.recorded, "given": each.given} for each in changed}
    return found | {
        "study": study.to_dict(),
        "plugins": plugin_checksums(study.base.plugins),
        "planned_trials": planned_trials,
        "extended": [*document.get("extended", []), when | {"changes": changes}],
    }


def with_gpu_sharing(document: Mapping[str, Any], way: str | None) -> dict[str, Any]:
    """Return study.json with how trials that share a GPU do so in the latest execution, `gpu_sharing`.

    Args:
        document: study.json as it is.
        way: `mps`, `time-slicing` or `mps on some nodes`; None where no node with GPUs is up yet.
    """
    resumed = list(document.get("resumed", []))
    if not resumed:
        return {**document, "gpu_sharing": way}
    return {**document, "resumed": [*resumed[:-1], resumed[-1] | {"gpu_sharing": way}]}


def plugin_checksums(paths: Iterable[str]) -> list[dict[str, str]]:
    """Return the name and the SHA-256 of each of the user's Python files, in their order.

    Raises:
        ValueError: one is not there, or cannot be read.
    """
    found = []
    for path in map(Path, paths):
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"plugins must be existing Python files, got {str(path)!r} ({error.strerror}).") from error
        found.append({"file": path.name, "sha256": digest})
    return found


def changes(document: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return in words what has changed since study.json was written, of what can change a trial's numbers."""
    found = []
    for part, now in _surroundings(plan).items():
        was = document[part]
        found += [
            f"{part} {name} was {was.get(name)} when the run began and is {value} now"
            for name, value in now.items()
            if was.get(name) != value and name not in ("cpus", "gpus")
        ]
    return found


def _surroundings(plan: Plan) -> dict[str, dict[str, Any]]:
    return {
        "code": _code(),
        "packages": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "hardware": {
            "cpus": plan.cluster.cpus,
            "gpus": plan.cluster.gpus,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "machine": platform.machine(),
            "system": sys.platform,
        },
    }


def _code() -> dict[str, Any]:
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    return {"commit": commit, "altered": bool(_git(folder, "status", "--porcelain")) if commit else None}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
