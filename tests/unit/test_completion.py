"""Shells complete the options of `sweep-run`."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from sweep.completion import COMMAND, main

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_that_is_completed_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {COMMAND: "sweep.run:command"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"), [("--vari", "--variants"), ("--resu", "--resume"), ("--early-s", "--early-stopping")]
)
def test_bash_completes_an_option(typed: str, offered: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bash"]) == 0
    script = capsys.readouterr().out
    asked = f"""
COMP_WORDS=({COMMAND} {typed}); COMP_CWORD=1; COMP_LINE="{COMMAND} {typed}"; COMP_POINT=${{#COMP_LINE}}
found=$(complete -p {COMMAND}); found=${{found##*-F }}; ${{found%% *}} {COMMAND} {typed} {COMMAND}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", script + asked], capture_output=True, text=True)
    assert done.stdout.split() == [offered], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    script = capsys.readouterr().out
    assert COMMAND in script
    assert "learning-rates" in script


@pytest.mark.parametrize(("arguments", "got"), [([], "none"), (["tcsh"], "'tcsh'"), (["bash", "zsh"], "'bash zsh'")])
def test_another_shell_is_refused(arguments: list[str], got: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: One shell must be named, one of bash, zsh, fish, got {got}.\n"
