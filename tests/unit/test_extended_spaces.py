"""What --extend may add to what a run searches: values of any dimension, dimensions, and variants with their own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from torch import nn

from search_spaces import Choice, Space
from sweep.record.params import read_params, write_params
from sweep.record.store import Store
from sweep.resume.extend import extended
from sweep.resume.recorded import Recorded, recorded_run
from sweep.search.searcher import StudySearcher
from sweep.study.catalog import STUDIES
from sweep.study.diff import StudyMismatchError, study_differences
from sweep.study.options import RunOptions
from sweep.study.study import Study
from tests.begun import Begin, confirmed, searched
from trainables.architectures import register_variant

pytestmark = pytest.mark.usefixtures("no_ray")


def extend(store: Store, **options: Any) -> Recorded:
    output, name = store.location.rsplit("/", 1)
    return recorded_run(None, RunOptions(resume=True, extend=True, output=output, name=name, **options))


def left_of(found: Recorded) -> list[dict[str, Any]]:
    """Return the values of what is searched of each trial that is left to run."""
    searcher = StudySearcher(found.study, found.trials())
    left = []
    while isinstance(suggested := searcher.suggest(str(len(left))), dict):
        space = found.study.space_of(suggested["config"]["variant"])
        config = suggested["config"] | suggested["config"]["architecture"] | suggested["config"]["heavy"]
        config |= {f"options.{name}": value for name, value in suggested["config"]["options"].items()}
        left.append({name: config[name] for name in space} | {"variant": config["variant"]})
    return left


def refusals(store: Store, **options: Any) -> list[str]:
    with pytest.raises(StudyMismatchError) as caught:
        extend(store, **options)
    return [line.strip() for line in caught.value.lines[:-1]]


@pytest.mark.parametrize(
    ("recorded", "added", "left"),
    [
        ("dropout=0.1,0.2", "dropout=0.2,0.1,0.3", {0.3}),
        ("batch_size=16,32", "batch_size=16..48..16", {48}),
        ("class_relu=no", "class_relu=yes,no", {True}),
        ("max_grad_norm=none", "max_grad_norm=1,none,2", {1.0, 2.0}),
        ("momentum_form=caffe", "momentum_form=pytorch,caffe", {"pytorch"}),
        ("dropout=0..0.2..0.1", "dropout=0..0.4..0.1", {0.3, 0.4}),
    ],
)
def test_more_values_of_any_dimension(store: Store, begin: Begin, recorded: str, added: str, left: set[Any]) -> None:
    study = begin(vary=(recorded,), learning_rates=(0.01,), seeds=0)
    name = recorded.partition("=")[0]
    rows = all_rows(study)
    store.write_trials(rows)
    found = extend(store, vary=(added,))
    assert [each.setting for each in found.changed] == [name]
    assert {row["trial_id"]: row for row in rows} == found.trials()
    assert {each[name] for each in left_of(found)} == left
    assert len(left_of(found)) == len(left)
    before = study.space[name].listed()
    assert before is not None
    now = found.study.space[name].listed()
    assert now is not None
    assert now[: len(before)] == before, "the numbers of a grid's points go by the record"


def all_rows(study: Study) -> list[Any]:
    """Return the rows of all trials of a study's search, completed."""
    searcher = StudySearcher(study)
    rows: list[Any] = []
    like = searched(study, 1)[0]
    while isinstance(suggested := searcher.suggest(str(len(rows))), dict):
        config = suggested["config"] | suggested["config"]["architecture"]
        config |= {f"options.{name}": value for name, value in suggested["config"]["options"].items()}
        params = {name: config[name] for name in study.space_of(config["variant"])}
        place = {"variant": config["variant"], "lr": config["lr"], "seed": config["seed"]}
        epochs = {"epochs_run": config["epochs"], "epochs_budget": config["epochs"]}
        rows.append(like | {"trial_id": suggested["trial_id"], "params": write_params(params)} | place | epochs)
    return rows


