"""The code that a cluster's nodes run: this process's own, whatever is installed there."""

import json
import os
from pathlib import Path
from typing import Any

from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

PACKAGES = ("search_spaces", "sweep", "trainables")
"""What a trial imports of this project."""

ROOT = Path(__file__).resolve().parents[2]


def has_working_directory() -> bool:
    """Return whether `ray job submit --working-dir` started this process: its code is on every node then."""
    job = os.environ.get(RAY_JOB_CONFIG_JSON_ENV_VAR)
    return bool(job and (json.loads(job).get("runtime_env") or {}).get("working_dir"))


def check_output(output: str) -> None:
    """Refuse a run's folder within Ray's copy of a submitted job's working directory, which Ray deletes.

    Raises:
        ValueError: `output` leads into that copy.
    """
    if "://" in output or not has_working_directory():
        return
    if Path(output).expanduser().resolve().is_relative_to(ROOT):
        raise ValueError(
            "output must be a folder of its own or a URI in a submitted job, since Ray deletes its copy of the working "
            f"directory, got {output!r}; name one with --output."
        )


def shipped_code() -> dict[str, Any] | None:
    """Return Ray's `runtime_env` by which each node gets this process's packages, or None where it has them.

    Only the three packages are sent, some hundred kB, not the folder that they lie in, which may hold data and runs.
    """
    if has_working_directory():
        return None
    return {
        "py_modules": [str(ROOT / package) for package in PACKAGES],
        "excludes": ["__pycache__", "*.pyc"],
    }
