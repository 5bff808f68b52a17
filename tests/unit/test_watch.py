"""Noticing that the cluster has gone; tests/chaos/test_faults.py kills real ones."""

import os
import queue
import signal
import threading

import pytest
import ray

from sweep.cluster.liveness import ClusterLostError, cluster_watched, why_lost


def answers(*given: bool) -> "queue.SimpleQueue[bool]":
    made: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for each in given:
        made.put(each)
    return made


def test_a_head_that_says_nothing_more_is_lost() -> None:
    assert why_lost(answers(True, True), 0.01) == "its head does not answer"


def test_a_node_that_the_head_holds_for_dead_is_lost() -> None:
    given = answers(True, False, True)
    assert why_lost(given, 60).startswith("the node of this process has died")
    assert given.get_nowait()


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        gcs_address = "127.0.0.1:1"

        def get_node_id(self) -> str:
            return "0"

    monkeypatch.setattr(ray, "get_runtime_context", Context)
    monkeypatch.setattr("sweep.cluster.liveness.ASK_EVERY_S", 0.01)
    monkeypatch.setattr("sweep.cluster.liveness.SILENT_FOR_S", 0.05)


@pytest.mark.usefixtures("context")
def test_a_wait_in_the_main_thread_ends_when_nobody_answers() -> None:
    def never(reason: str) -> None:
        raise AssertionError(reason)

    with pytest.raises(ClusterLostError, match="its head does not answer"), cluster_watched(never):
        threading.Event().wait()
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL


@pytest.mark.usefixtures("context")
def test_who_does_not_heed_the_signal_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.cluster.liveness.LEAVE_WITHIN_S", 0.05)
    given_up: queue.SimpleQueue[str] = queue.SimpleQueue()

    def stay() -> None:
        try:
            threading.Event().wait()
        except ClusterLostError:
            assert given_up.get() == "its head does not answer"
            raise

    with pytest.raises(ClusterLostError), cluster_watched(given_up.put):
        stay()


@pytest.mark.usefixtures("context")
def test_what_ends_by_itself_is_left_alone() -> None:
    with cluster_watched(lambda reason: os._exit(1)):
        pass
    with pytest.raises(ZeroDivisionError), cluster_watched(lambda reason: os._exit(1)):
        _ = 1 / 0
