"""What ended a trial that did not end by itself, and whether it is begun again."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

from sweep.record.schema import Fault

_NODE_DIED = "node has died"
"""What Ray says of an actor that died with its node, and of no other."""

_KILLED_FOR_MEMORY = "running low on memory"
"""What Ray says of a process that its memory monitor has killed."""

SHARED_GPU_FAILED = "the GPU failed, which it shared with other trials by MPS"
"""How the reason of a trial with the fault `shared GPU` begins, after the error's name."""

_CUDA_FAILED = ("CUDA error", "cuDNN error")
"""What torch says in a RuntimeError when a call of CUDA or of its libraries fails."""

_CUDA_OUT_OF_MEMORY = 2
"""The code of cudaErrorMemoryAllocation."""

_NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory", "out of memory")
"""What torch says in a plain RuntimeError."""


class NodeLostError(Exception):
    """A trial's worker group lost one of the nodes that it was on."""


class ProcessDiedError(Exception):
    """A worker of a trial's group ended without a word, its node did not."""


class SharedGpuError(Exception):
    """CUDA failed on a GPU that trials share by MPS, where the fault of one fails all; the text is CUDA's."""


class TrialMemoryError(Exception):
    """A trial asked for more memory than there was; the text has the sizes."""


def fault_of(error: BaseException) -> Fault:
    """Return what an error is, as Ray Tune got it from a trial."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, NodeLostError) or is_node_death(cause):
        return "node lost"
    if isinstance(cause, TrialMemoryError | OutOfMemoryError) or is_out_of_memory(cause):
        return "out of memory"
    if isinstance(cause, RayActorError | WorkerCrashedError):
        return "out of memory" if _KILLED_FOR_MEMORY in str(cause) else "process died"
    if isinstance(cause, SharedGpuError):
        return "shared GPU"
    return "process died" if isinstance(cause, ProcessDiedError) else "code"


def is_node_death(error: BaseException) -> bool:
    """Return whether Ray says by this error that a process ended with its node, or cannot be reached at all."""
    if isinstance(error, ActorUnavailableError):
        # The process does not answer, though Ray knows of no end of it: the way to its node is gone.
        return True
    return isinstance(error, RayActorError) and (error.preempted or _NODE_DIED in str(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, torch or CUDA says by this error that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, torch.AcceleratorError):
        return getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY
    return type(error) is RuntimeError and any(said in str(error) for said in _NO_MEMORY)


@contextmanager
def sizes_told() -> Iterator[None]:
    """Add to an error for want of memory what this process held and what the machine has.

    Raises:
        TrialMemoryError: in the place of such an error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own are RuntimeErrors
        if not is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrialMemoryError(
            f"out of memory: {said}; the process held at most {peak_gib():.1f} GiB of the machine's "
            f"{machine_gib():.1f} GiB"
        ) from error


@contextmanager
def faults_shared() -> Iterator[None]:
    """Tell errors of a GPU that the trial shares by MPS from those of its code.

    Raises:
        SharedGpuError: in the place of such an error; one for want of memory stays as it is.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error) or not any(said in str(error) for said in _CUDA_FAILED):
            raise
        raise SharedGpuError(f"{SHARED_GPU_FAILED}: {str(error).strip().splitlines()[0]}") from error


def peak_gib() -> float:
    """Return the most memory that this process has held, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30  # bytes there, KiB elsewhere


def machine_gib() -> float:
    """Return the memory of this machine, GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
