"""What the scripts say where the machine lacks something, and how a node is set up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.clusterfile.versions import pinned_ray
from sweep.record.store import Store
from tests.standings import whole_document

ROOT = Path(__file__).resolve().parents[2]


def set_up(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the scripts' shared set-up in an empty folder."""
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; . {ROOT}/scripts/lib.sh; set_up ''"],
        cwd=folder,
        env=os.environ | {"PYTHON": python},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def imitation(tmp_path: Path) -> Path:
    """Return the path of an executable that the test fills."""
    file = tmp_path / "python"
    file.touch(0o755)
    return file


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    done = set_up(tmp_path, "no-such-python")
    assert done.returncode == 1
    assert done.stderr == "error: Python 3.11 or newer must be installed, got no command no-such-python.\n"


def test_an_old_python_is_refused(tmp_path: Path, imitation: Path) -> None:
    imitation.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1" && exit\nexit 1\n')
    done = set_up(tmp_path, str(imitation))
    assert done.returncode == 1
    assert done.stderr == "error: Python must be 3.11 or newer, got Python 3.8.1; set PYTHON to a newer one.\n"


def test_a_virtual_environment_that_was_made_by_half_is_made_again(tmp_path: Path, imitation: Path) -> None:
    imitation.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exit\nmkdir -p .venv/bin && echo "exit 1" > .venv/bin/python && exit 1\n'
    )
    for _ in range(2):
        done = set_up(tmp_path, str(imitation))
        assert done.returncode == 1
        assert done.stdout == "Making the virtual environment .venv\n"
        assert "the virtual environment could not be made; is the package python3-venv installed?" in done.stderr


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that sets up a node whose packages are there already, in a home of its own."""
    stamp = subprocess.run(
        ["bash", "-c", "cat pyproject.toml constraints.txt | cksum"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    venv = tmp_path / "sweep-venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "installed").write_text(stamp.stdout.strip())
    (tmp_path / ".bashrc").write_text("# mine\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", ROOT / "scripts" / "node", *arguments],
            env=os.environ | {"HOME": str(tmp_path), "PYTHON": sys.executable},
            capture_output=True,
            text=True,
        )

    return run


def test_a_node_tells_every_shell_the_token_mode_and_where_runs_lie(
    tmp_path: Path, node: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    output = "/mnt/my $(touch stolen) runs"
    for _ in range(2):  # a second `ray up` sets it up again
        done = node("--ray", pinned_ray(), "--output", output, "--data", "s3://bucket/data")
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / ".bashrc").read_text() == "# mine\n. ~/.sweep_env\n"
    wanted = ("RAY_AUTH_MODE", "RAY_TRAIN_ENABLE_STATE_TRACKING", "SWEEP_OUTPUT", "SWEEP_DATA")
    code = f"import os; print([os.environ[name] for name in {wanted}], os.environ['PATH'].split(':')[0])"
    said = subprocess.run(
        ["bash", "-c", f'. ~/.bashrc; exec {sys.executable} -c "{code}"'],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == f"{['token', '1', output, 's3://bucket/data']} {tmp_path}/sweep-venv/bin"
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ray", "2.0.0", "--output", "x"], "Ray must have the same version everywhere, "),
        (["--output", "x"], "Ray must have the same version everywhere, "),
        (["--ray", pinned_ray()], "--output must say where runs are kept, "),
        (["--ray", pinned_ray(), "--output", ""], "--output must say where runs are kept, "),
        (["--ray"], "scripts/node must have a value after each of its options."),
        (["--rey", "2.0.0"], "scripts/node takes --ray, --output and --data, got --rey."),
    ],
)
def test_a_node_is_not_set_up_by_half(
    tmp_path: Path, node: Callable[..., subprocess.CompletedProcess[str]], arguments: list[str], said: str
) -> None:
    done = node(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {said}")
    assert not (tmp_path / ".sweep_env").exists()


FOR_REAL = f'case "$1" in -c | */begin-or-resume) exec {sys.executable} "$@" ;; esac'
"""What an imitation of Python leaves to the real one: the script itself, and its look at the run's folder."""


