"""Several nodes: where trials run, and what happens to them when a node is lost."""

import subprocess
import time
from pathlib import Path

import pytest

from sweep.store import Store
from tests.clusters import nodes
from tests.e2e.conftest import command, environment, without_times

SMALL = (
    *("quickstart", "--protocol", "paper", "--variants", "strided-cnn-a", "--learning-rates", "0.01", "0.02"),
    *("--train-size", "400", "--epochs", "30", "--width", "0.1", "--precision", "float32"),
    *("--memory-format", "contiguous"),
)


@pytest.mark.parametrize("workers", [(), ("--workers-per-trial", "1")], ids=["in-process", "group"])
def test_a_lost_node_disturbs_its_own_trial_only(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with nodes({"num_cpus": 0}, {"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        process = subprocess.Popen(
            command(tmp_path, *SMALL, *workers, "--address", cluster.address, "--name", "cut"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        store = Store(str(tmp_path / "cut"))
        # Once both have kept an epoch.
        both = [tmp_path / "cut" / "checkpoints" / f"shapes_none_strided-cnn-a_000{n}" / "last.pt" for n in range(2)]
        while process.poll() is None and not all(file.exists() for file in both):
            time.sleep(0.05)
        cluster.lose(2)
        said, errors = process.communicate()
    assert process.returncode == 0, said + errors
    assert said.count("node lost") == 1
    assert "elsewhere" in said
    rows = store.read_trials().to_pylist()
    assert [row["state"] for row in rows] == ["completed", "completed"]
    assert sorted(row["preemptions"] for row in rows) == [0, 1]
    # What it had trained was not trained again: the record is that of an undisturbed run.
    whole = subprocess.run(
        command(tmp_path, *SMALL, "--name", "whole"), capture_output=True, text=True, env=environment()
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    ours, theirs = without_times(store), without_times(Store(str(tmp_path / "whole")))
    assert ours[1] == theirs[1]
