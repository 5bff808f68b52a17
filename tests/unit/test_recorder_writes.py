"""When the recorder writes, where writing takes long or fails."""

from pathlib import Path
from typing import Any

import pytest

from sweep.execution.recorder import FLUSH_AFTER_S, PAUSE_PER_FLUSH, Recorder
from sweep.record.store import Store
from tests.listening import listening
from tests.unit.test_recorder import STUDY, Bench, Clock, StandIn, result


class SlowStore:
    """A store of which each write of the trials takes `seconds` on the clock, and fails while `is_broken`."""

    def __init__(self, store: Store, clock: Clock, seconds: float) -> None:
        self._store, self._clock, self._seconds = store, clock, seconds
        self.writes = 0
        self.is_broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write_trials(self, rows: list[dict[str, Any]]) -> None:
        self._clock.now += self._seconds
        if self.is_broken:
            raise OSError("no space left")
        self.writes += 1
        self._store.write_trials(rows)


def slow_bench(tmp_path: Path, seconds: float) -> tuple[Bench, SlowStore]:
    bench = Bench(tmp_path / "run")
    slow = SlowStore(bench.store, bench.clock, seconds)
    bench.recorder = Recorder(slow, STUDY, listener=listening(troubled=bench.troubles.append), clock=bench.clock)  # type: ignore[arg-type]
    return bench, slow


def step(bench: Bench) -> None:
    bench.recorder.on_step_end(0, [])


def states(bench: Bench) -> dict[str, str]:
    return {name: row["state"] for name, row in bench.written().items()}


def test_where_writing_takes_long_the_next_write_waits_and_takes_all_with_it(tmp_path: Path) -> None:
    bench, slow = slow_bench(tmp_path, 0.1)
    for number in range(4):
        bench.start(StandIn(f"t{number}", epochs=1))
    assert states(bench) == {"t0": "running"}
    bench.report(StandIn("t0", epochs=1), 1)
    bench.complete(StandIn("t0", epochs=1))
    bench.clock.now += PAUSE_PER_FLUSH * 0.1 - 0.01
    step(bench)
    assert (slow.writes, states(bench)) == (1, {"t0": "running"})
    bench.clock.now += 0.02
    step(bench)
    assert slow.writes == 2
    assert states(bench) == {"t0": "completed", "t1": "running", "t2": "running", "t3": "running"}
    assert bench.store.read_epochs()["trial_id"].to_pylist() == ["t0"]
    bench.clock.now += 1000
    step(bench)
    assert slow.writes == 2, "nothing was left to write"


def test_however_long_writing_takes_ends_wait_no_longer_than_epochs(tmp_path: Path) -> None:
    bench, slow = slow_bench(tmp_path, 60.0)
    trial = StandIn("t0", epochs=1)
    bench.start(trial)
    bench.report(trial, 1)
    bench.complete(trial)
    bench.clock.now += FLUSH_AFTER_S
    step(bench)
    assert (slow.writes, states(bench)) == (2, {"t0": "completed"})


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    bench, _ = slow_bench(tmp_path, 0.1)
    for number in range(3):
        bench.start(StandIn(f"t{number}", epochs=1))
        bench.report(StandIn(f"t{number}", epochs=1), 1)
        bench.complete(StandIn(f"t{number}", epochs=1))
    assert states(bench) == {"t0": "running"}
    bench.recorder.close()
    assert states(bench) == {"t0": "completed", "t1": "completed", "t2": "completed"}
    assert bench.store.read_epochs()["trial_id"].to_pylist() == ["t0", "t1", "t2"]


def test_a_write_that_fails_between_trials_is_tried_again_and_doubles_nothing(tmp_path: Path) -> None:
    bench, slow = slow_bench(tmp_path, 0.1)
    for number in range(2):
        bench.start(StandIn(f"t{number}", epochs=1))
    bench.report(StandIn("t0", epochs=1), 1)
    slow.is_broken = True
    bench.clock.now += FLUSH_AFTER_S
    step(bench)
    bench.clock.now += FLUSH_AFTER_S
    bench.complete(StandIn("t0", epochs=1))
    assert len(bench.troubles) == 1, "said once"
    with pytest.raises(OSError, match="no space left"):
        bench.recorder.close()
    bench.start(StandIn("t1", epochs=1))
    slow.is_broken = False
    bench.clock.now += FLUSH_AFTER_S
    step(bench)
    assert [str(error) for error in bench.troubles] == ["no space left", "None"]
    assert states(bench) == {"t0": "completed", "t1": "running"}
    assert bench.store.read_epochs()["trial_id"].to_pylist() == ["t0"]
    assert bench.store.count_parts() == 1


def test_what_follows_the_record_is_flushed_with_it(tmp_path: Path) -> None:
    heard: list[str] = []
    recorder = Recorder(
        Store(str(tmp_path)),
        STUDY,
        listener=listening(changed=lambda row: heard.append(row["state"]), flushed=lambda: heard.append("flush")),
        clock=lambda: 0.0,
    )
    trial = StandIn("t0", epochs=1)
    recorder.on_trial_start(0, [], trial)  # type: ignore[arg-type]
    recorder.on_trial_result(0, [], trial, result(1))  # type: ignore[arg-type]
    recorder.on_trial_complete(0, [], trial)  # type: ignore[arg-type]
    assert heard == ["running", "flush", "running", "completed", "flush"]
