"""Notices that the cluster has gone from under a run, which Ray Tune would wait for without end.

Ray ends a driver whose head is silent for a minute, with what it had not written; a driver whose own node dies goes on
asking for results that cannot come.
"""

import contextlib
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray

ASK_EVERY_S = 2.0

SILENT_FOR_S = 20.0
"""How long the head may leave questions unanswered before it counts as lost: a third of Ray's own patience."""

LEAVE_WITHIN_S = 15.0
"""How long the main thread may take to close the record."""


class ClusterLostError(Exception):
    """The head of the cluster does not answer any more, or the node of this process has died."""


@contextlib.contextmanager
def cluster_watched(give_up: Callable[[str], object]) -> Iterator[None]:
    """Raise ClusterLostError in the midst of the context when the cluster is lost; for the main thread.

    Args:
        give_up: called with the reason, from another thread, where the main thread does not leave the context: some of
            what Ray asks its head returns after a minute, by ending the process.

    Raises:
        ClusterLostError: see there.
    """
    address, node = ray.get_runtime_context().gcs_address, ray.get_runtime_context().get_node_id()
    over = threading.Event()
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    found: list[str] = []

    def raise_it(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module's signature
        raise ClusterLostError(found[0])

    def ask() -> None:
        host, _, port = address.rpartition(":")
        while not over.wait(ASK_EVERY_S):
            # The second question to a head that has gone waits for a minute, the first one does not.
            with contextlib.suppress(OSError, ray.exceptions.RayError):
                socket.create_connection((host.strip("[]"), int(port)), timeout=ASK_EVERY_S).close()
                answers.put(any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()))

    def watch() -> None:
        reason = why_lost(answers, SILENT_FOR_S)
        if over.is_set():
            return
        found.append(reason)
        # Not SIGUSR1, which Ray Tune takes for itself. Ray waits in compiled code, some of which looks for signals, and
        # none for anything else.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        if not over.wait(LEAVE_WITHIN_S):
            give_up(reason)

    before: Any = signal.signal(signal.SIGUSR2, raise_it)
    for work in (ask, watch):
        threading.Thread(target=work, daemon=True, name=f"cluster {work.__name__}").start()
    try:
        yield
    except BaseException as error:
        if found:  # Ray makes a SystemError of it on the way
            raise ClusterLostError(found[0]) from error
        raise
    finally:
        over.set()
        answers.put(False)
        signal.signal(signal.SIGUSR2, before)


def why_lost(answers: queue.SimpleQueue[bool], patience_s: float) -> str:
    """Return in words how the cluster was lost, once it is.

    Args:
        answers: whether the head holds this process's node for alive, each time that it was asked and answered.
        patience_s: the longest time between two answers.
    """
    try:
        while answers.get(timeout=patience_s):
            pass
    except queue.Empty:
        return "its head does not answer"
    return "the node of this process has died, or the head holds it for dead"
