"""One writer a run, by a heartbeat that counts; nobody looks at a clock."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from sweep.record.lease import LEASE, Lease, LeaseLostError, Periods
from sweep.record.store import Store

QUICK = Periods(beat=0.01, silent_for=0.05, settle=0.01)


def lease(folder: Path, wait: Callable[[float], object] = lambda _: None, periods: Periods = QUICK) -> Lease:
    return Lease(pafs.LocalFileSystem(), str(folder / LEASE), str(folder), is_shared=True, periods=periods, wait=wait)


def left_by_another_machine(folder: Path, beat: int = 7) -> None:
    held = {"token": "theirs", "host": "elsewhere", "pid": 1, "since": "2026-01-01", "beat": beat}
    (folder / LEASE).write_text(json.dumps(held))


def said_nothing(text: str) -> None:
    raise AssertionError(text)


def test_it_is_held_and_given_back(tmp_path: Path) -> None:
    with lease(tmp_path).held(said_nothing):
        held = json.loads((tmp_path / LEASE).read_text())
        assert (held["host"], held["pid"]) == (platform.node(), os.getpid())
    assert not (tmp_path / LEASE).exists()


def test_it_beats(tmp_path: Path) -> None:
    seen = set()
    with lease(tmp_path).held(said_nothing):
        while len(seen) < 3:
            seen.add(json.loads((tmp_path / LEASE).read_text())["beat"])


def test_a_living_holder_is_named_and_keeps_it(tmp_path: Path) -> None:
    said: list[str] = []
    left_by_another_machine(tmp_path)
    beats = iter(range(8, 99))
    newcomer = lease(tmp_path, wait=lambda _: left_by_another_machine(tmp_path, next(beats)))
    expected = "another is at work, process 1 on elsewhere since 2026-01-01; wait for its end or choose another name"
    with pytest.raises(ValueError, match=expected), newcomer.held(said.append):
        pass
    assert said[0].startswith("process 1 on elsewhere has written this run; seeing for up to")
    assert json.loads((tmp_path / LEASE).read_text())["host"] == "elsewhere"


def test_a_silent_holder_is_given_up_after_the_whole_wait(tmp_path: Path) -> None:
    waited: list[float] = []
    left_by_another_machine(tmp_path)
    with lease(tmp_path, wait=waited.append).held(lambda _: None):
        assert json.loads((tmp_path / LEASE).read_text())["host"] == platform.node()
    assert sum(waited) == pytest.approx(QUICK.silent_for + QUICK.settle)


def test_a_holder_of_this_machine_whose_process_has_ended_is_given_up_at_once(tmp_path: Path) -> None:
    pid = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))
    left_by_another_machine(tmp_path)
    held = json.loads((tmp_path / LEASE).read_text()) | {"host": platform.node(), "pid": pid}
    (tmp_path / LEASE).write_text(json.dumps(held))
    with lease(tmp_path).held(said_nothing):
        pass


def test_of_two_newcomers_the_last_one_finds_its_token(tmp_path: Path) -> None:
    first = lease(tmp_path, wait=lambda _: left_by_another_machine(tmp_path))
    with pytest.raises(ValueError, match="another is at work"), first.held(said_nothing):
        pass


def test_one_that_was_given_up_writes_no_more(tmp_path: Path) -> None:
    silent = lease(tmp_path)
    with silent.held(said_nothing):
        left_by_another_machine(tmp_path)
        while not silent.lost_to:
            pass
        with pytest.raises(LeaseLostError, match="another process, process 1 on elsewhere, has taken over"):
            silent.check()
    # The other one's is not taken away.
    assert json.loads((tmp_path / LEASE).read_text())["host"] == "elsewhere"


def test_one_that_cannot_beat_writes_nothing_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    cut_off = lease(tmp_path, periods=Periods(beat=0.01, silent_for=60, settle=0.0))
    cut_off.clock = lambda: now[0]
    cut_off._beat_at = 0.0
    with cut_off.held(said_nothing):
        cut_off.check()

        def fails(*arguments: object) -> None:
            raise OSError("the network is down")

        monkeypatch.setattr("sweep.record.lease.write_whole", fails)
        now[0] += 1000
        # A beat that was under way may have been the last one to arrive.
        while cut_off._beat_at == now[0]:
            now[0] += 1000
        with pytest.raises(LeaseLostError, match="could not be renewed for 1000 s, another process may have taken it"):
            cut_off.check()
        monkeypatch.undo()
        while cut_off._beat_at < now[0]:
            pass
        cut_off.check()
        assert cut_off.lost_to == ""


def test_an_end_in_the_midst_of_its_beginning_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lease(tmp_path, wait=interrupted).held(said_nothing):
        pass
    assert not (tmp_path / LEASE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": 1}', "\x00"])
def test_a_broken_lease_is_nobodys(tmp_path: Path, text: str) -> None:
    (tmp_path / LEASE).write_text(text)
    with lease(tmp_path).held(said_nothing):
        pass


def test_a_store_writes_nothing_once_it_is_lost(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    with store.locked():
        store.write_trials([])
        assert store._lease is not None
        store._lease._lost_to = "process 1 on elsewhere"
        assert store.lost_to == "process 1 on elsewhere"
        with pytest.raises(LeaseLostError):
            store.write_trials([])
    assert store.lost_to == ""


def test_leftovers_of_a_killed_process_are_no_run_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "epochs").mkdir(parents=True)
    for name in (".study.json.4711", ".lock", LEASE):
        (folder / name).write_text("{")
    (folder / "epochs" / ".part-00000000.parquet.4711").write_text("PAR1")
    store = Store(str(folder))
    with store.locked():
        assert not list(folder.glob("**/.*.4711"))
    (folder / "epochs").rmdir()
    assert store.is_empty()


def test_a_glance_tells_who_lives_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = lease(tmp_path)
    assert asking.at_a_glance() is False
    with lease(tmp_path).held(said_nothing):
        assert asking.at_a_glance() is True
        monkeypatch.setattr("platform.node", lambda: "elsewhere")
        assert asking.at_a_glance() is None, "only its beats could tell"
        monkeypatch.undo()
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        held = json.loads((tmp_path / LEASE).read_text())
        (tmp_path / LEASE).write_text(json.dumps(held | {"pid": ended.pid}))
        assert asking.at_a_glance() is False, "it is dead, and was of this machine"
