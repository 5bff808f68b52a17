"""By which code, on what, a run was made: what study.json keeps beside the study."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sweep.plan import Plan

PACKAGES = ("all-cnn-sweep", "torch", "torchvision", "ray", "optuna", "numpy", "pyarrow", "pillow", "kornia")


def describe_run(plan: Plan, arguments: list[str]) -> dict[str, Any]:
    """Return the contents of study.json: the study, its data, the command, the code and the hardware."""
    return {
        "study": plan.study.to_dict(),
        "planned_trials": plan.trials,
        "placement": dict(plan.asked),
        "workers": plan.placement.workers,
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


def describe_resumption(document: Mapping[str, Any], plan: Plan, arguments: list[str]) -> dict[str, Any]:
    """Return study.json with one more entry in `resumed`: by which code, on what, the run goes on."""
    entry = {
        "command": ["python", "-m", "sweep.run", *arguments],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_surroundings(plan),
    }
    return {**document, "resumed": [*document.get("resumed", []), entry]}


def changes(document: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return in words what has changed since study.json was written, of what can change a trial's numbers."""
    found = []
    for part, now in _surroundings(plan).items():
        was = document.get(part, {})
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
