"""What ended a trial, and whether it is begun again."""

import pickle
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError
from ray.tune.schedulers import FIFOScheduler

from sweep.execution.failures import (
    Fault,
    NodeLostError,
    ProcessDiedError,
    SharedGpuError,
    TrialMemoryError,
    fault_of,
    faults_shared,
    machine_gib,
    peak_gib,
    sizes_told,
)
from sweep.execution.recorder import Recorder
from sweep.execution.retries import LossScheduler, failure_of
from sweep.record.store import Store
from sweep.search.searcher import isolated_trials
from sweep.study.catalog import quickstart


def died(message: str, reason: int | None = None) -> ActorDiedError:
    """Return Ray's own error, made of what its scheduler sends."""
    context = ActorDiedErrorContext(actor_id=b"\0" * 16, error_message=message)
    if reason is not None:
        context.node_death_info.reason = reason
    return ActorDiedError(cause=context)


def in_task(cause: Exception) -> Exception:
    return RayTaskError("train", "Traceback", cause)


NODE = "The actor died because its node has died. Node Id: 12ab. the actor's node was terminated unexpectedly."
PROCESS = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
KILLED = "Task was killed due to the node running low on memory. Worker exit type: NODE_OUT_OF_MEMORY"
ERRORS: list[tuple[Exception, Fault]] = [
    (died(NODE), "node lost"),
    (died("gone", NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), "node lost"),
    (ActorUnavailableError("the connection was reset", b"\0" * 16), "node lost"),
    (in_task(NodeLostError("a node was lost")), "node lost"),
    (in_task(died(NODE)), "node lost"),
    (died(PROCESS), "process died"),
    (died("gone", NodeDeathInfo.EXPECTED_TERMINATION), "process died"),
    (in_task(ProcessDiedError("a worker died")), "process died"),
    (in_task(TrialMemoryError("out of memory")), "out of memory"),
    (OutOfMemoryError(KILLED), "out of memory"),
    (died(KILLED), "out of memory"),
    (in_task(MemoryError()), "out of memory"),
    (in_task(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")), "out of memory"),
    (in_task(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")), "out of memory"),
    (in_task(SharedGpuError("CUDA error: unspecified launch failure")), "shared GPU"),
    (in_task(RuntimeError("the shapes do not match")), "code"),
    # Not fooled by what a trial's own code says.
    (in_task(RuntimeError(NODE)), "code"),
]


@pytest.mark.parametrize(("error", "fault"), ERRORS)
def test_what_ended_a_trial_is_told_by_the_error(error: Exception, fault: Fault) -> None:
    assert fault_of(error) == fault


class StandIn:
    """What is read of a Ray trial."""

    error_file: str | None = None

    def __init__(self, file: Path | None, *, alone: bool = False) -> None:
        self.pickled_error_file = None if file is None else str(file)
        config = quickstart().cells()[0].to_dict()
        self.config = {"trial_id": "t0", "alone": alone, "phase": "search", "config": config}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(("error", "fault"), ERRORS)
def test_want_of_memory_is_tried_once_more_and_a_lost_node_always(
    tmp_path: Path, error: Exception, fault: Fault, alone: bool
) -> None:
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(error))
    failure = failure_of(StandIn(file, alone=alone))  # type: ignore[arg-type]
    assert failure.fault == fault
    assert failure.is_tried_again == (fault == "node lost" or (fault != "code" and not alone))


def shared_gpu_error() -> Exception:
    with pytest.raises(SharedGpuError) as caught, faults_shared():
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
    return caught.value


@pytest.mark.parametrize(("error", "fault"), [*((e, f) for e, f in ERRORS if f != "shared GPU"), (None, "shared GPU")])
def test_a_resumed_run_knows_from_the_record_which_trials_run_in_isolation(
    tmp_path: Path, error: Exception | None, fault: Fault
) -> None:
    raised = error or in_task(shared_gpu_error())
    trial = StandIn(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(raised))
    trial.error_file = str(tmp_path / "error.txt")
    cause = raised.cause if isinstance(raised, RayTaskError) else raised
    (tmp_path / "error.txt").write_text("".join(traceback.format_exception(cause)))
    recorder = Recorder(Store(str(tmp_path / "run")), quickstart())
    recorder.on_trial_start(0, [], trial)  # type: ignore[arg-type]
    recorder.on_trial_error(0, [], trial)  # type: ignore[arg-type]
    recorder.close()
    (row,) = Store(str(tmp_path / "run")).trial_rows()
    assert row["fault"] == fault
    assert row["state"] == ("failed" if fault == "code" else "pending")
    assert (row["preemptions"], row["retries"]) == {"node lost": (1, 0), "code": (0, 0)}.get(fault, (0, 1))
    assert isolated_trials({"t0": row}) == (set() if fault in ("node lost", "code") else {"t0"})


def test_what_cannot_be_read_is_the_trials_own_failure(tmp_path: Path) -> None:
    broken = tmp_path / "error.pkl"
    broken.write_bytes(b"no pickle")
    for file in (None, tmp_path / "missing.pkl", broken):
        failure = failure_of(StandIn(file))  # type: ignore[arg-type]
        assert (failure.fault, failure.is_tried_again, failure.reason) == ("code", False, "no traceback was left")


TRACEBACK = """ray::train (pid=1)
  File "/env/site-packages/ray/train/session.py", line 7, in run
    f()
  File "/home/someone/my_variants.py", line 31, in forward
    return self.missing(images)
  File "/env/site-packages/torch/nn/module.py", line 9, in __getattr__
    raise AttributeError(name)
AttributeError: no attribute 'missing': {}
"""


def test_a_reason_names_the_line_that_its_writer_can_mend(tmp_path: Path) -> None:
    trial = StandIn(None)
    trial.error_file = str(tmp_path / "error.txt")
    (tmp_path / "error.txt").write_text(TRACEBACK.format(1))
    failure = failure_of(trial)  # type: ignore[arg-type]
    assert failure.reason == "AttributeError: no attribute 'missing': 1 (my_variants.py:31)"
    assert failure.traceback == TRACEBACK.format(1)
    (tmp_path / "error.txt").write_text(TRACEBACK.format(2))
    assert failure_of(trial).signature == failure.signature  # type: ignore[arg-type]


def test_a_process_that_ray_ended_for_want_of_memory_is_known_by_the_text_alone(tmp_path: Path) -> None:
    trial = StandIn(None)
    trial.error_file = str(tmp_path / "error.txt")
    (tmp_path / "error.txt").write_text(
        "Failure # 1 (occurred at 2026-11-25_21-12-03)\n1 worker(s) were killed due to the node running low on memory. "
        "Memory on the node (IP: 192.0.2.2, ID: 1b25) was 22.69GB used / 23.54GB limit (0.96)\nRefer to the pages"
    )
    failure = failure_of(trial)  # type: ignore[arg-type]
    assert (failure.fault, failure.is_tried_again) == ("out of memory", True)
    said = "out of memory: Ray ended its process, since the node's memory was full, 22.69GB used / 23.54GB"
    assert failure.reason == said
    # An exception of the trial's code that says the same has the error beside it.
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(pickle.dumps(in_task(RuntimeError("x"))))
    assert failure_of(trial).fault == "code"  # type: ignore[arg-type]


def test_an_error_for_want_of_memory_tells_the_sizes() -> None:
    with (
        pytest.raises(TrialMemoryError, match=r"^out of memory: .*; the process held at most [\d.]+ GiB of the"),
        sizes_told(),
    ):
        # More than any machine has: torch's own allocator refuses it.
        torch.empty(2**46)
    with pytest.raises(RuntimeError, match="another"), sizes_told():
        raise RuntimeError("another")
    assert 0 < peak_gib() < machine_gib()


class Heard:
    """What a searcher hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def lost(self, name: str, *, alone: bool = False) -> None:
        self.heard.append(f"{name} {'alone' if alone else 'lost'}")

    def failed(self, name: str, signature: str) -> None:
        self.heard.append(f"{name} failed")


@pytest.mark.parametrize(("error", "fault"), ERRORS)
def test_a_scheduler_hears_of_final_failures_only(tmp_path: Path, error: Exception, fault: Fault) -> None:
    searcher = Heard()

    class Inner(FIFOScheduler):  # type: ignore[misc]
        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            searcher.heard.append("scheduler")

    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(error))
    LossScheduler(Inner(), searcher).on_trial_error(None, StandIn(file))  # type: ignore[arg-type]
    assert searcher.heard == {"node lost": ["t0 lost"], "code": ["t0 failed", "scheduler"]}.get(fault, ["t0 alone"])


def test_a_trial_that_was_stopped_with_the_run_is_not_done_for_the_scheduler() -> None:
    heard: list[str] = []

    class Inner(FIFOScheduler):  # type: ignore[misc]
        def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
            heard.append(trial.trial_id)

    scheduler = LossScheduler(Inner(), Heard(), {"cut"})
    for trial_id in ("cut", "done"):
        scheduler.on_trial_complete(None, SimpleNamespace(trial_id=trial_id), {})  # type: ignore[arg-type]
    assert heard == ["done"]
