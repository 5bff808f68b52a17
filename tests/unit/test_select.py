import pytest

from analysis.select import best_configuration


def trial(lr: float, test: float, seed: int = 0, val: float | None = None) -> dict[str, float | int | None]:
    return {"lr": lr, "test_error": test, "seed": seed, "val_error": val}


def test_the_rate_with_the_lowest_mean_wins() -> None:
    trials = [trial(0.1, 0.1), trial(0.1, 0.5, 1), trial(0.01, 0.25), trial(0.01, 0.27, 1)]
    assert best_configuration(trials) == trials[2:]


def test_no_trial_gives_none() -> None:
    assert best_configuration([]) == []


@pytest.mark.parametrize("order", [1, -1])
def test_of_equals_the_smaller_rate(order: int) -> None:
    trials = [trial(0.1, 0.2), trial(0.05, 0.2), trial(0.25, 0.2)][::order]
    assert [chosen["lr"] for chosen in best_configuration(trials)] == [0.05]


def test_the_choice_is_made_on_validation_where_there_is_one() -> None:
    trials = [trial(0.1, 0.1, val=0.4), trial(0.01, 0.9, val=0.3)]
    assert best_configuration(trials) == trials[1:]


def test_a_rate_with_fewer_seeds_left_is_not_chosen() -> None:
    trials = [trial(0.1, 0.01), trial(0.05, 0.3), trial(0.05, 0.4, 1)]
    assert best_configuration(trials) == trials[1:]
