import platform
import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from sweep.execution.trial import Placement, forward_reports, run_trial


@pytest.mark.parametrize("places", [0, 1])
def test_every_report_is_sent_in_order_though_the_work_ends_at_once(places: int) -> None:
    reports: queue.Queue[dict[str, Any] | None] = queue.Queue(places)
    sent: list[int] = []

    def work() -> None:
        for epoch in range(1, 6):
            reports.put({"epoch": epoch})

    forward_reports(work, reports, lambda report: sent.append(report["epoch"]))
    assert sent == [1, 2, 3, 4, 5]


def test_reports_are_sent_from_the_thread_that_asked_for_it() -> None:
    # Tune's session belongs to the thread that it started.
    reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
    senders: list[int] = []
    forward_reports(lambda: reports.put({}), reports, lambda _: senders.append(threading.get_ident()))
    assert senders == [threading.get_ident()]


def test_a_failure_is_raised_after_the_reports_before_it() -> None:
    reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
    sent: list[int] = []

    def work() -> None:
        reports.put({"epoch": 1})
        raise RuntimeError("the second epoch failed")

    with pytest.raises(RuntimeError, match="the second epoch failed"):
        forward_reports(work, reports, lambda report: sent.append(report["epoch"]))
    assert sent == [1]


def test_a_node_that_does_not_share_the_run_s_folder_says_so(tmp_path: Path) -> None:
    # What a trial finds on a node that joined after all others had been asked.
    with pytest.raises(ValueError, match="must") as caught:
        run_trial(
            {"trial_id": "t0", "config": {}},
            placement=Placement(),
            run=str(tmp_path / "run"),
            execution="once",
            plugins={},
        )
    assert str(caught.value) == (
        f"The run's folder must be reachable from every node, got '{tmp_path / 'run'}', which the node "
        f"{platform.node()} does not share (no study.json is there); name an NFS folder or a URI with --output."
    )
