import math
import subprocess
import sys
from typing import Any

import pytest

from search_spaces import Choice, Space
from sweep.record.params import write_params
from sweep.record.progress import (
    Left,
    arrange,
    count_states,
    epochs_per_s,
    estimate_left,
    eta_in_words,
    progress_line,
)
from tests.standings import RATES, row, scope


def lr(rate: float, **others: float) -> str:
    return write_params({"lr": rate, **others})


def test_a_scope_is_what_study_json_says() -> None:
    found = scope()
    assert found.cells == ("cifar10/none/model-a", "cifar10/none/all-cnn-a")
    assert found.labels == ("model-a", "all-cnn-a")
    assert (found.column, found.dimension, found.heads) == ("val_error", "lr", ("0.25", "0.1", "0.05", "0.01"))
    assert (found.points, found.places, found.confirming) == ((4, 4), ((1, 1, 1, 1),) * 2, 3)
    paper = scope(protocol="paper", seeds=2)
    assert (paper.column, paper.points, paper.places, paper.confirming) == ("test_error", (8, 8), ((2,) * 4,) * 2, 0)
    several = scope(augmentations=("none", "flip-shift"))
    assert several.labels[:2] == ("none/model-a", "none/all-cnn-a")


DROPOUT = Choice((0.0, 0.5))


@pytest.mark.parametrize(
    ("changes", "dimension", "heads", "places"),
    [
        # The learning rate stands above, wherever it stands in the space.
        ({"space": Space(dropout=DROPOUT, lr=Choice((0.1, 0.01)))}, "lr", ("0.1", "0.01"), ((2, 2), (2, 2))),
        ({"space": Space(dropout=DROPOUT, width=Choice((1.0, 2.0, 3.0)))}, "dropout", ("0", "0.5"), ((3, 3), (3, 3))),
        ({"space": Space(max_grad_norm=Choice((None, 1.0)))}, "max_grad_norm", ("none", "1"), ((1, 1), (1, 1))),
        ({"space": Space()}, None, ("1",), ((1,), (1,))),
        # One variant's own values: its points in their order, and nothing where the other one has fewer.
        ({"spaces": {"model-a": Space(lr=Choice((0.1, 0.01)))}}, None, ("1", "2", "3", "4"), ((1, 1, 0, 0), (1,) * 4)),
        # Its own values of another hyperparameter: more trials in each place.
        ({"spaces": {"model-a": Space(dropout=DROPOUT)}}, "lr", ("0.25", "0.1", "0.05", "0.01"), ((2,) * 4, (1,) * 4)),
        # The momentum exists at two of four forms and rates.
        (
            {
                "space": Space(
                    lr=Choice((0.1, 0.01)),
                    momentum_form=Choice(("pytorch", "caffe")),
                    momentum=Choice((0.8, 0.9)).when("momentum_form", "caffe"),
                )
            },
            "lr",
            ("0.1", "0.01"),
            ((3, 3), (3, 3)),
        ),
        # One exists at one rate only.
        (
            {"space": Space(lr=Choice((0.1, 0.01)), momentum=Choice((0.8, 0.9)).when("lr", 0.1))},
            "lr",
            ("0.1", "0.01"),
            ((2, 1), (2, 1)),
        ),
        ({"search": "tpe", "trials_per_cell": 3}, None, ("1", "2", "3"), ((1, 1, 1), (1, 1, 1))),
    ],
)
def test_a_row_has_a_place_for_each_value_of_the_first_dimension_else_for_each_point(
    changes: dict[str, Any], dimension: str | None, heads: tuple[str, ...], places: tuple[tuple[int, ...], ...]
) -> None:
    found = scope(**changes)
    assert (found.dimension, found.heads, found.places) == (dimension, heads, places)
    assert found.points == tuple(map(sum, places))


def test_the_epochs_of_a_trial_are_the_longest_that_is_searched() -> None:
    assert scope().epochs == 10
    assert scope(space=Space(epochs=Choice((5, 20)))).epochs == 20
    assert scope(spaces={"model-a": Space(epochs=Choice((5, 8)))}).epochs == 10


