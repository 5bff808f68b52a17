"""Several nodes: where trials run, and what happens to them when a node is lost."""

import subprocess
import time
from pathlib import Path

import pytest

from sweep.cluster.connect import TOKEN_FILE
from sweep.record.store import Store
from tests.clusters import nodes
from tests.e2e.conftest import command, environment, without_times

SMALL = (
    *("quickstart", "--protocol", "paper", "--learning-rates", "0.01", "0.02", "--train-size", "400"),
    *("--width", "0.1", "--precision", "float32", "--set", "memory_format=contiguous"),
)


GROUP = pytest.param(("--workers-per-trial", "1"), marks=pytest.mark.cluster)


@pytest.mark.parametrize("workers", [(), GROUP], ids=["in-process", "group"])
def test_a_lost_node_disturbs_its_own_trial_only(tmp_path: Path, workers: tuple[str, ...]) -> None:
    study = (*SMALL, "--variants", "strided-cnn-a", "--epochs", "20")
    with nodes({"num_cpus": 0}, {"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        process = subprocess.Popen(
            command(tmp_path, *study, *workers, "--address", cluster.address, "--name", "cut"),
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
        command(tmp_path, *study, "--name", "whole"), capture_output=True, text=True, env=environment()
    )
    assert whole.returncode == 0, whole.stdout + whole.stderr
    ours, theirs = without_times(store), without_times(Store(str(tmp_path / "whole")))
    assert ours[1] == theirs[1]


@pytest.mark.cluster
def test_from_no_worker_a_head_s_run_joins_and_waits_for_nodes(tmp_path: Path) -> None:
    # What `ray up` leaves on the head.
    (tmp_path / "ray_bootstrap_config.yaml").write_text(
        "{head_node_type: head, max_workers: 2, available_node_types: {head: {resources: {CPU: 0}}, "
        "worker: {resources: {CPU: 1}, max_workers: 2}}}"
    )
    with nodes({"num_cpus": 0}) as cluster:
        at_home = environment() | dict(cluster.variables) | {"HOME": str(tmp_path)}
        at_home |= {"RAY_AUTH_TOKEN_PATH": str(TOKEN_FILE), "SWEEP_CACHE": str(tmp_path / "cache")}
        study = (*SMALL, "--variants", "strided-cnn-a", "--epochs", "2")
        never = subprocess.run(
            command(tmp_path, *study, "--workers-per-trial", "3", "--name", "never"),
            capture_output=True,
            text=True,
            env=at_home,
        )
        assert never.returncode == 2, never.stdout + never.stderr
        # Before it Ray may say that there are other clusters on this machine.
        assert never.stderr.splitlines()[-1] == (
            f"error: workers_per_trial must leave one trial within the 2 CPUs of {cluster.address}, got 3, which needs "
            "3."
        )
        process = subprocess.Popen(
            command(tmp_path, *study, "--name", "grown"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=at_home,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            # The cluster grows only once the run has said that it waits.
            if line.lstrip().startswith("waiting  2 trials for room on the cluster, while 0 run"):
                cluster.add(num_cpus=1)
                cluster.add(num_cpus=1)
        _, errors = process.communicate()
    assert process.returncode == 0, said + errors
    assert "Joining the Ray cluster at auto, named by " in said
    assert f"{cluster.address} with 2 CPUs and 0 GPUs once it has grown: 2 trials at once" in said
    assert "waiting for  nodes: the 1 node up now has room for 0 trials, and the cluster grows as trials ask" in said
    assert [row["state"] for row in Store(str(tmp_path / "grown")).read_trials().to_pylist()] == ["completed"] * 2


@pytest.mark.cluster
def test_two_runs_at_once_on_one_cluster_disturb_each_other_in_one_folder_only(tmp_path: Path) -> None:
    with nodes({"num_cpus": 2}) as cluster:

        def begin(name: str, *study: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                command(tmp_path, *study, "--address", cluster.address, "--name", name),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )

        first, second = (
            begin(name, *SMALL, "--epochs", "12", "--variants", variant)
            for name, variant in (("first", "strided-cnn-a"), ("second", "all-cnn-a"))
        )
        lock = tmp_path / "first" / "study.json"
        while first.poll() is None and not lock.exists():
            time.sleep(0.05)
        third = begin("first", "--resume")
        _, refused = third.communicate()
        for process in (first, second):
            said, errors = process.communicate()
            assert process.returncode == 0, said + errors
    assert third.returncode == 2
    assert refused.startswith("error: A run must be written by one process, got ")
    # Neither has run the other's trials or settings, which Ray Tune once kept under one name.
    for name, variant in (("first", "strided-cnn-a"), ("second", "all-cnn-a")):
        rows = Store(str(tmp_path / name)).read_trials().to_pylist()
        assert [(row["state"], row["variant"], row["epochs_run"]) for row in rows] == [("completed", variant, 12)] * 2


@pytest.mark.cluster
def test_a_trial_over_two_nodes_that_loses_one_goes_on_over_two_others(tmp_path: Path) -> None:
    one = ("quickstart", "--protocol", "paper", "--variants", "strided-cnn-a", "--learning-rates", "0.01")
    small = (*one, "--train-size", "400", "--width", "0.1", "--epochs", "12", "--set", "dropout=0", "input_dropout=0")
    small = (*small, "--precision", "float32", "--set", "memory_format=contiguous")
    with nodes({"num_cpus": 0}, {"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        process = subprocess.Popen(
            command(tmp_path, *small, "--workers-per-trial", "2", "--address", cluster.address, "--name", "cut"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        kept = tmp_path / "cut" / "checkpoints" / "shapes_none_strided-cnn-a_0000" / "last.pt"
        while process.poll() is None and not kept.exists():
            time.sleep(0.05)
        cluster.lose(1)
        cluster.add(num_cpus=1)
        said, errors = process.communicate()
    assert process.returncode == 0, said + errors
    store = Store(str(tmp_path / "cut"))
    (row,) = store.read_trials().to_pylist()
    assert (row["state"], row["preemptions"], row["epochs_run"]) == ("completed", 1, 12)
    for name, workers in (("whole", ("--workers-per-trial", "2")), ("alone", ())):
        done = subprocess.run(
            command(tmp_path, *small, *workers, "--name", name), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
    cut, whole, alone = (without_times(Store(str(tmp_path / name)))[1] for name in ("cut", "whole", "alone"))
    assert cut == whole
    # One worker and two have the same curve, but for the rounding of sums.
    losses = [[row["train_loss"] for row in rows] for rows in (cut, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
