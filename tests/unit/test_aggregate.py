from dataclasses import asdict, replace
from itertools import count
from typing import Any

import pytest

from analysis import results as aggregate
from analysis import summarise
from search_spaces import Choice, Space
from sweep.record.selection import Candidate, rank_configurations
from sweep.study.catalog import cifar10
from sweep.study.study import Study
from tests import reported

NUMBERS = count()


def trial(variant: str = "all-cnn-c", **values: Any) -> Any:
    usual = {"epochs_run": 350, "epochs_budget": 350, "num_parameters": 1000}
    return reported.trial(next(NUMBERS), **usual | {"variant": variant} | values)


def study(*variants: str, **values: Any) -> Study:
    return replace(cifar10(), **{"variants": variants or ("all-cnn-c",), "protocol": "paper"} | values)


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
    four = study(datasets=("cifar10", "cifar100"), augmentations=("none", "flip-shift"))
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


def test_the_interval_of_the_mean() -> None:
    (result,) = summarise([trial(seed=seed, test_error=error) for seed, error in enumerate((0.1, 0.2))], study())
    # Half of it is Cauchy's 97.5 % quantile, 12.7062, times 0.05: a wide one, which is what two seeds are worth.
    assert result.error == pytest.approx(0.15)
    assert result.half_width == pytest.approx(0.635310, abs=1e-6)
    (single,) = summarise([trial()], study())
    assert single.half_width is None


class Hidden(dict[str, Any]):
    """A row of the search under `holdout`, which raises where its test columns are read."""

    def __getitem__(self, name: str) -> Any:
        assert not name.startswith("test"), f"{name} was read of a trial of the search"
        return super().__getitem__(name)


def searched(lr: float, val_error: float, seed: int = 0, **values: Any) -> Any:
    # A test error that would win, were it seen.
    return Hidden(trial(**{"lr": lr, "seed": seed, "val_error": val_error, "test_error": 0.0} | values))


def confirmed(lr: float, test_error: float | None, seed: int, **values: Any) -> Any:
    return trial(**{"lr": lr, "seed": seed, "phase": "confirm", "test_error": test_error} | values)


HOLDOUT = study(protocol="holdout", seeds=3, confirm_top=1)


def test_under_holdout_the_choice_is_made_by_validation_and_the_error_is_the_confirmations() -> None:
    trials = [
        *(searched(0.1, error, seed) for seed, error in enumerate((0.3, 0.4))),
        *(searched(0.05, error, seed) for seed, error in enumerate((0.2, 0.3))),
        *(confirmed(0.05, error, seed) for seed, error in ((102, 0.24), (100, 0.2), (101, 0.22))),
    ]
    (result,) = summarise(trials, HOLDOUT)
    assert (result.lr, result.errors) == (0.05, (0.2, 0.22, 0.24))
    assert result.error == pytest.approx(0.22)
    assert result.validation_error == pytest.approx(0.25)
    assert result.states["completed"] == 7


