"""A laptop with the project, and a cloud: what somebody has who is about to type `ray up cluster.yaml`."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cloud import Cloud
from tests.cluster.machines import Machines, give, why_not

ROOT = Path(__file__).resolve().parents[2]
SPOT, ON_DEMAND = ("spot-1", "spot-2"), ("on-demand",)
RUNS = "/run/shared/runs"


@pytest.fixture
def cloud(real_data: str) -> Iterator[Cloud]:
    """Return a cloud whose machines are off, but for the laptop; all of it is gone afterwards."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    seen = (Path(sys.prefix), Path(sys.base_prefix), Path(real_data).resolve())
    machines = Machines(("laptop", "head", *SPOT, *ON_DEMAND), seen, _image)
    try:
        machines.start("laptop")
        home = machines.home("laptop")
        _copy_project(home / "all-cnn-sweep")
        (home / "cluster.yaml").write_text(yaml.safe_dump(description(real_data), width=10_000))
        give(home)
        cloud = Cloud(machines)
        try:
            yield cloud
        finally:
            cloud.close()
    finally:
        machines.close()


def description(data: str) -> dict[str, Any]:
    """Return what the project's cluster.yaml says, filled in, with machines of this cloud in place of AWS's."""
    text = (ROOT / "cluster.yaml").read_text()
    assert "--output s3://FILL_IN/runs" in text
    cluster: dict[str, Any] = yaml.safe_load(text.replace("s3://FILL_IN/runs", f"{RUNS} --data {data}"))
    cluster["provider"] = {
        "type": "external",
        "module": "tests.cluster.provider.NamespaceProvider",
        "use_internal_ips": True,
    }
    cluster["auth"] = {"ssh_user": "ubuntu", "ssh_private_key": "~/.ssh/key"}
    cluster["file_mounts"]["~/all-cnn-sweep"] = "~/all-cnn-sweep"  # the working directory is the laptop's home
    cluster["max_workers"] = len(SPOT)
    kinds = cluster["available_node_types"]
    assert set(kinds) == {"head", "gpu_spot", "gpu_on_demand"}
    for kind, pool in (("head", ("head",)), ("gpu_spot", SPOT), ("gpu_on_demand", ON_DEMAND)):
        kinds[kind]["node_config"] = {"pool": list(pool)}
    for kind, pool in (("gpu_spot", SPOT), ("gpu_on_demand", ON_DEMAND)):
        kinds[kind] |= {"resources": {"CPU": 1}, "max_workers": len(pool)}
    cluster["head_setup_commands"] = []  # boto3, from a package index
    # What Ray adds for the providers that it knows.
    return {"cluster_synced_files": [], "file_mounts_sync_continuously": False} | cluster


def _image(home: Path) -> None:
    """Fill a new machine's home as an image would: the project's environment is there, in this process's version."""
    environment = home / "sweep-venv"
    environment.mkdir()
    for part in ("bin", "lib"):
        (environment / part).symlink_to(Path(sys.prefix) / part)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", environment)
    # What scripts/node looks at before it installs anything; there is no network to install from.
    command = f"cat {ROOT}/pyproject.toml {ROOT}/constraints.txt | cksum"
    stamp = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout  # noqa: S602
    (environment / "installed").write_text(stamp.rstrip("\n"))
    # An editable installation would have made the project known to Python.
    (home / ".bashrc").write_text("export PATH=$HOME/sweep-venv/bin:$PATH PYTHONPATH=$HOME/all-cnn-sweep\n")


def _copy_project(folder: Path) -> None:
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
