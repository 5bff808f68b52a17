"""The benchmark of scaling goes through Ray: every trial of a simulated cluster is in the record, or it fails."""

import subprocess
import sys

from tests.e2e.conftest import environment


def test_a_sweep_of_sleeping_trials_on_two_nodes_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.scaling", "--nodes", "2", "--slots", "1", "--trials", "8"]
    command += ["--epochs", "2", "--epoch-s", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    header, _, row = done.stdout.splitlines()
    found = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row)), strict=True))
    assert (found["trials"], found["nodes"], found["slots"], found["ideal s"]) == ("8", "2", "2", "1.6")
    assert 0 < float(found["ideal / ours"]) <= 1
