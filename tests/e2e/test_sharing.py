"""A node that sees another file system than the driver: storage, data, code and plugins."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.clusters import nodes
from tests.e2e.conftest import TINY, command, environment
from tests.image_sets import tiny_cifar10

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode
        != 0,
        reason="a file system of its own for a node takes Linux and its administrator",
    ),
]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the other node does not see, in which a copy of the code lies."""
    folder = tmp_path_factory.mktemp("here")
    for package in ("analysis", "search_spaces", "sweep", "trainables"):
        shutil.copytree(ROOT / package, folder / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "code" / "trainables" / "architectures.py").open("a") as file:
        file.write(VARIANT.format("of-this-copy"))
    return folder


VARIANT = """

from torch import nn as own_nn


@register_variant("{}")
def _own(options, num_classes):
    return own_nn.Sequential(own_nn.Flatten(), own_nn.Linear(3 * 32 * 32, num_classes))
"""


@pytest.fixture(scope="module")
def run(here: Path) -> Iterator[Run]:
    """Return a function that runs the copy's command line on a cluster whose trials run on the node apart."""
    with nodes({"num_cpus": 0}) as cluster:
        cluster.add_apart(here, num_cpus=1)

        def run_there(output: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command(Path(output), *arguments, "--address", cluster.address),
                capture_output=True,
                text=True,
                cwd=here / "code",
                env=environment() | {"PYTHONPATH": str(here / "code")},
            )

        yield run_there


def test_storage_that_a_node_does_not_share_is_refused(run: Run, here: Path) -> None:
    output = here / "runs"
    done = run(output, "quickstart", *TINY, "--name", "apart")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(
        f"error: output must be a folder that all nodes share or a URI that all can reach, got '{output / 'apart'}', "
        "which the node "
    )
    assert "does not share: what is written here is not there; name an NFS folder or a URI" in done.stderr
    assert done.stderr.count("\n") == 1
    # Nothing of the question is left, and nothing was begun.
    assert [file.name for file in (output / "apart").iterdir()] == [".lock"]


def test_data_that_a_node_lacks_are_refused(run: Run, here: Path, tmp_path: Path) -> None:
    data = tiny_cifar10(here / "data")
    small = ("--train-size", "20", "--epochs", "1", "--width", "0.05", "--protocol", "paper")
    done = run(tmp_path, "cifar10", "--data", str(data), *small, "--name", "lacking")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"error: The data must be on every node or at a URI, got '{data}', which the node ")
    assert done.stderr.endswith(" does not have; copy them there or name a shared folder or a URI with --data.\n")


@pytest.mark.parametrize("workers", [(), ("--workers-per-trial", "1")], ids=["in-process", "group"])
def test_code_and_plugins_reach_a_node_that_has_neither(
    run: Run, here: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    plugin = here / "my_variants.py"
    plugin.write_text("from trainables.architectures import register_variant\n" + VARIANT.format("of-the-plugin"))
    done = run(
        tmp_path,
        *("quickstart", *TINY, "--plugins", str(plugin), "--variants", "of-this-copy", "of-the-plugin"),
        *("--learning-rates", "0.001", *workers, "--name", "code"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = Store(str(tmp_path / "code")).read_trials().to_pylist()
    assert {row["variant"]: row["state"] for row in rows} == {"of-this-copy": "completed", "of-the-plugin": "completed"}