def begin_or_resume(output: Path, *arguments: str) -> list[str]:
    """Run the script with an imitation of `python -m sweep.run`, and return what that was called with."""
    imitation = output.parent / "bin" / "python"
    imitation.parent.mkdir(exist_ok=True)
    imitation.write_text(f'#!/bin/sh\n{FOR_REAL}\nprintf "%s\\n" "$@"\n')
    imitation.chmod(0o755)
    path = f"{imitation.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "scripts" / "begin-or-resume", *arguments],
        env=os.environ | {"PATH": path, "SWEEP_OUTPUT": str(output), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines() if done.returncode == 0 else [done.stderr]


def test_a_job_that_is_submitted_again_goes_on_with_its_run(tmp_path: Path) -> None:
    output = tmp_path / "my runs"
    begun = ["-m", "sweep.run", "cifar10", "--epochs", "2", "--name", "table3"]
    assert begin_or_resume(output, "table3", "cifar10", "--epochs", "2") == begun
    Store(str(output / "table3")).write_run(whole_document())
    assert begin_or_resume(output, "table3", "cifar10", "--epochs", "2") == [*begun, "--resume"]
    assert begin_or_resume(output, "table4") == ["-m", "sweep.run", "--name", "table4"]
    assert begin_or_resume(output) == ["error: scripts/begin-or-resume needs the name of the run.\n"]
    (said,) = begin_or_resume(output, "../table3")
    assert said.startswith("error: name must")
    assert "Traceback" not in said


ROUNDS = """#!/bin/sh
{for_real}
echo "$@" >> calls
trap 'echo terminated >> calls; exit 75' TERM
[ "$(grep -c sweep.run calls)" = 3 ] && exit {last}
[ {waits} = yes ] && {{ echo ready; sleep 60 & wait; }}
exit 75
"""


def commands_of(folder: Path, last: int = 0, *, waits: bool = False) -> dict[str, str]:
    """Put imitations of Python and Slurm into a folder, and return an environment in which they are found.

    `python -m sweep.run` notes its arguments in the file `calls` and ends with status 75; the third time with `last`.
    """
    imitation = ROUNDS.format(for_real=FOR_REAL, last=last, waits="yes" if waits else "no")
    for name, text in {"python": imitation, "scontrol": '#!/bin/sh\necho "scontrol $@" >> calls\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "scripts").symlink_to(ROOT / "scripts")
    path = f"{folder}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "SWEEP_OUTPUT": str(folder), "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "17"}


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("last", [0, 1, 2, 130])
def test_a_run_that_is_out_of_time_is_resumed_until_it_ends_otherwise(tmp_path: Path, last: int) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "begin-or-resume", "table3", "cifar10"], cwd=tmp_path, env=commands_of(tmp_path, last)
    )
    assert done.returncode == last
    assert calls(tmp_path) == ["-m sweep.run cifar10 --name table3"] * 3


WAITS_FOR_ITS_END = """() {
    builtin kill "$@" || return
    while [ "$1" = -TERM ] && builtin kill -0 "$2" 2>/dev/null; do sleep 0.01; done
}"""
"""A `kill` for bash that comes back once the process that it terminates has ended."""


@pytest.mark.parametrize(
    ("script", "own_kill"),
    [
        ("scripts/begin-or-resume", {}),
        ("clusters/slurm.sh", {}),
        # The `wait` that SIGTERM interrupted knew no status, and afterwards there is no run to wait for.
        ("clusters/slurm.sh", {"BASH_FUNC_kill%%": WAITS_FOR_ITS_END}),
    ],
    ids=["plain", "slurm", "slurm-ended-at-once"],
)
def test_sigterm_is_passed_on_and_ends_the_rounds(tmp_path: Path, script: str, own_kill: dict[str, str]) -> None:
    with subprocess.Popen(
        [ROOT / script, "table3", "cifar10"],
        cwd=tmp_path,
        env=commands_of(tmp_path, waits=True) | own_kill,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 75
    requeued = ["scontrol requeue 17"] if "slurm" in script else []
    assert calls(tmp_path) == ["-m sweep.run cifar10 --name table3", "terminated", *requeued]


def test_a_job_that_is_done_is_not_put_back_into_the_queue(tmp_path: Path) -> None:
    assert subprocess.run(["bash", "-n", ROOT / "clusters" / "slurm.sh"]).returncode == 0
    environment = commands_of(tmp_path, last=0)
    assert subprocess.run([ROOT / "clusters" / "slurm.sh", "table3"], cwd=tmp_path, env=environment).returncode == 0
    assert calls(tmp_path) == ["-m sweep.run --name table3"] * 3