def test_the_choice_is_handed_no_test_error(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[Candidate] = []

    def spy(seen: list[Candidate], **rest: Any) -> list[list[Candidate]]:
        handed.extend(seen)
        return rank_configurations(seen, **rest)

    monkeypatch.setattr(aggregate, "rank_configurations", spy)
    summarise([searched(0.1, 0.3, trial_id="mine"), confirmed(0.1, 0.2, 100)], HOLDOUT)
    # All that a candidate holds: its only error is the validation error.
    assert [asdict(one) for one in handed] == [{"trial_id": "mine", "params": '{"lr":0.1}', "seed": 0, "error": 0.3}]


@pytest.mark.parametrize("by", ["variant", "lr", "seed"])
def test_no_table_reads_a_test_column_of_the_search(by: aggregate.By) -> None:
    trials = [searched(0.1, 0.3), searched(0.05, 0.2), searched(0.25, 1.0, state="diverged"), confirmed(0.05, 0.1, 9)]
    assert summarise(trials, HOLDOUT, by)


def test_of_several_confirmed_configurations_the_first_on_validation_is_reported() -> None:
    trials = [searched(0.1, 0.3), searched(0.05, 0.2), confirmed(0.1, 0.1, 100), confirmed(0.05, 0.4, 100)]
    (result,) = summarise(trials, replace(HOLDOUT, confirm_top=2))
    assert (result.lr, result.error) == (0.05, 0.4)
    by_rate = summarise(trials, replace(HOLDOUT, confirm_top=2), "lr")
    assert [(r.lr, r.error, r.validation_error) for r in by_rate] == [(0.1, 0.1, 0.3), (0.05, 0.4, 0.2)]


def test_a_choice_that_is_not_confirmed_yet_has_its_validation_error_alone() -> None:
    trials = [searched(0.1, 0.3), confirmed(0.1, None, 100, state="running")]
    (result,) = summarise(trials, HOLDOUT)
    assert (result.lr, result.error, result.validation_error, result.num_seeds) == (0.1, None, 0.3, 0)
    assert (result.lost_seeds, result.states["running"]) == (0, 1)


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_a_trial_cut_off_after_an_epoch_without_a_measurement_gives_no_error(protocol: str) -> None:
    cut = [trial(state=state, val_error=None, test_error=None) for state in ("pending", "running")]
    (result,) = summarise(cut, study(protocol=protocol))
    assert (result.lr, result.error, result.validation_error) == (None, None, None)
    assert (result.states["pending"], result.states["running"]) == (1, 1)


def test_where_nothing_is_confirmed_the_choice_has_its_validation_error() -> None:
    (result,) = summarise([searched(0.1, 0.3), searched(0.05, 0.2)], study(protocol="holdout", seeds=0))
    assert (result.lr, result.error, result.validation_error, result.lost_seeds) == (0.05, None, 0.2, 0)


def test_configurations_of_one_rate_are_apart_by_all_that_was_searched() -> None:
    first, second = {"weight_decay": 0.01, "batch_size": 128}, {"weight_decay": 0.001, "batch_size": 64}
    trials = [
        searched(0.1, 0.2, **first),
        searched(0.1, 0.3, **second),
        confirmed(0.1, 0.25, 100, **first),
        confirmed(0.1, 0.15, 100, **second),
    ]
    (result,) = summarise(trials, HOLDOUT)
    assert (result.params, result.errors) == ({"lr": 0.1, **first}, (0.25,))
    assert result.tried == {"lr": {0.1}, "weight_decay": {0.001, 0.01}, "batch_size": {64, 128}}


def test_a_choice_of_text_and_a_value_that_only_some_trials_have() -> None:
    heavy = {"momentum_form": "caffe", "class_relu": False}
    nesterov = {"momentum_form": "nesterov", "class_relu": True, "momentum": 0.95}
    trials = [trial(test_error=0.2, **heavy), trial(test_error=0.1, **nesterov)]
    (result,) = summarise(trials, study())
    assert (result.params, result.error) == ({"lr": 0.05, **nesterov}, 0.1)
    assert result.tried == {
        "lr": {0.05},
        "momentum_form": {"caffe", "nesterov"},
        "class_relu": {False, True},
        "momentum": {0.95},
    }


def test_epochs_that_were_searched_are_those_of_the_selected_configuration() -> None:
    space = Space(lr=Choice((0.05,)), epochs=Choice((10, 20)))
    trials = [
        trial(epochs=epochs, epochs_run=epochs, epochs_budget=epochs, test_error=error)
        for epochs, error in ((10, 0.3), (20, 0.2))
    ]
    (result,) = summarise(trials, study(space=space))
    assert (result.epochs, result.params["epochs"], result.error) == (20, 20, 0.2)


def test_rows_by_seed_under_holdout_show_what_the_cell_chose() -> None:
    trials = [searched(0.1, 0.3), searched(0.05, 0.2), confirmed(0.05, 0.1, 100), confirmed(0.05, 0.3, 101)]
    results = summarise(trials, HOLDOUT, "seed")
    assert [(r.seed, r.lr, r.error, r.validation_error) for r in results] == [
        (0, 0.05, None, 0.2),
        (100, 0.05, 0.1, None),
        (101, 0.05, 0.3, None),
    ]


def test_seeds_of_the_choice_that_did_not_complete_are_counted_as_lost() -> None:
    lost = [confirmed(0.1, 1.0, seed, state=state) for seed, state in ((101, "diverged"), (102, "failed"))]
    (result,) = summarise([searched(0.1, 0.3), confirmed(0.1, 0.2, 100), *lost], HOLDOUT)
    assert (result.errors, result.lost_seeds) == ((0.2,), 2)
    (paper,) = summarise([trial(), trial(seed=1, state="diverged"), trial(lr=0.5, state="diverged")], study())
    assert paper.lost_seeds == 1
