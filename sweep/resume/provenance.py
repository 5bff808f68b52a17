"""By which code, on what, a run was made: what study.json keeps beside the study."""

import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from sweep.cluster.preflight import installed_version
from sweep.execution.plan import Plan
from sweep.record.document import Change, Code, Data, Execution, Extension, Hardware, RunDocument
from sweep.study.diff import Difference, Plugin
from sweep.study.study import Study

PACKAGES = ("all-cnn-sweep", "torch", "torchvision", "ray", "optuna", "numpy", "pyarrow", "pillow", "kornia")


def describe_run(plan: Plan, arguments: Sequence[str]) -> RunDocument:
    """Return the contents of study.json: the study, its data, the command, the code and the hardware."""
    return RunDocument(
        study=plan.study,
        planned_trials=plan.trials,
        placement=plan.asked,
        workers=plan.placement.workers,
        plugins=plugin_checksums(plan.study.base.plugins),
        data={
            name: Data(
                checksum=data.checksum,
                train_images=len(data.train),
                test_images=len(data.test),
                num_classes=data.num_classes,
                generated=data.generated,
            )
            for name, data in plan.datasets.items()
        },
        executions=(_execution(plan, arguments),),
    )


def describe_resumption(
    document: RunDocument,
    plan: Plan,
    arguments: Sequence[str],
    *,
    study: Study,
    changed: Sequence[Difference] = (),
    planned_trials: int,
) -> RunDocument:
    """Return study.json with one more entry in `executions`: by which code, on what, the run is resumed.

    Where it was extended, what is planned is the larger study, and `extended` has one more entry: what was changed,
    when and by which command.

    Args:
        document: study.json as it is.
        plan: what is run.
        arguments: the command line as it was typed.
        study: what is run, as it is to be recorded.
        changed: what an extension changes; empty where the run is only resumed.
        planned_trials: trials that the run will hold, where it was extended.
    """
    now = _execution(plan, arguments)
    document = replace(document, executions=(*document.executions, now))
    if not changed:
        return document
    changes = {each.setting: Change(recorded=each.recorded, given=each.given) for each in changed}
    extension = Extension(created=now.created, command=now.command, changes=changes)
    return replace(
        document,
        study=study,
        plugins=plugin_checksums(study.base.plugins),
        planned_trials=planned_trials,
        extended=(*document.extended, extension),
    )


def with_gpu_sharing(document: RunDocument, way: str | None) -> RunDocument:
    """Return study.json with how trials that share a GPU do so in the latest execution.

    Args:
        document: study.json as it is.
        way: `mps`, `time-slicing` or `mps on some nodes`; None where no node with GPUs is up yet.
    """
    *earlier, last = document.executions
    return replace(document, executions=(*earlier, replace(last, gpu_sharing=way)))


def plugin_checksums(paths: Iterable[str]) -> tuple[Plugin, ...]:
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
        found.append(Plugin(file=path.name, sha256=digest))
    return tuple(found)


def changes(document: RunDocument, plan: Plan) -> list[str]:
    """Return in words what has changed since the run began, of what can change a trial's numbers."""
    began, now = asdict(document.executions[0]), asdict(_execution(plan, []))
    return [
        f"{part} {name} was {began[part].get(name)} when the run began and is {value} now"
        for part in ("code", "packages", "hardware")
        for name, value in now[part].items()
        if began[part].get(name) != value and name not in ("cpus", "gpus")
    ]


def _execution(plan: Plan, arguments: Sequence[str]) -> Execution:
    return Execution(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "sweep.run", *arguments),
        code=_code(),
        packages={name: installed_version(name) for name in PACKAGES} | {"python": platform.python_version()},
        hardware=Hardware(
            cpus=plan.cluster.cpus,
            gpus=plan.cluster.gpus,
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            machine=platform.machine(),
            system=sys.platform,
        ),
    )


def _code() -> Code:
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    return Code(commit=commit, altered=bool(_git(folder, "status", "--porcelain")) if commit else None)


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
