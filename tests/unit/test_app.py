"""What all commands share: exit status, sentences for bad input, Ctrl-C, a reader that has gone; `sweep` itself."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Never

import cyclopts
import pytest

from sweep.cli.app import new_app, run_app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def app() -> cyclopts.App:
    app = new_app(name="a-command")

    @app.command
    def status(value: int, /) -> int:
        return value

    @app.command
    def nothing() -> None:
        """Return no status."""

    @app.command
    def refuse(text: str, to: str, /, *, option: str = "") -> Never:
        raise ValueError(f"{text}\n  must be {to}")

    @app.command
    def interrupt() -> Never:
        raise KeyboardInterrupt

    return app


@pytest.mark.parametrize(
    ("words", "status"), [(["status", "7"], 7), (["status", "0"], 0), (["nothing"], 0), (["--help"], 0)]
)
def test_the_status_is_the_commands_own_or_zero(app: cyclopts.App, words: list[str], status: int) -> None:
    assert run_app(app, words) == status


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["refuse", "it", "another"], "it must be another"),
        (
            ["refuse", "a", "b", "c", "d"],
            "The command line must hold one TEXT, one TO and then options, got 'c' 'd' besides.",
        ),
        (["nothing", "more"], "The command line must hold options alone, got 'more' besides."),
        (["status", "x"], 'Invalid value for VALUE: unable to convert "x" into int.'),
        (["refuse", "a"], "Parameter TO requires an argument."),
        (["statis"], 'Unknown command "statis". Did you mean "status"? Available commands: '),
        (["--version"], 'Unknown command "--version". Available commands: '),
    ],
)
def test_bad_input_is_a_line_and_status_2(
    app: cyclopts.App, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app, words) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1
    assert not out


def test_a_word_too_many_is_shown_in_short(app: cyclopts.App, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["status", "1", "x" * 5000]) == 2
    assert len(capsys.readouterr().err) < 400


def test_ctrl_c_is_130(app: cyclopts.App, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(app, ["interrupt"]) == 130
    assert capsys.readouterr() == ("", "")


WRITES = """
import sys
from sweep.cli.app import exit_with, new_app, run_app
app = new_app(name="a-command")
@app.default
def write(count: int) -> int:
    print("x" * count)
    return 7
exit_with(lambda: run_app(app))
"""


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reader_that_has_gone_is_no_error(size: int) -> None:
    # A short text is written as it is flushed, a long one while it is printed.
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-c", WRITES, str(size)]
    done = subprocess.run(words, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    whole = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (whole.returncode, len(whole.stdout)) == (7, size + 1)


def sweep(*words: str, after: str = "") -> "subprocess.CompletedProcess[str]":
    code = f"import sys\nfrom sweep.cli.main import main\nstatus = main()\n{after}\nsys.exit(status)"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)


COMMANDS = ("run", "init", "status", "pack", "spot", "cluster")


def test_the_help_names_every_command_and_loads_none() -> None:
    done = sweep("--help", after="print(sorted({'torch', 'ray', 'pyarrow', 'sweep.study.options'} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--epoks", "3"], "Unknown option: --epoks. Did you mean --epochs?"),
        (["init", "a.txt"], "The file must end in .py, got 'a.txt'."),
        (["status", "no/such"], "There is no folder"),
        (["pack", "no/such", "to"], "A run's folder must exist"),
        (["spot"], "Parameter --provider requires an argument."),
        (["cluster", "check", "no.yaml"], "FILE must be a file that can be read, got 'no.yaml'"),
    ],
)
def test_a_command_says_the_same_by_both_names(words: list[str], sentence: str) -> None:
    done = sweep(*words)
    alias = subprocess.run(
        [sys.executable, "-m", f"sweep.{words[0]}", *words[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr.startswith(f"error: {sentence}")
    assert (done.returncode, done.stdout) == (alias.returncode, alias.stdout) == (2, "")
    assert done.stderr == alias.stderr


def test_help_by_topic_is_the_same_by_both_names() -> None:
    done = sweep("run", "--help-all")
    alias = subprocess.run([sys.executable, "-m", "sweep.run", "--help-all"], cwd=ROOT, capture_output=True, text=True)
    assert "\nSearch:\n  --learning-rates " in done.stdout
    assert "\n  weight_decay " in done.stdout
    assert done.stdout == alias.stdout
