"""What the second phase trains, and in which order it is dealt."""

from dataclasses import replace
from typing import Any

import pytest
from ray.tune.search import Searcher

from search_spaces import Choice, Space
from sweep.record.params import write_params
from sweep.record.schema import TRIALS
from sweep.search.confirm import ConfirmSearcher, confirmations, planned_trials
from sweep.study.catalog import STUDIES
from sweep.study.study import Study

SPACE = Space(lr=Choice((0.1, 0.05, 0.01)), weight_decay=Choice((0.001, 0.01)), batch_size=Choice((32, 64)))


def study(**changes: Any) -> Study:
    return replace(STUDIES["quickstart"](), variants=("model-c", "all-cnn-c"), seeds=2, space=SPACE, **changes)


class Searched(dict[str, Any]):
    """A row of the search, in which there is nothing of the test images to be read."""

    def __getitem__(self, name: str) -> Any:
        assert not name.startswith("test"), f"a choice has looked at {name}"
        return super().__getitem__(name)


def row(variant: str, lr: float, val_error: float, **values: Any) -> Searched:
    params = {"lr": lr, **{name: values.pop(name, own) for name, own in (("weight_decay", 0.001), ("batch_size", 32))}}
    return Searched(
        dict.fromkeys(TRIALS.names)
        | {"trial_id": f"{variant}-{lr}", "phase": "search", "dataset": "shapes", "augmentation": "none"}
        | {"variant": variant, "params": write_params(params), "lr": lr, "seed": 0, "state": "completed"}
        | {"val_error": val_error, "test_error": 1 - val_error}
        | values
    )


ROWS = [
    row("model-c", 0.1, 0.4),
    row("model-c", 0.01, 0.3),
    row("model-c", 0.05, 0.1, state="stopped"),
    row("all-cnn-c", 0.1, 0.2, weight_decay=0.01, batch_size=64),
    row("all-cnn-c", 0.01, 0.25),
]


def test_the_best_of_each_cell_is_trained_again_on_all_images_with_fresh_seeds() -> None:
    found = confirmations(study(), ROWS)
    assert list(found) == [
        "shapes_none_model-c_confirm_0_0",
        "shapes_none_all-cnn-c_confirm_0_0",
        "shapes_none_model-c_confirm_0_1",
        "shapes_none_all-cnn-c_confirm_0_1",
    ]
    model, all_cnn = (found[f"shapes_none_{name}_confirm_0_1"] for name in ("model-c", "all-cnn-c"))
    assert (model.variant, model.lr, model.weight_decay, model.batch_size) == ("model-c", 0.01, 0.001, 32)
    assert (all_cnn.variant, all_cnn.lr, all_cnn.weight_decay, all_cnn.batch_size) == ("all-cnn-c", 0.1, 0.01, 64)
    for config in found.values():
        assert (config.held_out, config.evaluate_every, config.epochs) == (0.0, None, 5)
    assert [config.seed for config in found.values()] == [10_000, 10_000, 10_001, 10_001]


def test_the_top_few_where_asked() -> None:
    found = confirmations(study(confirm_top=2), ROWS)
    assert {name: config.lr for name, config in found.items() if name.endswith("_0")} == {
        "shapes_none_model-c_confirm_0_0": 0.01,
        "shapes_none_model-c_confirm_1_0": 0.1,
        "shapes_none_all-cnn-c_confirm_0_0": 0.1,
        "shapes_none_all-cnn-c_confirm_1_0": 0.01,
    }


def test_a_cell_without_a_completed_trial_has_none() -> None:
    found = confirmations(study(), [row("model-c", 0.1, 1.0, state="diverged"), *ROWS[3:]])
    assert {config.variant for config in found.values()} == {"all-cnn-c"}


def test_rows_of_the_second_phase_choose_nothing() -> None:
    confirmed = row("model-c", 0.1, 0.0, phase="confirm", trial_id="x")
    assert confirmations(study(), [*ROWS, confirmed]) == confirmations(study(), ROWS)


def test_what_was_confirmed_keeps_its_ids_whatever_rank_it_comes_to() -> None:
    first = confirmations(study(), ROWS)
    assert {config.lr for name, config in first.items() if "model-c" in name} == {0.01}
    held = [
        row("model-c", config.lr, 0.0, phase="confirm", trial_id=name) for name, config in first.items()
        if "model-c" in name
    ]  # fmt: skip
    better = row("model-c", 0.02, 0.2)
    chosen = {
        name: config.lr for name, config in confirmations(study(), [*ROWS, better, *held]).items() if "model-c" in name
    }
    assert chosen == {"shapes_none_model-c_confirm_1_0": 0.02, "shapes_none_model-c_confirm_1_1": 0.02}
    both = confirmations(study(confirm_top=3), [*ROWS, better, *held])
    assert {name: config.lr for name, config in both.items() if "model-c" in name and name.endswith("_0")} == {
        "shapes_none_model-c_confirm_1_0": 0.02,
        "shapes_none_model-c_confirm_0_0": 0.01,
        "shapes_none_model-c_confirm_2_0": 0.1,
    }


def test_trials_of_what_is_chosen_no_longer_are_counted_beside_those_that_are_wanted() -> None:
    searched = 2 * 12
    assert planned_trials(study(), ROWS) == searched + 4
    superseded = row("model-c", 0.1, 0.0, phase="confirm", trial_id="shapes_none_model-c_confirm_0_0")
    wanted = confirmations(study(), [*ROWS, superseded])
    assert planned_trials(study(), [*ROWS, superseded], wanted) == searched + 5
    cut_off = superseded | {"state": "pending"}
    assert planned_trials(study(), [*ROWS, cut_off], wanted) == searched + 4


def test_a_test_column_is_never_handed_to_the_choice() -> None:
    with pytest.raises(AssertionError, match="a choice has looked at test_error"):
        confirmations(study(protocol="paper"), ROWS)


def test_trials_are_dealt_in_order_without_those_that_have_ended() -> None:
    wanted = confirmations(study(), ROWS)
    first, second, third, fourth = wanted
    states = {first: "completed", second: "pending", fourth: "failed"}
    recorded: Any = {name: {"state": state, "isolated": False} for name, state in states.items()}
    searcher = ConfirmSearcher(wanted, recorded)
    dealt = [searcher.suggest("a"), searcher.suggest("b")]
    assert [trial["trial_id"] for trial in dealt if isinstance(trial, dict)] == [second, third]
    assert isinstance(dealt[0], dict)
    assert (dealt[0]["phase"], dealt[0]["cell"]) == ("confirm", "shapes/none/all-cnn-c")
    assert dealt[0]["config"] == wanted[second].to_dict()
    # One that runs may lose its node and come again.
    assert searcher.suggest("c") is None
    searcher.lost(third)
    searcher.on_trial_complete("b", error=True)
    again = searcher.suggest("c")
    assert isinstance(again, dict)
    assert isinstance(dealt[1], dict)
    assert again == dealt[1] | {"attempt": 1}
    searcher.on_trial_complete("a", {"error": 0.5})
    # A failure is not.
    searcher.on_trial_complete("c", error=True)
    assert searcher.suggest("d") == Searcher.FINISHED
