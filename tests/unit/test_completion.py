"""Shells complete the commands of `sweep` and their options."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from sweep.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Install":
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ZSH", raising=False)
    monkeypatch.delenv("ZSH_CUSTOM", raising=False)
    return Install(tmp_path, capsys)


class Install:
    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys

    def __call__(self, shell: str) -> str:
        """Install the completion as a user would, and return the script."""
        file = self.home / "script"
        assert main.run(["--install-completion", "--shell", shell, "--output", str(file)]) == 0
        assert str(file) in self.capsys.readouterr().out
        return file.read_text()


def test_the_command_that_is_completed_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"sweep": f"{main.__name__}:{main.main.__name__}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sta", "status"),
        ("run --vari", "--variants"),
        ("run --early-s", "--early-stopping"),
        ("status --fol", "--follow"),
        ("pack --check", "--checkpoints"),
        ("spot --prov", "--provider"),
        ("cluster ch", "check"),
    ],
)
def test_bash_completes(typed: str, offered: str, install: Install) -> None:
    words = typed.split()
    asked = f"""
COMP_WORDS=(sweep {typed}); COMP_CWORD={len(words)}; COMP_LINE="sweep {typed}"; COMP_POINT=${{#COMP_LINE}}
found=$(complete -p sweep); found=${{found##*-F }}; ${{found%% *}} sweep {words[-1]} {["sweep", *words][-2]}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", install("bash") + asked], capture_output=True, text=True)
    assert done.stdout.split() == [offered], done.stderr
    assert "completion" in (install.home / ".bashrc").read_text(), "what makes bash read the script"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_too(shell: str, install: Install) -> None:
    script = install(shell)
    assert "learning-rates" in script


def test_another_shell_is_refused(install: Install) -> None:
    assert main.run(["--install-completion", "--shell", "tcsh"]) == 2
    error = install.capsys.readouterr().err
    assert error.startswith('error: Invalid value "tcsh" for --shell.')
    assert error.count("\n") == 1
    assert not list(install.home.iterdir())
