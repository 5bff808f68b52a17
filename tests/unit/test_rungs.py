"""One cell's rungs, computed by hand."""

import math
from itertools import permutations
from typing import Any

import pytest

from sweep.search.halving import CellASHA, CellHalving, Decision
from sweep.study.rungs import halving_rungs, rungs_of
from trainables.config import TrialConfig

NAN = math.nan


def trial(**values: object) -> TrialConfig:
    return TrialConfig(**{"dataset": "shapes", "variant": "model-a", "lr": 0.1} | values)  # type: ignore[arg-type]


def cell(*trials: str, rungs: tuple[int, ...] = (5,), keep_one_in: int = 4) -> CellASHA:
    asha = CellASHA(rungs, keep_one_in)
    for name in trials:
        asha.add(name)
    return asha


def verdicts(asha: CellASHA, errors: list[float], epoch: int = 5) -> list[str]:
    """Let trials `t0`, `t1` and so on arrive in turn."""
    decisions = [asha.decide(f"t{number}", epoch, error) for number, error in enumerate(errors)]
    assert all(decision is not None for decision in decisions)
    return [decision.verdict for decision in decisions if decision is not None]


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def test_the_paper_s_rungs_are_one_epoch_after_each_drop() -> None:
    assert rungs_of(trial()) == [201, 251, 301]
    assert rungs_of(trial(epochs=14)) == [9, 11, 13]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Of 7 epochs the drops come after 4, 5 and 6: a rung at the last epoch would stop nothing.
        ({"epochs": 7}, [5, 6]),
        ({"epochs": 2}, []),
        ({"epochs": 1}, []),
        ({"epochs": 10, "drops": ()}, []),
        ({"epochs": 10, "drops": (1.0,)}, []),
        ({"epochs": 10, "drops": (0.5, 0.52)}, [6]),
    ],
)
def test_rungs_lie_below_the_last_epoch_and_each_once(values: dict[str, object], expected: list[int]) -> None:
    assert rungs_of(trial(**values)) == expected


def test_a_first_rung_of_the_user_s_is_followed_by_ones_eta_times_as_late() -> None:
    assert rungs_of(trial(), 10, 3) == [10, 30, 90, 270]
    assert rungs_of(trial(epochs=8), 1, 2) == [1, 2, 4]
    assert rungs_of(trial(epochs=8), 8, 2) == []


def test_an_epoch_that_is_no_rung_decides_nothing() -> None:
    asha = cell("t0", "t1")
    assert asha.decide("t0", 4, 0.9) is None
    assert asha.decide("t0", 6, 0.9) is None


def test_the_best_quarter_of_those_that_have_arrived_goes_on() -> None:
    # Up to seven arrivals there is one place, from the eighth on there are two.
    errors = [0.50, 0.60, 0.40, 0.45, 0.70, 0.39, 0.80, 0.40, 0.395]
    assert verdicts(cell(*names(9)), errors) == [
        *("continue", "stop", "continue", "stop", "stop", "continue", "stop"),
        # Of eight, 0.39 and 0.40 are the best two, and this ties with the second; of nine there are two places still.
        *("continue", "continue"),
    ]


def test_a_decision_says_by_which_numbers_it_was_made() -> None:
    asha = cell(*names(2))
    assert asha.decide("t0", 5, 0.5) == Decision(
        trial_id="t0", epoch=5, error=0.5, cutoff=0.5, num_results=1, verdict="continue"
    )
    assert asha.decide("t1", 5, 0.6) == Decision(
        trial_id="t1", epoch=5, error=0.6, cutoff=0.5, num_results=2, verdict="stop"
    )


def test_with_eta_two_the_better_half_goes_on() -> None:
    errors = [0.4, 0.3, 0.35, 0.32, 0.31]
    assert verdicts(cell(*names(5), keep_one_in=2), errors) == ["continue", "continue", "stop", "continue", "continue"]


def test_ties_with_the_last_place_go_on() -> None:
    assert verdicts(cell(*names(4)), [0.5, 0.5, 0.5, 0.6]) == ["continue", "continue", "continue", "stop"]


def test_nan_is_the_worst_and_takes_no_place() -> None:
    assert verdicts(cell(*names(4)), [NAN, 0.9, NAN, 0.95]) == ["stop", "continue", "stop", "stop"]
    # NaN counts as an arrival: the eighth brings the second place.
    errors = [0.5, *[NAN] * 6, 0.6]
    assert verdicts(cell(*names(8)), errors)[-1] == "continue"


