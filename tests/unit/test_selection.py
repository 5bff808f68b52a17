from typing import Any

import pytest

from sweep.record.params import write_params
from sweep.record.selection import (
    Candidate,
    candidates,
    criterion_column,
    rank_configurations,
    visible_columns,
)


def candidate(lr: float, error: float, seed: int = 0) -> Candidate:
    return Candidate(trial_id=f"{lr}-{seed}", params=write_params({"lr": lr}), seed=seed, error=error)


def params(**values: Any) -> str:
    return write_params(values)


def best(found: list[Candidate]) -> list[Candidate]:
    return rank_configurations(found)[0]


def test_the_rate_with_the_lowest_mean_wins() -> None:
    found = [candidate(0.1, 0.1), candidate(0.1, 0.5, 1), candidate(0.01, 0.27, 1), candidate(0.01, 0.25)]
    assert rank_configurations(found) == [found[:1:-1], found[:2]]


def test_no_candidate_gives_none() -> None:
    assert rank_configurations([]) == []


@pytest.mark.parametrize("order", [1, -1])
def test_of_equals_the_smaller_rate(order: int) -> None:
    found = [candidate(0.1, 0.2), candidate(0.05, 0.2), candidate(0.25, 0.2)][::order]
    assert [group[0].trial_id for group in rank_configurations(found)] == ["0.05-0", "0.1-0", "0.25-0"]


def test_a_rate_with_fewer_seeds_left_comes_last() -> None:
    found = [candidate(0.1, 0.01), candidate(0.05, 0.3), candidate(0.05, 0.4, 1)]
    assert best(found) == found[1:]
    assert len(rank_configurations(found)) == 2


def test_a_rate_that_a_sampler_tried_again_is_not_better_for_it() -> None:
    found = [candidate(0.1, 0.01), candidate(0.05, 0.3), candidate(0.05, 0.4, 1)]
    assert rank_configurations(found, seeds=1)[0] == found[:1]
    assert rank_configurations(found, seeds=2)[0] == found[1:]


def test_configurations_differ_in_weight_decay_and_batch_size_too() -> None:
    found = [
        Candidate(
            trial_id=str(number), params=params(lr=0.1, weight_decay=decay, batch_size=batch), seed=0, error=error
        )
        for number, (decay, batch, error) in enumerate([(0.001, 128, 0.3), (0.01, 128, 0.2), (0.001, 64, 0.1)])
    ]
    assert [group[0].trial_id for group in rank_configurations(found)] == ["2", "1", "0"]


def test_configurations_of_any_kind_of_value_are_in_one_order_where_they_tie() -> None:
    texts = [
        params(lr=0.1, norm=None),
        params(lr=0.1, norm=0.5),
        params(lr=0.1, norm=2),
        params(lr=0.1, norm=""),
        params(lr=0.1, norm="a"),
        # With a dimension more, or another one.
        params(lr=0.1, norm="a", z=True),
        params(lr=0.1, zero=False),
        params(lr=0.1, zero=True),
        # The learning rate first, whatever the names.
        params(lr=0.2, a=0),
    ]
    tied = [Candidate(trial_id=text, params=text, seed=0, error=0.2) for text in texts]
    for shift in range(len(tied)):
        ranked = rank_configurations(tied[shift:] + tied[:shift][::-1])
        assert [group[0].params for group in ranked] == texts
    better = Candidate(trial_id="x", params=params(lr=0.9), seed=0, error=0.1)
    assert rank_configurations([*tied, better])[0] == [better]


def test_equal_values_of_other_kinds_are_other_configurations() -> None:
    found = [
        Candidate(trial_id=str(value), params=params(x=value), seed=0, error=0.2) for value in (1, True, "1", 1.5, None)
    ]
    assert len(rank_configurations(found)) == 5


class Row(dict[str, Any]):
    """A row of `trials` that raises where a column is read that is not there."""


def row(**values: Any) -> Row:
    names = {"trial_id": "t", "phase": "search", "state": "completed", "seed": 0, "params": params(lr=0.1)}
    return Row(names | values)


def test_under_holdout_no_test_column_is_seen() -> None:
    assert not {name for name in visible_columns("holdout") if name.startswith("test")}
    (found,) = candidates([row(val_error=0.3)], "holdout")
    assert (found.error, found.params) == (0.3, params(lr=0.1))
    with pytest.raises(KeyError, match="test_error"):
        candidates([row(val_error=0.3)], "paper")


def test_under_paper_the_test_error_decides() -> None:
    assert candidates([row(test_error=0.2)], "paper")[0].error == 0.2


def test_only_completed_trials_of_the_search_are_candidates() -> None:
    rows = [row(val_error=0.1, state=state) for state in ("running", "pending", "stopped", "diverged", "failed")]
    assert candidates([*rows, row(val_error=0.1, phase="confirm")], "holdout") == []


def test_the_column_that_a_choice_looks_at() -> None:
    for protocol, column in (("holdout", "val_error"), ("paper", "test_error")):
        assert criterion_column(protocol) == column
        assert column in visible_columns(protocol)
