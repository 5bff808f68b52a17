"""What a run says and records of MPS, and what an error of a shared GPU is; with Ray: tests/e2e/test_gpu_sharing.py."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.train.torch import TorchConfig

import sweep.execution.trial
from sweep.cluster.mps import Answer
from sweep.cluster.sharing import sentences, way_of
from sweep.execution.failures import SharedGpuError, TrialMemoryError, fault_of, faults_shared, sizes_told
from sweep.execution.trial import Placement
from sweep.record.store import Store
from sweep.resume.provenance import with_gpu_sharing
from sweep.session import _gpus_shared
from tests.standings import execution, whole_document

STARTED = Answer(pipe="/a/pipe", started=True)
FOUND = Answer(pipe="/another/pipe", started=False)
ABSENT = Answer(pipe="", started=False, reason="nvidia-cuda-mps-control is not installed")


@pytest.mark.parametrize(
    ("answers", "way"),
    [
        ([], None),
        ([STARTED, FOUND], "mps"),
        ([ABSENT], "time-slicing"),
        ([ABSENT, STARTED], "mps on some nodes"),
    ],
)
def test_the_way_is_that_of_all_nodes(answers: list[Answer], way: str | None) -> None:
    assert way_of(answers) == way


def test_nodes_with_the_same_answer_are_said_together() -> None:
    assert list(sentences([STARTED, ABSENT, FOUND, STARTED])) == [
        "started on 2 nodes: trials that share a GPU compute at the same time",
        "not used on 1 node: nvidia-cuda-mps-control is not installed; trials that share a GPU there take turns",
        "runs already on 1 node and is used: trials that share a GPU compute at the same time",
    ]


@pytest.mark.parametrize(("gpus", "shares"), [(0.0, False), (0.25, True), (1.0, False)])
def test_only_a_fraction_of_a_gpu_is_shared(gpus: float, shares: bool) -> None:
    placement = Placement(gpus_per_worker=gpus)
    assert placement.shares_gpu == shares
    assert not placement.alone().shares_gpu


@pytest.mark.parametrize("gpus", [0.0, 1.0])
def test_nothing_is_started_or_said_for_whole_gpus_and_none(gpus: float, tmp_path: Path) -> None:
    # Ray does not run, and there is no document to add to.
    plan: Any = SimpleNamespace(placement=Placement(gpus_per_worker=gpus))
    said: list[str] = []
    with _gpus_shared(plan, Store(str(tmp_path / "run")), said.append):
        pass
    assert not said
    assert not list(tmp_path.iterdir())


def test_the_way_is_recorded_for_each_execution() -> None:
    begun = with_gpu_sharing(whole_document(), "mps")
    assert [each.gpu_sharing for each in begun.executions] == ["mps"]
    resumed = replace(begun, executions=(*begun.executions, execution(), execution()))
    again = with_gpu_sharing(resumed, "time-slicing")
    assert [each.gpu_sharing for each in again.executions] == ["mps", None, "time-slicing"]
    assert [each.gpu_sharing for each in resumed.executions] == ["mps", None, None], "the argument stays as it is"


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nSearch for it in ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_an_error_of_a_shared_gpu_may_be_a_neighbour_s(error: RuntimeError) -> None:
    with pytest.raises(SharedGpuError) as caught, faults_shared(), sizes_told():
        raise error
    first = str(error).splitlines()[0]
    assert str(caught.value) == f"the GPU failed, which it shared with other trials by MPS: {first}"
    assert fault_of(caught.value) == "shared GPU"
    assert fault_of(error) == "code", "on a GPU of its own"


def test_other_errors_on_a_shared_gpu_are_what_they_were() -> None:
    with pytest.raises(RuntimeError, match="no such layer"), faults_shared():
        raise RuntimeError("there is no such layer")
    with pytest.raises(TrialMemoryError), faults_shared(), sizes_told():
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(RuntimeError, match="out of memory"), faults_shared():
        raise RuntimeError("CUDA error: out of memory")


def test_a_worker_joins_mps_before_ray_train_uses_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    class Group:
        def execute(self, work: Callable[[], object]) -> None:
            done.append(work)

    monkeypatch.setattr(TorchConfig().backend_cls, "on_start", lambda *_: done.append("Ray Train"))
    config = sweep.execution.trial._OnSharedGpu()
    config.backend_cls().on_start(Group(), config)
    assert done == [sweep.execution.trial.join_mps, "Ray Train"]
