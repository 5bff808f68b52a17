"""What the README's two commands say where the machine lacks something."""

import os
import subprocess
from pathlib import Path

import pytest

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
