"""Which trials still fit before an execution ends, by a clock of the test's own."""

from typing import Any

import pytest
from ray.tune.search import Searcher

from sweep.deadline import Deadline, PunctualSearcher


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report(epoch_s: float, state: str = "running") -> dict[str, Any]:
    return {"epoch_s": epoch_s, "state": state}


def test_without_an_end_nothing_ever_stops(clock: Clock) -> None:
    deadline = Deadline(clock)
    clock.now = 1e9
    assert not deadline.stops("a", report(1e6))
    assert not deadline.refuses("a")
    assert (deadline.is_over, deadline.is_near) == (False, False)


@pytest.mark.parametrize(("seconds", "training"), [(40, 30), (200, 190), (400, 380), (600, 570), (7200, 7170)])
def test_closing_is_given_a_twentieth_of_the_time(clock: Clock, seconds: float, training: float) -> None:
    deadline = Deadline(clock)
    deadline.end_within(seconds)
    clock.now = 100 + training - 0.001
    assert not deadline.is_over
    clock.now = 100 + training
    assert deadline.is_over


def test_the_earliest_of_several_ends_counts(clock: Clock) -> None:
    deadline = Deadline(clock)
    for seconds in (40, 30, 60):
        deadline.end_within(seconds)
    clock.now = 120
    assert deadline.is_over


def test_a_trial_stops_after_the_last_epoch_that_fits(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_within(40)  # trials have 30 s
    clock.now = 110
    # The next one is given 1.2 times 10 s, up to 122 of 130.
    assert not deadline.stops("a", report(10))
    clock.now = 119
    assert deadline.stops("a", report(5))  # by the longest so far, 12 s, not by the latest
    assert deadline.is_near
    assert not deadline.is_over


def test_after_sigterm_trials_have_the_rest_of_their_epoch_and_at_most_twenty_seconds(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_after_epoch()
    assert deadline.is_near
    assert deadline.stops("a", report(0.1))
    clock.now = 119.9
    assert not deadline.is_over
    clock.now = 120
    assert deadline.is_over


def test_a_trial_that_ends_by_itself_is_not_stopped(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_within(40)
    clock.now = 129
    assert not deadline.stops("a", report(10, "completed"))
    assert not deadline.stops("a", report(10, "diverged"))
    assert not deadline.is_near


def test_a_cell_goes_by_its_own_epochs_and_a_new_one_by_the_longest_of_all(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_within(40)
    rows = [
        {"dataset": "d", "augmentation": "none", "variant": name, "epochs_run": 4, "duration_s": s, "train_s": 1.0}
        for name, s in (("slow", 80.0), ("fast", 8.0))
    ]
    deadline.learn([*rows, rows[0] | {"variant": "pending", "epochs_run": 0, "duration_s": None}])
    clock.now = 110
    assert not deadline.refuses("d/none/fast")
    assert not deadline.is_near
    assert deadline.refuses("d/none/new")  # 1.2 times 20 s is more than the 20 s that are left
    assert deadline.refuses("d/none/slow")
    assert deadline.is_near


class Dealing(Searcher):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(metric="error", mode="min")
        self.heard: list[tuple[Any, ...]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return {"cell": "a", "trial_id": trial_id} if trial_id != "waits" else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.heard.append((trial_id, result, error))


def test_a_search_ends_once_its_next_trial_does_not_fit(clock: Clock) -> None:
    deadline, dealing = Deadline(clock), Dealing()
    searcher = PunctualSearcher(dealing, deadline)
    deadline.end_within(40)
    assert searcher.suggest("1") == {"cell": "a", "trial_id": "1"}
    assert searcher.suggest("waits") is None
    deadline.stops("a", report(10))
    clock.now = 119
    assert searcher.suggest("2") == Searcher.FINISHED
    clock.now = 100  # once one did not fit, none begins
    assert searcher.suggest("3") == Searcher.FINISHED
    searcher.on_trial_complete("1", {"error": 0.5}, error=True)
    assert dealing.heard == [("1", {"error": 0.5}, True)]
