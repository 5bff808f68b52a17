from itertools import count
from typing import Any

import pytest

from analysis import summarise

NUMBERS = count()


def trial(variant: str = "all-cnn-c", **values: Any) -> dict[str, Any]:
    return {
        "trial_id": f"t{next(NUMBERS)}",
        "phase": "search",
        "weight_decay": 0.001,
        "batch_size": 128,
        "dataset": "cifar10",
        "augmentation": "none",
        "variant": variant,
        "lr": 0.05,
        "seed": 0,
        "state": "completed",
        "val_error": None,
        "test_error": 0.1,
        "epochs_budget": 350,
        "num_parameters": 1000,
    } | values


def study(*variants: str, **values: Any) -> dict[str, Any]:
    fields = {"datasets": ["cifar10"], "augmentations": ["none"], "variants": list(variants or ["all-cnn-c"])}
    return fields | {"protocol": "paper", "base": {"epochs": 350}} | values


def test_mean_and_standard_deviation_over_seeds() -> None:
    (result,) = summarise([trial(seed=seed, test_error=error) for seed, error in enumerate((0.1, 0.2, 0.6))], study())
    assert result.error == pytest.approx(0.3)
    assert result.error_sd == pytest.approx(0.07**0.5)  # (0.04 + 0.01 + 0.09) / 2
    assert (result.num_seeds, result.lr, result.seed, result.epochs, result.num_parameters) == (
        3,
        0.05,
        None,
        350,
        1000,
    )


def test_one_seed_has_no_standard_deviation() -> None:
    (result,) = summarise([trial()], study())
    assert (result.error, result.error_sd, result.num_seeds) == (0.1, None, 1)


def test_ties_go_to_the_smaller_rate() -> None:
    (result,) = summarise([trial(lr=0.25), trial(lr=0.01), trial(lr=0.1)], study())
    assert result.lr == 0.01


@pytest.mark.parametrize("state", ["stopped", "diverged", "failed", "running", "pending"])
def test_trials_that_were_not_completed_are_counted_and_never_chosen(state: str) -> None:
    (result,) = summarise([trial(lr=0.25, state=state, test_error=0.01), trial(lr=0.1, test_error=0.3)], study())
    assert (result.lr, result.error) == (0.1, 0.3)
    assert result.states[state] == 1
    assert result.states["completed"] == 1
    assert sum(result.states.values()) == 2


@pytest.mark.parametrize("state", ["stopped", "diverged", "failed", "pending"])
def test_no_completed_trial_gives_no_error(state: str) -> None:
    (result,) = summarise([trial(state=state, test_error=0.2, num_parameters=None)], study())
    assert (result.error, result.error_sd, result.lr, result.num_seeds, result.num_parameters) == (
        None,
        None,
        None,
        0,
        None,
    )
    assert result.states[state] == 1


def test_rows_are_in_the_studys_order_those_without_trials_too_and_others_follow() -> None:
    results = summarise([trial("z"), trial("c"), trial("a")], study("a", "b", "c"))
    assert [result.variant for result in results] == ["a", "b", "c", "z"]
    assert (results[1].error, results[1].num_parameters, sum(results[1].states.values())) == (None, None, 0)
    assert summarise([], study("a"), "lr") == []


def test_cells_are_apart() -> None:
    trials = [trial(test_error=0.1), trial(dataset="cifar100", test_error=0.3), trial(augmentation="flip-shift")]
    four = study(datasets=["cifar10", "cifar100"], augmentations=["none", "flip-shift"])
    assert [(r.dataset, r.augmentation, r.error) for r in summarise(trials, four)] == [
        ("cifar10", "none", 0.1),
        ("cifar10", "flip-shift", 0.1),
        ("cifar100", "none", 0.3),
        ("cifar100", "flip-shift", None),
    ]


def test_a_row_per_learning_rate_from_the_largest() -> None:
    trials = [trial(lr=0.01), trial(lr=0.25, state="diverged"), trial(lr=0.1, test_error=0.4)]
    results = summarise(trials, study(), "lr")
    assert [(r.lr, r.error) for r in results] == [(0.25, None), (0.1, 0.4), (0.01, 0.1)]


def test_a_row_per_seed_with_its_own_best() -> None:
    trials = [
        trial(seed=1, lr=0.1, test_error=0.2),
        trial(seed=1, lr=0.05, test_error=0.3),
        trial(seed=2, lr=0.1, test_error=0.5),
        trial(seed=2, lr=0.05, test_error=0.4),
    ]
    results = summarise(trials, study(), "seed")
    assert [(r.seed, r.lr, r.error) for r in results] == [(1, 0.1, 0.2), (2, 0.05, 0.4)]