def test_only_nan_has_an_infinite_cut() -> None:
    decision = cell("t0", "t1").decide("t0", 5, NAN)
    assert decision is not None
    assert (decision.cutoff, decision.num_results, decision.verdict) == (math.inf, 1, "stop")


def test_late_arrivals_are_judged_by_all_before_them_and_change_nothing_decided() -> None:
    asha = cell("slow", *names(3))
    assert verdicts(asha, [0.5, 0.6, 0.55]) == ["continue", "stop", "stop"]
    late = asha.decide("slow", 5, 0.1)
    assert late is not None
    assert (late.verdict, late.num_results) == ("continue", 4)
    # The first answer stands, though 0.5 is the best no longer.
    again = asha.decide("t0", 5, 0.99)
    assert again is not None
    assert (again.verdict, again.error, again.num_results) == ("continue", 0.5, 1)


def test_rungs_are_judged_each_by_its_own_arrivals() -> None:
    asha = cell("t0", "t1", rungs=(2, 4))
    for epoch, error in ((2, 0.3), (4, 0.6)):
        decision = asha.decide("t0", epoch, error)
        assert decision is not None
        assert decision.verdict == "continue"
    for epoch, error in ((2, 0.3), (4, 0.5)):
        decision = asha.decide("t1", epoch, error)
        assert decision is not None
        assert decision.verdict == "continue"


@pytest.mark.parametrize("error", [0.9, NAN])
def test_one_trial_alone_is_never_stopped(error: float) -> None:
    decision = cell("t0").decide("t0", 5, error)
    assert decision is not None
    assert decision.verdict == "continue"


@pytest.mark.parametrize("ended_by_itself", [False, True])
def test_the_last_that_can_complete_goes_on_however_bad(ended_by_itself: bool) -> None:
    asha = cell("good", "bad")
    assert verdicts(asha, [0.1]) == ["continue"]  # t0 stands for one that was on the rung before
    asha.end("t0", completed=False)
    if ended_by_itself:
        asha.end("good", completed=False)
    else:
        decision = asha.decide("good", 5, 0.2)
        assert decision is not None
        assert decision.verdict == "stop"  # `bad` can still complete
    last = asha.decide("bad", 5, 0.9)
    assert last is not None
    assert (last.verdict, last.cutoff) == ("continue", 0.1)


def test_once_one_has_completed_any_other_may_be_stopped() -> None:
    asha = cell("t0", "t1")
    assert verdicts(asha, [0.1]) == ["continue"]
    asha.end("t0", completed=True)
    decision = asha.decide("t1", 5, 0.2)
    assert decision is not None
    assert decision.verdict == "stop"


def test_a_trial_told_to_stop_counts_no_longer_before_its_end_is_heard_of() -> None:
    asha = cell(*names(3))
    asha.restore(judged("earlier", 5, 0.1))
    # Neither end has been heard of when t2 arrives.
    assert verdicts(asha, [0.5, 0.6, 0.7]) == ["stop", "stop", "continue"]


def test_a_trial_that_begins_anew_can_complete_again() -> None:
    asha = cell("t0", "t1")
    asha.end("t0", completed=False)
    asha.add("t0")
    asha.restore(judged("earlier", 5, 0.1))
    decision = asha.decide("t1", 5, 0.5)
    assert decision is not None
    assert decision.verdict == "stop"


def test_what_was_judged_before_a_resume_is_on_its_rungs_again() -> None:
    asha = cell("t0", "t1", rungs=(2, 5))
    for epoch, error in ((2, 0.3), (5, 0.2), (6, 0.1)):
        asha.restore(judged("earlier", epoch, error))
    decisions = [asha.decide("t0", epoch, error) for epoch, error in ((2, 0.3), (5, 0.25))]
    assert [(d.cutoff, d.num_results, d.verdict) for d in decisions if d is not None] == [
        (0.3, 2, "continue"),
        (0.2, 2, "stop"),
    ]


def judged(trial_id: str, epoch: int, error: float) -> Decision:
    return Decision(trial_id=trial_id, epoch=epoch, error=error, cutoff=error, num_results=1, verdict="continue")


@pytest.mark.parametrize(
    ("values", "first_rung", "expected"),
    [
        ({"epochs": 350}, None, (100, 201)),
        ({"epochs": 14}, None, (4, 9)),
        ({"epochs": 14}, 3, (3, 6, 12)),
        ({"epochs": 14, "drops": ()}, None, (7,)),
        ({"epochs": 1}, None, ()),
        ({"epochs": 2, "drops": (1.0,)}, None, (1,)),
    ],
)
def test_trials_wait_halfway_to_the_first_drop_and_after_it(
    values: dict[str, Any], first_rung: int | None, expected: tuple[int, ...]
) -> None:
    assert halving_rungs(trial(**values), first_rung) == expected


