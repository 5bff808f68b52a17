"""Python's search for garbage while and after much is loaded, and as a process ends."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.cli.garbage import collector_off

ROOT = Path(__file__).resolve().parents[2]


class Thing:
    """An object that holds itself, which only a search finds to be garbage."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    frozen, was_on = gc.get_freeze_count(), gc.isenabled()
    yield
    assert (gc.get_freeze_count() == 0) == (frozen == 0)
    assert gc.isenabled() == was_on


def made_and_dropped() -> "weakref.ref[Thing]":
    return weakref.ref(Thing())


def test_nothing_is_looked_for_while_things_are_loaded() -> None:
    with collector_off() as settle:
        assert not gc.isenabled()
        dropped = made_and_dropped()
        kept = [[] for _ in range(10 * gc.get_threshold()[0])]  # type: ignore[var-annotated]
        assert dropped() is not None
        settle()
        assert gc.isenabled()
        assert kept


def test_what_was_there_then_is_not_looked_through_and_what_comes_later_is() -> None:
    with collector_off() as settle:
        early = made_and_dropped()
        settle()
        late = made_and_dropped()
        gc.collect()
        assert early() is not None
        assert late() is None
    gc.collect()
    assert early() is None, "what was set aside is looked through again"


def test_all_is_as_before_where_loading_fails() -> None:
    with pytest.raises(ValueError, match="a slip"), collector_off():
        raise ValueError("a slip")
    assert gc.isenabled()


def test_who_had_turned_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with collector_off() as settle:
            settle()
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("words", [["sweep.run", "--help"], ["sweep.status", "--help"], ["analysis", "published"]])
def test_a_process_ends_without_a_search(words: list[str]) -> None:
    code = (
        "import atexit, gc, runpy, sys\n"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 10_000))\n"
        f"sys.argv = {['x', *words[1:]]}\n"
        f"runpy.run_module({words[0]!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "frozen True"