def test_a_dimension_is_added_whose_recorded_value_is_the_study_s_own(store: Store, begin: Begin) -> None:
    study = begin(seeds=1)
    rows = [*all_rows(study), *confirmed(study, 0.005, 1)]
    store.write_trials(rows)
    assert study.base.momentum == 0.9
    found = extend(store, vary=("momentum=0.5,0.9", "class_relu=no,yes"))
    # The rows of both phases say what they had, and nothing else of them changes.
    for row in rows:
        now = found.trials()[row["trial_id"]]
        had = {"momentum": 0.9, "class_relu": study.base.architecture.class_relu}
        assert read_params(now["params"]) == read_params(row["params"]) | had
        assert now | {"params": row["params"]} == row
    assert found.study.space["momentum"] == Choice((0.9, 0.5))
    left = left_of(found)
    assert len(left) == 2 * 2 * 2 - 2
    assert {"lr": 0.01, "momentum": 0.9, "class_relu": False, "variant": "all-cnn-c"} not in left
    assert refusals(store, vary=("momentum=0.5,0.8",)) == [
        "momentum: recorded 0.9, given {0.5, 0.8} (it must hold all that is recorded, and lacks 0.9)"
    ]


def test_a_dimension_may_be_added_that_depends_on_another_one(store: Store, begin: Begin) -> None:
    study = begin(learning_rates=(0.01,), seeds=0)
    store.write_trials(all_rows(study))
    # By name the one that depends comes first.
    added = ("momentum=0.9,0.5 if momentum_form=caffe", "momentum_form=pytorch,caffe")
    found = extend(store, vary=(added[1], added[0]))
    (row,) = found.trials().values()
    assert read_params(row["params"]) == {"lr": 0.01, "momentum_form": "pytorch"}
    assert [(each["momentum_form"], each["momentum"]) for each in left_of(found)] in (
        [("caffe", 0.5), ("caffe", 0.9)],
        [("caffe", 0.9), ("caffe", 0.5)],
    )
    store.write_run(replace(store.read_run(), study=found.study))
    store.write_trials(list(found.trials().values()))
    (line,) = refusals(store, vary=("momentum=0.9,0.5 if momentum_form=pytorch",))
    assert line.endswith("(it was recorded under another condition)")


def test_more_values_of_a_variant_s_own_space(store: Store, begin: Begin) -> None:
    study = begin(variants=("all-cnn-c", "model-c"), vary=("model-c:lr=0.02",), learning_rates=(0.01,), seeds=0)
    store.write_trials(all_rows(study))
    found = extend(store, vary=("model-c:lr=0.02,0.03",))
    assert found.study.spaces == {"model-c": Space(lr=Choice((0.02, 0.03)))}
    assert [(each["variant"], each["lr"]) for each in left_of(found)] == [("model-c", 0.03)]
    # A variant that had the shared values may have more of its own.
    found = extend(store, vary=("all-cnn-c:lr=0.5,0.01",))
    assert found.study.spaces["all-cnn-c"] == Space(lr=Choice((0.01, 0.5)))
    assert [(each["variant"], each["lr"]) for each in left_of(found)] == [("all-cnn-c", 0.5)]
    # More of what is shared is none of the variant with its own.
    found = extend(store, learning_rates=(0.01, 0.4))
    assert [(each["variant"], each["lr"]) for each in left_of(found)] == [("all-cnn-c", 0.4)]
    assert refusals(store, vary=("model-c:lr=0.03",)) == [
        "model-c:lr: recorded {0.02}, given {0.03} (it must hold all that is recorded, and lacks 0.02)"
    ]
    assert refusals(store, vary=("all-cnn-c:lr=0.5",)) == [
        "all-cnn-c:lr: recorded none, given {0.5} (it must hold all that is recorded, and lacks 0.01)"
    ]


@pytest.mark.parametrize("search", ["grid", "random"])
def test_a_variant_that_is_added_searches_what_it_likes(store: Store, begin: Begin, search: str) -> None:
    drawn = {} if search == "grid" else {"search": search, "trials_per_cell": 3}
    study = begin(learning_rates=(0.01,), seeds=0, **drawn)
    store.write_trials(all_rows(study))
    own = ("model-c:lr=0.5,0.6", "model-c:dropout=0.3", "model-c:batch_size=16,32")
    found = extend(store, variants=("all-cnn-c", "model-c"), vary=own)
    assert found.study.spaces["model-c"] == Space(
        lr=Choice((0.5, 0.6)), dropout=Choice((0.3,)), batch_size=Choice((16, 32))
    )
    left = left_of(found)
    assert {each["variant"] for each in left} == {"model-c"}
    assert len(left) == (4 if search == "grid" else 3)
    assert {each["lr"] for each in left} <= {0.5, 0.6}