def test_a_trial_stands_at_its_value_of_the_first_dimension() -> None:
    found = scope(space=Space(max_grad_norm=Choice((None, 1.0)), dropout=DROPOUT))
    rows = [
        row("model-a", 0.1, "completed", number=number, val_error=error, params=write_params(params))
        for number, (error, params) in enumerate(
            [(0.4, {"max_grad_norm": None, "dropout": 0.5}), (0.2, {"max_grad_norm": 1.0, "dropout": 0.0})]
        )
    ]
    first, _ = arrange(found, rows)
    assert [place.ended for place in first.places] == [1, 1]
    assert [place.is_best for place in first.places] == [False, True]
    assert first.best == (0.2, write_params({"max_grad_norm": 1.0, "dropout": 0.0}))


def test_the_best_of_a_running_cell_is_the_lowest_of_all_and_of_an_ended_one_the_lowest_completed() -> None:
    rows = [
        row("model-a", rate, "completed", val_error=error) for rate, error in zip(RATES, (0.3, 0.2, 0.4), strict=False)
    ]
    going, _ = arrange(scope(), [*rows, row("model-a", 0.01, "running", val_error=0.1)])
    assert [place.is_best for place in going.places] == [False, False, False, True]
    ended, _ = arrange(scope(), [*rows, row("model-a", 0.01, "stopped", val_error=0.1)])
    assert [place.is_best for place in ended.places] == [False, True, False, False]
    assert ended.best == (0.2, lr(0.1))


def test_what_diverged_or_failed_has_no_error_to_be_best_by() -> None:
    rows = [row("model-a", 0.25, "diverged", val_error=1.0), row("model-a", 0.1, "failed", val_error=0.01)]
    standing, other = arrange(scope(), rows)
    assert standing.best is None
    assert [place.state for place in standing.places] == ["diverged", "failed", "waiting", "waiting"]
    assert other.search.waiting == 4


def test_seeds_of_a_configuration_are_averaged_and_configurations_are_not() -> None:
    two = scope(protocol="paper", seeds=2)
    seeds = [row("model-a", 0.1, "completed", number=n, seed=n, test_error=e) for n, e in enumerate((0.2, 0.4))]
    assert arrange(two, seeds)[0].places[1].best(completed=True) == (pytest.approx(0.3), lr(0.1))
    decays = [one | {"params": lr(0.1, weight_decay=10.0**-index)} for index, one in enumerate(seeds)]
    assert arrange(two, decays)[0].places[1].best(completed=True) == (0.2, lr(0.1, weight_decay=1.0))


def test_a_trial_whose_last_epoch_was_not_measured_has_no_error_to_be_best_by() -> None:
    cut = [row("model-a", 0.25, "running", val_error=None), row("model-a", 0.1, "pending", epochs_run=3)]
    first, _ = arrange(scope(), [*cut, row("model-a", 0.05, "completed", val_error=0.3)])
    assert [place.best(completed=False) for place in first.places[:2]] == [None, None]
    assert [place.is_best for place in first.places] == [False, False, True, False]
    assert (first.search.epochs, first.best) == (17, (0.3, lr(0.05)))
    alone, _ = arrange(scope(), cut)
    assert alone.best is None
    # 140 epochs less 7, at 2 s each.
    assert progress_line(scope(), cut) == "0 of 14 trials ended, 1 running, 0.5 epochs/s, ETA about 4 min"


def test_what_confirms_has_a_place_of_its_own_and_chooses_nothing() -> None:
    rows = [
        row("model-a", 0.1, "completed", val_error=0.5),
        row("model-a", 0.1, "completed", phase="confirm", test_error=0.1),
        row("model-a", 0.1, "running", number=1, phase="confirm"),
    ]
    standing = arrange(scope(), rows)[0]
    assert standing.best == (0.5, lr(0.1))
    assert standing.confirm is not None
    assert (standing.confirm.trials, standing.confirm.ended, standing.confirm.state) == (3, 1, "running")
    assert standing.confirm.best(completed=True) == (0.1, lr(0.1))


def test_a_cell_without_a_completed_trial_confirms_nothing() -> None:
    rows = [row("model-a", rate, "diverged", epochs_run=1) for rate in RATES]
    standing, other = arrange(scope(), rows)
    assert standing.confirm is not None
    assert standing.confirm.trials == 0
    assert other.confirm is not None
    assert other.confirm.trials == 3
    # What is left is the other cell's 4 + 3 trials, one of which runs.
    left = estimate_left(scope(), [*rows, row("all-cnn-a", 0.1, "running", epochs_run=5)])
    assert left is not None
    assert left.seconds == pytest.approx((70 - 5) * 2.0)


