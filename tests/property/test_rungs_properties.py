"""Early stopping against a table of all arrivals, counted anew at each decision."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.search.halving import CellASHA

calm = settings(deadline=None, derandomize=True, max_examples=300)

EPOCHS = 6

# Few different errors, so that ties are common.
errors = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.9, math.nan])
events = st.lists(st.tuples(st.integers(0, 7), errors, st.booleans()), min_size=1, max_size=80)


def goes_on(arrivals: list[tuple[str, int, float]], keep_one_in: int, others_left: bool) -> bool:
    """Judge the last of the arrivals, each a trial, an epoch and an error, by counting who is better."""
    _, epoch, error = arrivals[-1]
    on_the_rung = [other for _, where, other in arrivals if where == epoch]
    better = sum(other < error for other in on_the_rung if not math.isnan(other))
    return not others_left or (not math.isnan(error) and better < max(1, len(on_the_rung) // keep_one_in))


@calm
@given(events, st.integers(1, 8), st.sets(st.integers(1, EPOCHS - 1)), st.integers(2, 5))
def test_decisions_are_those_of_a_table_of_all_arrivals(
    steps: list[tuple[int, float, bool]], count: int, rungs: set[int], keep_one_in: int
) -> None:
    asha = CellASHA(sorted(rungs), keep_one_in)
    epoch = dict.fromkeys((f"t{number}" for number in range(count)), 0)
    alive, completed = set(epoch), set[str]()
    gone_by_themselves = set[str]()
    for name in epoch:
        asha.add(name)
    arrivals: list[tuple[str, int, float]] = []
    for number, error, fails in steps:
        name = f"t{number}"
        if name not in alive:
            continue
        if fails and error == 0.9:
            asha.end(name, completed=False)
            alive.remove(name)
            gone_by_themselves.add(name)
            continue
        epoch[name] += 1
        if epoch[name] == EPOCHS:
            asha.end(name, completed=True)
            alive.remove(name)
            completed.add(name)
            continue
        decision = asha.decide(name, epoch[name], error)
        assert (decision is not None) == (epoch[name] in rungs)
        if decision is None:
            continue
        arrivals.append((name, epoch[name], error))
        expected = goes_on(arrivals, keep_one_in, others_left=bool(completed or alive - {name}))
        assert (decision.verdict == "continue") == expected
        assert asha.decide(name, epoch[name], 0.0) == decision
        if decision.verdict == "stop":
            asha.end(name, completed=False)
            alive.remove(name)
            assert alive | completed
    # Where none is left that could complete, the last ones ended by themselves, not by a decision.
    assert alive or completed or gone_by_themselves


@calm
@given(st.permutations(range(8)), st.lists(errors, min_size=8, max_size=8), st.integers(2, 5))
def test_whatever_the_order_one_trial_of_a_cell_reaches_its_end(
    order: list[int], values: list[float], keep_one_in: int
) -> None:
    asha = CellASHA([1, 2, 3], keep_one_in)
    for number in range(8):
        asha.add(f"t{number}")
    left = list(order)
    for rung in (1, 2, 3):
        decisions = [(number, asha.decide(f"t{number}", rung, values[number])) for number in left]
        left = [number for number, decision in decisions if decision is not None and decision.verdict == "continue"]
    assert left
