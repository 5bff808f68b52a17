"""The command line where it refuses something."""

from pathlib import Path

import pytest

from sweep.run import main

TINY = ["--train-size", "64", "--epochs", "1", "--width", "0.05"]


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `main`, check that it refused, and return what it said."""
    output = tmp_path / "runs"
    before = sorted(output.rglob("*"))
    assert main([*arguments, "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert sorted(output.rglob("*")) == before
    return said