def test_points_of_a_sampler_stand_in_their_order() -> None:
    drawn = scope(search="tpe", trials_per_cell=3)
    rows = [row("model-a", rate, "completed", number=n, val_error=rate) for n, rate in ((1, 0.2), (0, 0.7), (2, 0.4))]
    best = [place.best(completed=True) for place in arrange(drawn, rows)[0].places]
    assert [found[0] for found in best if found] == [0.7, 0.2, 0.4]


def test_a_place_counts_its_share_of_all_its_trials() -> None:
    two = scope(protocol="paper", seeds=2)
    place = arrange(two, [row("model-a", 0.1, "running", epochs_run=5)])[0].places[1]
    assert place.share == 0.25
    assert (place.trials, place.ended, place.waiting, place.state) == (2, 0, 1, "running")


def test_states_are_counted_with_what_has_not_begun() -> None:
    rows = [row("model-a", 0.1, "pending"), row("model-a", 0.05, "running"), row("all-cnn-a", 0.1, "failed")]
    counted = {"waiting": 12, "running": 1, "stopped": 0, "diverged": 0, "completed": 0, "failed": 1}
    assert count_states(scope(), rows) == counted


def test_what_is_left_is_the_epochs_left_by_their_cells_means_over_what_runs() -> None:
    # Model A: 2 s and 4 s an epoch; ALL-CNN-A has trained none. 14 trials of 10 epochs, 10 + 4 done.
    rows = [
        row("model-a", 0.1, "completed"),
        row("model-a", 0.05, "running", duration_s=16.0),
    ]
    left = estimate_left(scope(), rows)
    assert left is not None
    assert left.seconds == pytest.approx((140 - 14) * 3.0)
    # One cell says nothing of how cells differ.
    assert left.plus_minus is None
    # A second cell at 6 s: its mean has the first one's relative spread of sqrt(2) s / 3 s.
    more = estimate_left(scope(), [*rows, row("all-cnn-a", 0.1, "running", epochs_run=5, duration_s=30.0)])
    assert more is not None
    assert more.seconds == pytest.approx((56 * 3.0 + 65 * 6.0) / 2)
    spread = math.sqrt(2) / 3
    own, others = 56 * spread * 3 / math.sqrt(2), 65 * spread * 6
    assert more.plus_minus == pytest.approx(1.96 * math.hypot(own, others) / 2)


def test_no_estimate_is_made_of_nothing() -> None:
    assert estimate_left(scope(), []) is None
    assert estimate_left(scope(), [row("model-a", 0.1, "running", epochs_run=0)]) is None
    assert estimate_left(scope(), [row("model-a", 0.1, "completed")]) is None
    # Between two trials that run one after the other none runs: 130 epochs at 2 s.
    between = estimate_left(scope(), [row("model-a", 0.1, "completed")], at_once=1)
    assert between is not None
    assert between.seconds == 260.0


def test_the_estimate_in_words() -> None:
    assert eta_in_words(scope(), None) == ""
    assert eta_in_words(scope(), Left(seconds=600, plus_minus=None)) == "ETA about 10 min"
    assert eta_in_words(scope(), Left(seconds=600, plus_minus=120)) == "ETA 8 to 12 min"
    assert eta_in_words(scope(), Left(seconds=600, plus_minus=1)) == "ETA 10 min"
    asha = scope(early_stopping="asha")
    assert eta_in_words(asha, Left(seconds=60, plus_minus=90)) == "ETA 0 to 2 min, less if trials stop early"


def test_progress_in_one_line() -> None:
    rows = [row("model-a", 0.1, "completed"), row("model-a", 0.05, "running", duration_s=16.0)]
    assert epochs_per_s(rows) == 0.25
    assert epochs_per_s([*rows, row("all-cnn-a", 0.1, "running", epochs_run=0)]) == 0.5
    assert progress_line(scope(), rows) == "1 of 14 trials ended, 1 running, 0.25 epochs/s, ETA about 6 min"
    assert progress_line(scope(), []) == "0 of 14 trials ended, 0 running"


def test_a_look_at_a_run_loads_nothing_heavy() -> None:
    code = (
        "import sys, sweep.monitor.status; print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
