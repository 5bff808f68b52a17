import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, subprocess, sys, warnings
from sweep.monitor.driver_log import kept_in_log
from sweep.record.store import Store

print("before")
with kept_in_log(Store(sys.argv[1])) as streams:
    print("a library's line")
    print("another", file=sys.stderr)
    warnings.warn("a warning")
    os.write(2, b"from C\\n")
    subprocess.run(["echo", "a process's"])
    print("the run's line", file=streams.out, flush=True)
    os.write(streams.error, b"the run's error\\n")
    if len(sys.argv) > 2:
        raise RuntimeError("the run's fault")
print("after")
"""


def run(folder: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, folder, *more], capture_output=True, text=True)


def test_what_libraries_print_goes_to_the_log_and_the_runs_own_lines_do_not(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\nthe run's line\nafter\n", "the run's error\n")
    log = (tmp_path / "driver.log").read_text()
    assert "before" not in log
    for part in ("a library's line\n", "another\n", "UserWarning: a warning", "from C\n", "a process's\n"):
        assert log.count(part) == 1, part


def test_an_error_of_the_run_itself_reaches_the_screen(tmp_path: Path) -> None:
    done = run(str(tmp_path), "fail")
    assert done.returncode == 1
    assert "RuntimeError: the run's fault" in done.stderr
    assert "the run's fault" not in (tmp_path / "driver.log").read_text()


def test_a_run_that_goes_on_adds_to_its_log(tmp_path: Path) -> None:
    run(str(tmp_path))
    run(str(tmp_path))
    assert (tmp_path / "driver.log").read_text().count("from C\n") == 2


@pytest.mark.filterwarnings("error")
def test_a_uris_log_is_put_there_at_the_end(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "from sweep.record.store import Store", "from sweep.record.store import Store as Real"
    ).replace(
        'print("before")',
        "class Store:\n"
        "    location = 'elsewhere://bucket/run'\n"
        "    def __init__(self, folder): self.write_file = Real(folder).write_file\n"
        'print("before")',
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "from C\n" in (tmp_path / "driver.log").read_text()


def test_optuna_prints_nothing_of_the_studies_that_a_search_makes() -> None:
    code = (
        "from sweep.search.searcher import rehearse; from sweep.study.catalog import quickstart; rehearse(quickstart())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
