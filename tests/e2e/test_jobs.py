"""Runs that `ray job submit` starts: to their end, and stopped in the middle."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.clusters import Nodes, nodes
from tests.e2e.conftest import TINY, command, environment

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes({"num_cpus": 1}) as running:
        # The process that takes jobs comes up some seconds after the node.
        for _ in range(60):
            if "No available agent" not in (said := ray(running, "submit", "--", "true", expected=None)):
                break
            time.sleep(1)
        else:
            pytest.fail(f"nothing takes jobs: {said}")
        yield running


def ray(cluster: Nodes, *arguments: str, expected: int | None = 0) -> str:
    """Run the command line of Ray as a user does, with a token, and return what it says.

    Args:
        cluster: where.
        arguments: the subcommand of `ray job` and its own.
        expected: exit status; None for any.
    """
    job, *rest = arguments
    done = subprocess.run(
        [RAY, "job", job, "--address", cluster.dashboard, *rest],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in environment().items() if name != "PYTHONPATH"} | {"RAY_AUTH_MODE": "token"},
    )
    assert expected in (None, done.returncode), done.stdout + done.stderr
    return done.stdout + done.stderr


def submit(cluster: Nodes, name: str, *entrypoint: str, wait: bool = True, expected: int = 0) -> str:
    # A stopped run may take half a minute to end its trials; Ray's own patience is 3 s.
    patience = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}})
    options = ("--submission-id", name, "--working-dir", ".", "--runtime-env-json", patience)
    return ray(cluster, "submit", *options, *([] if wait else ["--no-wait"]), "--", *entrypoint, expected=expected)


def test_a_submitted_run_joins_its_cluster_and_ends(cluster: Nodes, tmp_path: Path) -> None:
    study = ("quickstart", *TINY, "--variants", "strided-cnn-a", "--learning-rates", "0.01", "--name", "job")
    said = submit(cluster, "whole", *command(tmp_path, *study))
    assert f"Joining the Ray cluster at {cluster.address}, named by RAY_ADDRESS." in said
    assert "| strided-cnn-a" in said
    assert [row["state"] for row in Store(str(tmp_path / "job")).read_trials().to_pylist()] == ["completed"]


def test_a_submitted_run_keeps_its_record_out_of_ray_s_copy_of_the_code(cluster: Nodes) -> None:
    said = submit(cluster, "inside", sys.executable, "-m", "sweep.run", "quickstart", *TINY, expected=1)
    assert "error: output must be a folder of its own or a URI in a submitted job, since Ray deletes its copy" in said
    assert "Traceback" not in said


def test_a_stopped_job_closes_its_record_and_can_be_gone_on_with(cluster: Nodes, tmp_path: Path) -> None:
    study = (
        *("quickstart", "--protocol", "paper", "--variants", "strided-cnn-a", "--learning-rates", "0.01", "0.02"),
        *("--train-size", "400", "--epochs", "60", "--width", "0.1"),
    )
    submit(cluster, "long", *command(tmp_path, *study, "--name", "cut"), wait=False)
    first = tmp_path / "cut" / "checkpoints" / "shapes_none_strided-cnn-a_0000" / "last.pt"
    while not first.exists():
        assert "RUNNING" in (status := ray(cluster, "status", "long")) or "PENDING" in status, ray(
            cluster, "logs", "long"
        )
        time.sleep(0.5)
    assert "long" in ray(cluster, "stop", "long")
    said = ray(cluster, "logs", "long")
    assert "Stopped by SIGTERM. Everything is saved; 2 trials are left. Resume with: " in said
    assert "Traceback" not in said
    store = Store(str(tmp_path / "cut"))
    (row, *others) = store.read_trials().to_pylist()
    assert not others
    assert (row["state"], row["reason"]) == ("pending", f"interrupted after epoch {row['epochs_run']}")
    assert 1 <= row["epochs_run"] < 60
    # What it says works, as the next job.
    again = said.split("Resume with: ")[1].splitlines()[0].split()
    said = submit(cluster, "again", *again)
    assert "2 trials, 120 epochs" in said
    assert [row["state"] for row in store.read_trials().to_pylist()] == ["completed", "completed"]
