"""The whole path on machines: `ray up`, a run from no workers, a spot reclaim and a dead machine in it, `ray down`."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.record.store import Store
from tests.cluster.cloud import Cloud
from tests.cluster.conftest import SPOT
from tests.e2e.conftest import environment, without_times

pytestmark = pytest.mark.cluster

EPOCHS = 24
"""So many that a trial takes far longer than a notice takes to reach it."""

STUDY = (
    *("cifar10", "--variants", "strided-cnn-c", "all-cnn-c", "--learning-rates", "0.01", "0.005"),
    *("--epochs", str(EPOCHS), "--width", "0.15", "--train-size", "2000", "--batch-size", "32", "--seeds", "1"),
    *("--early-stopping", "none"),
    # Measured on a busy machine these may come out either way.
    *("--precision", "float32"),
    *("--set", "memory_format=contiguous", "class_relu=no", "input_dropout=0", "dropout=0.1"),
)
TRIALS = 6
"""Two variants at two learning rates, and the better one of each confirmed."""

PATIENCE_S = 900.0
"""How long anything may take on a busy machine; how long it does take decides nothing."""

ARITHMETIC = ("ATEN_", "DNNL_", "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_")
"""Variables by which libraries choose kernels, and so how they round. Machines have none of this process's."""

NOTICE_S = 120.0
"""What EC2 gives."""


def wait_for(condition: Callable[[], Any], what: str, run: subprocess.Popen[str], output: Path) -> Any:
    """Return the condition's value once it is true; give up where the run has ended or nothing comes of it."""
    begun = time.monotonic()
    while not (value := condition()):
        assert run.poll() is None, f"the run ended before {what}:\n{output.read_text()}"
        assert time.monotonic() - begun < PATIENCE_S, f"waited in vain for {what}:\n{output.read_text()}"
        time.sleep(0.3)
    return value


def rows(store: Store) -> list[dict[str, Any]]:
    """Return the rows of `trials` while the run goes on."""
    return store.read_trials().to_pylist() if store.exists() else []


def busy(store: Store, machine: str) -> str | None:
    """Return the trial that runs on a machine, if it has kept an epoch and has more before it than behind."""
    for row in rows(store):
        if row["state"] == "running" and row["node"] == machine and 1 <= row["epochs_run"] < EPOCHS / 2:
            return str(row["trial_id"])
    return None


def preemptions(store: Store, trial: str) -> int:
    """Return how often a trial was sent away from a node."""
    (row,) = (row for row in rows(store) if row["trial_id"] == trial)
    return int(row["preemptions"])


def without_nodes(store: Store) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return both tables without times, and without what says where trials ran and how often they moved."""
    trials, epochs = without_times(store)
    for row in trials:
        row.pop("preemptions", None)
    return trials, epochs


def table(store: Store) -> str:
    """Return a run's table as CSV."""
    command = [sys.executable, "-m", "analysis", "table", store.location, "--format", "csv"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_run_on_spot_machines_comes_to_the_table_of_an_undisturbed_one(
    cloud: Cloud, real_data: str, tmp_path: Path
) -> None:
    # The same on this machine, with nothing in its way but the wish to be done at the same time.
    ours = (*STUDY, "--data", real_data, "--output", str(tmp_path), "--name", "whole", "--address", "local")
    whole_output = tmp_path / "whole-output"
    with whole_output.open("w") as file:
        undisturbed = subprocess.Popen(
            ["nice", sys.executable, "-m", "sweep.run", *ours],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in environment().items() if not name.startswith(ARITHMETIC)},
        )
    try:
        store = disturbed(cloud, tmp_path / "output")
        assert undisturbed.wait(PATIENCE_S) == 0, whole_output.read_text()
    finally:
        undisturbed.terminate()  # it ends its trials, and Ray
        undisturbed.wait(PATIENCE_S)
    whole = Store(str(tmp_path / "whole"))
    ended = rows(store)
    assert len(ended) == TRIALS
    assert {row["state"] for row in ended} == {"completed"}
    assert sum(row["preemptions"] for row in ended) >= 2
    assert {row["preemptions"] for row in rows(whole)} == {0}
    assert without_nodes(store) == without_nodes(whole)
    assert table(store) == table(whole)
    assert "strided-cnn-c" in table(store)


def disturbed(cloud: Cloud, output: Path) -> Store:
    """Run the study on the cloud from `ray up` to `ray down`, a machine taken back and another one lost in it."""
    laptop, machines = "laptop", cloud.machines
    machines.run(laptop, "(umask 077; ray get-auth-token --generate >/dev/null)")
    with (machines.home(laptop) / ".bashrc").open("a") as profile:
        profile.write("export RAY_AUTH_MODE=token\n")
    machines.run(laptop, "ray up -y --no-config-cache --disable-usage-stats cluster.yaml", PATIENCE_S)
    assert cloud.started == ["head"]

    # From no workers.
    study = " ".join(STUDY)
    typed = f"cd ~/all-cnn-sweep && python -m sweep.run {study} --name disturbed"
    store = Store(str(machines.shared / "runs" / "disturbed"))
    with output.open("w") as file:
        run = subprocess.Popen(
            machines.command(laptop, f"ray exec cluster.yaml '{typed}'"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        first, second = SPOT
        # The cloud takes one back, with notice: its trial leaves by itself, and only then the power goes.
        leaving = wait_for(lambda: busy(store, first), "a trial on one machine", run, output)
        cloud.give_notice(first, NOTICE_S)
        wait_for(lambda: preemptions(store, leaving) == 1, "the trial to leave", run, output)
        cloud.take(first)

        # The other one dies without a word.
        lost = wait_for(lambda: busy(store, second), "a trial on the other machine", run, output)
        before = preemptions(store, lost)
        cloud.fail(second)
        wait_for(lambda: preemptions(store, lost) == before + 1, "the loss to be seen", run, output)

        assert run.wait(PATIENCE_S) == 0, output.read_text()
    finally:
        run.kill()
        run.wait()
    said = output.read_text()
    assert "Joining the Ray cluster" in said
    assert f"[{TRIALS}/{TRIALS}]" in said
    assert set(cloud.started[1:3]) == set(SPOT)
    assert len(cloud.started) > 3, "a machine comes in the place of one that went"

    shutil.copytree(store.location, output.with_name("disturbed"))  # the machines' disks go
    machines.run(laptop, "ray down -y cluster.yaml", PATIENCE_S)
    assert cloud.running() == set()
    assert [name for name in machines.addresses if machines.is_on(name)] == [laptop]
    return Store(str(output.with_name("disturbed")))