@dataclass(frozen=True)
class Net:
    depth: int = 2
    activation: str = "relu"


@pytest.mark.usefixtures("registries")
def test_an_option_of_a_variant_s_own_is_added_with_its_default_as_recorded(store: Store, begin: Begin) -> None:
    @register_variant("own-net", options=Net)
    def build(options: Net, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

    study = begin(variants=("all-cnn-c", "own-net"), learning_rates=(0.01,), seeds=0)
    store.write_trials(all_rows(study))
    found = extend(store, vary=("own-net:depth=1,2",))
    assert [(each["variant"], each.get("options.depth")) for each in left_of(found)] == [("own-net", 1)]
    rows = {row["variant"]: read_params(row["params"]) for row in found.trials().values()}
    assert rows == {"all-cnn-c": {"lr": 0.01}, "own-net": {"lr": 0.01, "options.depth": 2}}
    (line,) = refusals(store, vary=("own-net:depth=1,3",))
    assert line.endswith("(it must hold all that is recorded, and lacks 2)")


def test_more_epochs_are_values_where_they_are_searched(store: Store, begin: Begin) -> None:
    options = RunOptions(train_size=100, width=0.05, variants=("all-cnn-c",), learning_rates=(0.01,), seeds=0)
    study = begin(replace(options, vary=("epochs=1,2",)).apply(STUDIES["quickstart"]()))
    rows = all_rows(study)
    store.write_trials(rows)
    assert refusals(store, epochs=4) == [
        "epochs: recorded {1, 2}, given 4 (it is searched; --vary takes more values of it)"
    ]
    found = extend(store, vary=("epochs=1,2,4",))
    assert {row["trial_id"]: row for row in rows} == found.trials(), "nothing that was completed is reopened"
    assert [each["epochs"] for each in left_of(found)] == [4]
    assert not found.is_done()


def test_epochs_become_searched_without_reopening_what_had_the_study_s_own(store: Store, begin: Begin) -> None:
    study = begin(learning_rates=(0.01,), seeds=0)
    (row,) = all_rows(study)
    store.write_trials([row])
    found = extend(store, vary=("epochs=2,4",))
    assert list(found.trials().values()) == [row | {"params": '{"epochs":2,"lr":0.01}'}]
    assert [each["epochs"] for each in left_of(found)] == [4]


@pytest.mark.parametrize(
    ("options", "settings", "why"),
    [
        ({"set": ("dropout=0.2",)}, ["dropout"], "(it decides what the trials that are done have computed)"),
        ({"set": ("lr=0.01",)}, ["lr"], "(it is searched; --vary takes more values of it)"),
        ({"vary": ("lr=0.01",)}, ["lr"], "(it must hold all that is recorded, and lacks 0.005)"),
        ({"vary": ("all-cnn-c:max_grad_norm=1,2",)}, ["all-cnn-c:max_grad_norm"], "and lacks none)"),
    ],
)
def test_what_would_change_trials_that_are_done_is_refused(
    store: Store, begin: Begin, options: dict[str, Any], settings: Sequence[str], why: str
) -> None:
    begin()
    (line,) = refusals(store, **options)
    assert [line.partition(": ")[0]] == settings
    assert line.endswith(why)


def test_a_search_that_draws_takes_no_dimension_more(store: Store, begin: Begin) -> None:
    study = begin(search="random", trials_per_cell=2)
    given = replace(study, space=study.space.with_dimensions({"dropout": Choice((0.1, 0.2))}))
    with pytest.raises(StudyMismatchError) as caught:
        extended(study, given, study_differences(study, given))
    assert "the search random has drawn from what is recorded" in caught.value.lines[0]
