"""Which trials still fit before an execution ends, by a clock of the test's own."""

from dataclasses import replace
from typing import Any

import pytest
from ray.tune.search import Searcher

from sweep.execution.deadline import Deadline
from sweep.search.confirm import ConfirmSearcher
from sweep.search.searcher import StudySearcher
from sweep.study.catalog import STUDIES


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def report(epoch_s: float, state: str = "running", epoch: int = 1) -> dict[str, Any]:
    return {"epoch_s": epoch_s, "state": state, "epoch": epoch}


TRIAL = {"trial_id": "a", "cell": "a"}


def test_without_an_end_nothing_ever_stops(clock: Clock) -> None:
    deadline = Deadline(clock)
    clock.now = 1e9
    assert not deadline.stops(TRIAL, report(1e6))
    assert deadline.fits("a")
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
    assert not deadline.stops(TRIAL, report(10))
    clock.now = 119
    assert deadline.stops(TRIAL, report(5))  # by the longest so far, 12 s, not by the latest
    assert deadline.is_near
    assert not deadline.is_over


def test_after_sigterm_trials_have_the_rest_of_their_epoch_and_at_most_twenty_seconds(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_after_epoch()
    assert deadline.is_near
    assert deadline.stops(TRIAL, report(0.1))
    clock.now = 119.9
    assert not deadline.is_over
    clock.now = 120
    assert deadline.is_over


def test_a_trial_that_ends_by_itself_is_not_stopped(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_within(40)
    clock.now = 129
    assert not deadline.stops(TRIAL, report(10, "completed"))
    assert not deadline.stops(TRIAL, report(10, "diverged"))
    assert not deadline.is_near


def test_a_cell_goes_by_its_own_epochs_and_a_new_one_by_the_longest_of_all(clock: Clock) -> None:
    deadline = Deadline(clock)
    deadline.end_within(40)
    rows = [
        {"dataset": "d", "augmentation": "none", "variant": name, "epochs_run": 4, "duration_s": s, "train_s": 1.0}
        | {"trial_id": name}
        for name, s in (("slow", 80.0), ("fast", 8.0))
    ]
    deadline.learn([*rows, rows[0] | {"trial_id": "p", "variant": "pending", "epochs_run": 0, "duration_s": None}])
    clock.now = 110
    assert deadline.fits("d/none/fast")
    assert not deadline.is_near
    assert not deadline.fits("d/none/new")  # 1.2 times 20 s is more than the 20 s that are left
    assert not deadline.fits("d/none/slow")
    assert deadline.is_near


def test_a_cell_with_short_epochs_is_dealt_while_another_one_has_no_time(clock: Clock) -> None:
    deadline = Deadline(clock)
    study = replace(STUDIES["quickstart"](), variants=("model-c", "all-cnn-c"), protocol="paper")
    searcher = StudySearcher(study, fits=deadline.fits)
    deadline.end_within(40)
    deadline.stops({"trial_id": "x", "cell": "shapes/none/model-c"}, report(20))
    deadline.stops({"trial_id": "y", "cell": "shapes/none/all-cnn-c"}, report(1))
    clock.now = 120  # 10 s are left
    dealt = [searcher.suggest(str(number)) for number in range(3)]
    assert [each and each["cell"] for each in dealt] == ["shapes/none/all-cnn-c", "shapes/none/all-cnn-c", None]
    for number in range(2):
        searcher.on_trial_complete(str(number), {"error": 0.5, "state": "completed", "epoch": 5})
    assert searcher.suggest("3") == Searcher.FINISHED


def test_a_confirmation_is_dealt_by_what_has_time(clock: Clock) -> None:
    deadline = Deadline(clock)
    cells = {cell.variant: cell for cell in STUDIES["quickstart"]().cells()}
    trials = {name: cells[name] for name in ("model-c", "all-cnn-c")}
    searcher = ConfirmSearcher(trials, {}, deadline.fits)
    deadline.end_within(40)
    deadline.stops({"trial_id": "x", "cell": "shapes/none/model-c"}, report(20))
    deadline.stops({"trial_id": "y", "cell": "shapes/none/all-cnn-c"}, report(1))
    clock.now = 120
    dealt = searcher.suggest("0")
    assert isinstance(dealt, dict)
    assert dealt["trial_id"] == "all-cnn-c"
    assert searcher.suggest("1") is None
    searcher.on_trial_complete("0")
    assert searcher.suggest("2") == Searcher.FINISHED


def test_epochs_of_this_execution_are_counted_not_those_that_are_reported_again(clock: Clock) -> None:
    deadline = Deadline(clock)
    row = {"trial_id": "t", "dataset": "d", "augmentation": "none", "variant": "v", "epochs_run": 2}
    deadline.learn([row | {"duration_s": 4.0, "train_s": 3.0}])
    for epoch in (1, 2):
        deadline.stops({"trial_id": "t", "cell": "d/none/v"}, report(1, epoch=epoch))
    assert deadline.epochs == 0
    deadline.stops({"trial_id": "t", "cell": "d/none/v"}, report(1, epoch=3))
    deadline.stops({"trial_id": "u", "cell": "d/none/v"}, report(1, epoch=1))
    assert deadline.epochs == 2
