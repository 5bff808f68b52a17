"""The cluster files that the project ships: good once filled in, pinned to one Ray, and complete on a node."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sweep.cluster.__main__ import main
from sweep.clusterfile.versions import pinned_ray
from tests.cluster_files import ROOT, SHIPPED, VALUES, check, filled

LAUNCHED = SHIPPED[:3]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_good_once_it_is_filled_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert check(tmp_path, capsys, filled(name)) == []


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("cluster.yaml", ["metadata.image", "metadata.security_group", "metadata.set_up"]),
        (
            "clusters/local.yaml",
            ["provider.head_ip", "provider.worker_ips[0]", "auth.ssh_user", "auth.ssh_private_key", "metadata.set_up"],
        ),
        (
            "clusters/gcp.yaml",
            ["provider.project_id", "metadata.image", "metadata.subnetwork", "metadata.account", "metadata.set_up"],
        ),
        ("clusters/kuberay.yaml", ["metadata.annotations.all-cnn-sweep/image", "spec.entrypoint"]),
    ],
)
def test_a_shipped_file_says_what_is_to_be_filled_in(
    capsys: pytest.CaptureFixture[str], name: str, paths: list[str]
) -> None:
    assert main(["check", str(ROOT / name)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" must be filled in, got ")[0] for line in said] == [f"error: {path}" for path in paths]
    # They stand at the top: before anything that need not be touched.
    text = (ROOT / name).read_text()
    assert text.rindex("FILL_IN") < text.index("# To leave alone." if name in LAUNCHED else "backoffLimit")


@pytest.mark.parametrize("name", [*SHIPPED, "clusters/Dockerfile"])
def test_a_shipped_file_names_the_pinned_version_of_ray_and_no_other(name: str) -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    (pinned,) = re.findall(r"^ray==(.+)$", constraints, re.MULTILINE)
    assert pinned_ray() == pinned
    named = re.findall(r"\b2\.\d+\.\d+\b", (ROOT / name).read_text())
    assert named
    assert set(named) == {pinned}


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("name", LAUNCHED)
def test_all_of_the_project_and_nothing_else_reaches_a_node(tmp_path: Path, name: str) -> None:
    description = yaml.safe_load(filled(name))
    source = tmp_path / "project"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in listed.splitlines():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).touch()
    shutil.copy(ROOT / ".gitignore", source)
    for path in (".git/config", ".venv/bin/python", "runs/a/study.json", "data/cifar10.bin", "sweep/__pycache__/a.pyc"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).touch()
    # As Ray's command runner calls it.
    excludes = [part for pattern in description["rsync_exclude"] for part in ("--exclude", pattern)]
    filters = [part for file in description["rsync_filter"] for part in ("--filter", f"dir-merge,- {file}")]
    subprocess.run(["rsync", "-a", *excludes, *filters, f"{source}/", f"{tmp_path}/node/"], check=True)
    arrived = {
        file.relative_to(tmp_path / "node").as_posix() for file in (tmp_path / "node").rglob("*") if file.is_file()
    }
    assert arrived == set(listed.splitlines())


def test_values_are_there_for_every_shipped_file() -> None:
    assert set(VALUES) == set(SHIPPED)
    assert {file.relative_to(ROOT).as_posix() for file in (ROOT / "clusters").glob("*.yaml")} == set(SHIPPED[1:])
