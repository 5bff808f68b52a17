"""Ctrl-C in the middle of a run, and going on afterwards."""

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from sweep.store import Store
from tests.e2e.conftest import command, environment, without_times

STUDY = (
    *("quickstart", "--train-size", "400", "--epochs", "8", "--width", "0.1"),
    *("--variants", "strided-cnn-a", "--learning-rates", "0.01", "0.02", "--max-concurrent", "1"),
)


def test_an_interrupted_run_goes_on_to_the_record_of_an_undisturbed_one(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, *STUDY, "--name", "cut"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("[1/2]"):
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate()
    assert process.returncode == 130, seen + rest + errors
    assert "Traceback" not in errors

    store = Store(str(tmp_path / "cut"))
    states = sorted(row["state"] for row in store.read_trials().to_pylist())
    assert states in (["completed"], ["completed", "pending"])
    go_on = shlex.split(rest.split("Go on with: ")[1].splitlines()[0])
    assert go_on[:4] == ["python", "-m", "sweep.run", "--resume"]

    refused = subprocess.run(
        [sys.executable, *go_on[1:], "--epochs", "9"], capture_output=True, text=True, env=environment()
    )
    assert refused.returncode == 2
    assert refused.stderr == "error: epochs must be as recorded, 8, got 9; leave the option out.\n"

    resumed = subprocess.run([sys.executable, *go_on[1:]], capture_output=True, text=True, env=environment())
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "1 of 2 trials had ended and stay as they are" in resumed.stdout

    whole = subprocess.run(command(tmp_path, *STUDY, "--name", "whole"), capture_output=True, env=environment())
    assert whole.returncode == 0
    assert without_times(store) == without_times(Store(str(tmp_path / "whole")))
