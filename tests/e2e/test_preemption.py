"""A node that its cloud is about to take back: the watcher tells the cluster, and the trial there leaves by itself."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sweep.cluster import spot
from sweep.cluster.spot import Aws
from sweep.record.store import Store
from tests.cluster.metadata import Ec2, serving
from tests.clusters import nodes
from tests.e2e.conftest import command, environment, without_times

pytestmark = pytest.mark.cluster

# Far longer than a notice takes to reach it.
LONG = (
    *("quickstart", "--protocol", "paper", "--variants", "strided-cnn-a", "--learning-rates", "0.01"),
    *("--train-size", "1000", "--epochs", "50", "--width", "0.1", "--precision", "float32"),
    *("--set", "memory_format=contiguous"),
)


@pytest.mark.parametrize("workers", [0, 2], ids=["in-process", "group"])
def test_a_trial_leaves_a_node_that_got_notice(
    tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--workers-per-trial", str(workers)) if workers else ()
    with nodes({"num_cpus": 0}, *[{"num_cpus": 1}] * max(1, workers)) as cluster:
        run = subprocess.Popen(
            command(tmp_path, *LONG, *size, "--address", cluster.address, "--name", "left"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        kept = tmp_path / "left" / "checkpoints" / "shapes_none_strided-cnn-a_0000" / "last.pt"
        while run.poll() is None and not kept.exists():
            time.sleep(0.05)
        cluster.add(num_cpus=1)
        ends = datetime.now(UTC) + timedelta(seconds=120)
        notice = f'{{"action": "terminate", "time": "{ends:%Y-%m-%dT%H:%M:%SZ}"}}'
        with serving(Ec2(lambda: notice)) as host:
            assert spot.run(Aws(host), cluster.address, cluster.node_id(1)) == 0
        printed = capsys.readouterr().out
        assert "notice: EC2 will terminate this instance" in printed
        assert printed.endswith("drained: trials resume elsewhere\n")
        said, errors = run.communicate()
    assert run.returncode == 0, said + errors
    assert said.count("node lost") == 1
    (row,) = Store(str(tmp_path / "left")).read_trials().to_pylist()
    assert (row["state"], row["preemptions"]) == ("completed", 1)
    whole = subprocess.run(
        command(tmp_path, *LONG, *size, "--name", "whole"), capture_output=True, text=True, env=environment()
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    ours, theirs = without_times(Store(str(tmp_path / "left"))), without_times(Store(str(tmp_path / "whole")))
    assert ours[1] == theirs[1]
