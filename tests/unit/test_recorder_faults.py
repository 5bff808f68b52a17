"""What the recorder keeps of a failure: its fault, and whether the trial is isolated from then on."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import ActorUnavailableError

from sweep.execution.failures import TrialMemoryError, fault_of
from sweep.record.schema import retried
from sweep.search.searcher import StudySearcher, isolated_trials
from tests.unit.test_recorder import STUDY, Bench, StandIn


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "run")


def fail_by(bench: Bench, trial: StandIn, tmp_path: Path, error: Exception) -> dict[str, Any]:
    """Let a trial fail by an error as Ray Tune keeps it, and return its row."""
    text, pickled = tmp_path / "error.txt", tmp_path / "error.pkl"
    text.write_text(f"Traceback (most recent call last):\n{type(error).__name__}: {error}\n")
    pickled.write_bytes(pickle.dumps(error))
    trial.error_file, trial.pickled_error_file = str(text), str(pickled)
    bench.fail(trial)
    trial.error_file = trial.pickled_error_file = None
    return bench.written()[trial.config["trial_id"]]


def test_a_trial_that_may_have_failed_for_its_neighbours_is_isolated_and_stays_so(bench: Bench, tmp_path: Path) -> None:
    trial = StandIn("t0", epochs=2)
    bench.start(trial)
    assert (bench.written()["t0"]["fault"], bench.written()["t0"]["isolated"]) == (None, False)
    row = fail_by(bench, trial, tmp_path, TrialMemoryError("out of memory: 3 GiB"))
    assert (row["state"], row["fault"], row["isolated"], row["retries"]) == ("pending", "out of memory", True, 1)
    assert "out of memory: 3 GiB" in row["retry_reasons"]
    # The run is cut off before it comes again: it is isolated then too.
    bench.recorder.close()
    rows = bench.written()
    assert isolated_trials(rows) == {"t0"}
    again = Bench(tmp_path / "run", rows)
    trial.config["alone"] = True
    again.start(trial)
    again.report(trial, 1)
    row = fail_by(again, trial, tmp_path, TrialMemoryError("out of memory: 3 GiB"))
    assert (row["state"], row["fault"], row["isolated"], row["retries"]) == ("failed", "out of memory", True, 1)


def test_what_an_error_says_isolates_no_trial(bench: Bench, tmp_path: Path) -> None:
    # What torch says of a wrong argument names `memory_format`, and a user's own code says anything.
    for number, text in enumerate(
        (
            "empty_like() received an invalid combination of arguments - got (memory_format=str)",
            "out of memory, said my own code",
            "its process ended without a word",
        )
    ):
        trial = StandIn(f"t{number}")
        bench.start(trial)
        row = fail_by(bench, trial, tmp_path, TypeError(text))
        assert (row["state"], row["fault"], row["isolated"], row["retries"]) == ("failed", "code", False, 0)
    # Nor once somebody asks for them to be retried: the record says what it was.
    rows = {name: retried(row, row["reason"]) for name, row in bench.written().items()}
    assert {row["state"] for row in rows.values()} == {"pending"}
    assert isolated_trials(rows) == set()
    suggested = [StudySearcher(STUDY, rows).suggest("x")]
    assert [each["alone"] for each in suggested if isinstance(each, dict)] == [False]


@pytest.mark.parametrize(("code", "fault"), [(2, "out of memory"), (719, "code")])
def test_an_accelerator_s_error_is_told_by_its_code(code: int, fault: str) -> None:
    error = torch.AcceleratorError("CUDA error: out of memory, or whatever it says")
    error.error_code = code
    assert fault_of(error) == fault


def test_the_fault_of_a_lost_node_isolates_no_trial(bench: Bench, tmp_path: Path) -> None:
    trial = StandIn("t0")
    bench.start(trial)
    row = fail_by(bench, trial, tmp_path, ActorUnavailableError("gone", b"\0" * 16))
    assert (row["state"], row["fault"], row["isolated"], row["retries"]) == ("pending", "node lost", False, 0)
