"""The shipped cluster files, filled in as a user would, altered, and checked by `python -m sweep.cluster check`."""

from pathlib import Path

import pytest

from sweep.cluster.__main__ import main

ROOT = Path(__file__).resolve().parents[1]

SHIPPED = ("cluster.yaml", "clusters/local.yaml", "clusters/gcp.yaml", "clusters/kuberay.yaml")

# In the order of the marks in each file.
VALUES = {
    "cluster.yaml": ["0123456789abcdef0", "0123456789abcdef1", "bucket"],
    "clusters/local.yaml": ["10.0.0.1", "10.0.0.2, gpu-2.lab", "ubuntu", "~/.ssh/id_ed25519", "/mnt/runs"],
    "clusters/gcp.yaml": ["project-1", "common-gpu-v20260901", "project-1", "net", "trainer", "project-1", "bucket"],
    "clusters/kuberay.yaml": ["registry.example/me", "table3"],
}


def filled(name: str) -> str:
    """Return a shipped file's text with a value at each mark."""
    head, *rest = (ROOT / name).read_text().split("FILL_IN")
    values = VALUES[name]
    assert len(rest) == len(values), "a value for each mark"
    return head + "".join(value + text for value, text in zip(values, rest, strict=True))


def altered(name: str, before: str, after: str, count: int = 1) -> str:
    """Return a filled file with one passage replaced, `count` times from the top; -1 for everywhere."""
    text = filled(name)
    assert before in text
    return text.replace(before, after, count)


def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    """Check a file of this text and return its faults."""
    file = tmp_path / "file.yaml"
    file.write_text(text)
    status = main(["check", str(file)])
    said = capsys.readouterr()
    faults = said.err.splitlines()
    assert status == (2 if faults else 0)
    assert all((fault.startswith("error: ") and fault.endswith((".", "?"))) or "`" in fault for fault in faults), faults
    assert bool(said.out) is not bool(faults)
    return [fault.removeprefix("error: ") for fault in faults]
