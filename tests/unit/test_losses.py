"""What is the loss of a node, and what a failure."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext, NodeDeathInfo
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.tune.schedulers import FIFOScheduler

from sweep.driver import NodeLostError
from sweep.losses import LossScheduler, is_loss, lost_its_node


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
ERRORS: list[tuple[Exception, bool]] = [
    (died(NODE), True),
    (died("gone", NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), True),
    (ActorUnavailableError("the connection was reset", b"\0" * 16), True),
    (in_task(NodeLostError("a node was lost")), True),
    (in_task(died(NODE)), True),
    # A process alone: of a crash or too little memory, which would come again.
    (died(PROCESS), False),
    (died("gone", NodeDeathInfo.EXPECTED_TERMINATION), False),
    (in_task(RuntimeError("the shapes do not match")), False),
    # Not fooled by what a trial's own code says.
    (in_task(RuntimeError(NODE)), False),
]


@pytest.mark.parametrize(("error", "lost"), ERRORS)
def test_the_loss_of_a_node_is_told_from_a_failure(error: Exception, lost: bool) -> None:
    assert is_loss(error) == lost


class StandIn:
    """What is read of a Ray trial."""

    def __init__(self, file: Path | None) -> None:
        self.pickled_error_file = None if file is None else str(file)
        self.config = {"trial_id": "t0"}


@pytest.mark.parametrize(("error", "lost"), ERRORS)
def test_it_is_told_from_what_tune_has_kept(tmp_path: Path, error: Exception, lost: bool) -> None:
    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(error))
    assert lost_its_node(StandIn(file)) == lost  # type: ignore[arg-type]


def test_what_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    broken = tmp_path / "error.pkl"
    broken.write_bytes(b"no pickle")
    for file in (None, tmp_path / "missing.pkl", broken):
        assert not lost_its_node(StandIn(file))  # type: ignore[arg-type]


@pytest.mark.parametrize(("error", "lost"), ERRORS)
def test_a_scheduler_hears_of_failures_only(tmp_path: Path, error: Exception, lost: bool) -> None:
    heard: list[str] = []

    class Inner(FIFOScheduler):  # type: ignore[misc]
        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            heard.append("failed")

    file = tmp_path / "error.pkl"
    file.write_bytes(pickle.dumps(error))
    scheduler = LossScheduler(Inner(), lambda name: heard.append(f"{name} lost"))
    scheduler.on_trial_error(None, StandIn(file))  # type: ignore[arg-type]
    assert heard == (["t0 lost"] if lost else ["failed"])