def outcome(halving: CellHalving, errors: dict[int, float], epoch: int = 4) -> dict[int, str]:
    """Let trials arrive in the order given; return the last verdict on each."""
    told = [d for number, error in errors.items() for d in halving.arrive(f"cell_{number:04d}", epoch, error)]
    return {int(d.trial_id[-4:]): d.verdict for d in told}


def test_the_best_of_each_bracket_goes_on_whatever_the_order() -> None:
    errors = {0: 0.5, 1: 0.2, 2: 0.6, 3: 0.7, 4: 0.9, 5: 0.8}
    expected = {n: "continue" if n in (1, 5) else "stop" for n in errors}
    for order in permutations(errors):
        assert outcome(CellHalving([4], 4, 6), {n: errors[n] for n in order}) == expected


def test_of_two_rungs_each_lets_the_better_half_go_on() -> None:
    for first in permutations({0: 0.5, 1: 0.2, 2: 0.6, 3: 0.4}.items()):
        halving = CellHalving([4, 9], 2, 4)
        assert outcome(halving, dict(first)) == {0: "stop", 1: "continue", 2: "stop", 3: "continue"}
        assert [d.verdict for d in halving.arrive("cell_0003", 9, 0.1)] == ["pause"]
        assert outcome(halving, {1: 0.3}, epoch=9) == {1: "stop", 3: "continue"}
        assert halving.arrive("cell_0003", 10, 0.1) == [], "no rung"


def test_a_rung_waits_only_for_those_that_passed_the_one_before() -> None:
    halving = CellHalving([4, 9], 2, 4)
    assert outcome(halving, {0: 0.5, 1: 0.2, 2: 0.6, 3: 0.4})[1] == "continue"
    assert halving.end("cell_0000") == [], "stopped before, and not waited for"
    assert [d.verdict for d in halving.arrive("cell_0001", 9, 0.9)] == ["pause"]
    (decision,) = halving.end("cell_0003")
    assert (decision.trial_id, decision.epoch, decision.verdict, decision.num_results) == (
        "cell_0001",
        9,
        "continue",
        1,
    )


def test_the_dead_leave_their_places_to_the_others() -> None:
    halving = CellHalving([4, 9], 2, 4)
    for dead in (0, 2):
        assert halving.end(f"cell_{dead:04d}") == []
    # Two of four places are there for two that have come.
    assert outcome(halving, {1: 0.9, 3: 0.4}) == {1: "continue", 3: "continue"}


def test_those_that_tie_for_the_best_go_on_and_nan_is_the_worst() -> None:
    assert outcome(CellHalving([4], 4, 4), {0: math.nan, 1: 0.9, 2: 0.9, 3: 0.95}) == {
        **{0: "stop", 1: "continue"},
        **{2: "continue", 3: "stop"},
    }
    assert outcome(CellHalving([4], 2, 2), {0: math.nan, 1: math.nan}) == {0: "continue", 1: "continue"}


def test_one_trial_alone_waits_for_nobody() -> None:
    halving = CellHalving([4, 9], 2, 1)
    assert [outcome(halving, {0: 0.99}, epoch) for epoch in (4, 9)] == [{0: "continue"}] * 2


def test_who_ends_by_itself_is_not_waited_for_and_an_end_is_heard_once() -> None:
    halving = CellHalving([4], 2, 2)
    assert [d.verdict for d in halving.arrive("cell_0000", 4, 0.9)] == ["pause"]
    (decision,) = halving.end("cell_0001")
    assert (decision.trial_id, decision.verdict, decision.num_results, decision.cutoff) == (
        "cell_0000",
        "continue",
        1,
        0.9,
    )
    assert halving.end("cell_0001") == []
    assert [d.verdict for d in halving.arrive("cell_0000", 4, 0.1)] == ["continue"]


def test_what_was_decided_before_a_resume_stays_so() -> None:
    errors = {0: 0.5, 1: 0.2, 2: 0.6, 3: 0.4}
    first, second = CellHalving([4, 9], 2, 4), CellHalving([4, 9], 2, 4)
    for number, error in errors.items():
        for decision in first.arrive(f"cell_{number:04d}", 4, error):
            if decision.verdict != "pause":
                second.restore(decision)
    second.end("cell_0000")
    assert outcome(second, {1: 0.2, 3: 0.4}) == {1: "continue", 3: "continue"}
    assert outcome(second, {3: 0.3, 1: 0.4}, epoch=9) == {3: "continue", 1: "stop"}
