"""What holds of a search whatever order its trials end in, and wherever it was cut off."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Space, Uniform
from search_spaces.dimensions import in_words
from sweep.record.params import write_params
from sweep.resume.extend import extended
from sweep.resume.recorded import with_all_params
from sweep.search.searcher import StudySearcher
from sweep.study.catalog import STUDIES
from sweep.study.diff import study_differences
from sweep.study.options import RunOptions
from sweep.study.study import Study, params_of
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of, with_values

calm = settings(deadline=None, derandomize=True, max_examples=25)

LISTED: Mapping[str, st.SearchStrategy[Dimension]] = {
    "lr": st.sampled_from([Choice((0.1,)), Choice((0.1, 0.05, 0.01))]),
    "weight_decay": st.just(Choice((0.001, 0.01))),
    "batch_size": st.sampled_from([Choice((32, 64)), IntUniform(32, 64, 16)]),
    "max_grad_norm": st.just(Choice((None, 1.0))),
    "class_relu": st.just(Choice((True, False))),
    "momentum_form": st.just(Choice(("pytorch", "caffe"))),
    # Behind the one that it may depend on.
    "dropout": st.sampled_from([Choice((0.0, 0.5)), Uniform(0.0, 0.5, 0.25)]),
}
UNLISTED: Mapping[str, Dimension] = {"lr": LogUniform(0.01, 0.1), "dropout": Uniform(0.0, 0.5)}


@st.composite
def spaces(draw: st.DrawFn, search: str) -> Space:
    """Return a space of one or two dimensions, of which one may depend on the other."""
    names = draw(st.sets(st.sampled_from(sorted(LISTED)), min_size=1, max_size=2))
    dimensions = {
        name: UNLISTED[name] if search != "grid" and name in UNLISTED and draw(st.booleans()) else draw(values)
        for name, values in LISTED.items()
        if name in names
    }
    if {"momentum_form", "dropout"} <= names and draw(st.booleans()):
        dimensions["dropout"] = dimensions["dropout"].when("momentum_form", "caffe")
    return Space(dimensions)


@st.composite
def studies(draw: st.DrawFn) -> Study:
    search = draw(st.sampled_from(["grid", "tpe", "random"]))
    variants = ("model-a", "all-cnn-a", "model-c")[: draw(st.integers(1, 3))]
    return replace(
        STUDIES["quickstart"](),
        variants=variants,
        space=draw(spaces(search)),
        spaces={"model-a": draw(spaces(search))} if draw(st.booleans()) else {},
        search=search,
        seeds=draw(st.integers(1, 2)) if search == "grid" else 1,
        trials_per_cell=None if search == "grid" else draw(st.integers(1, 16)),
    )


def outcome(trial_id: str) -> tuple[str, float]:
    """Return how a trial ends: any state and error, always the same for the same trial."""
    digest = hashlib.sha256(trial_id.encode()).digest()
    state = ("completed", "completed", "completed", "diverged", "stopped", "failed")[digest[0] % 6]
    return state, 1.0 if state == "diverged" else digest[1] / 256


def end(searcher: StudySearcher, name: str, trial_id: str) -> None:
    state, error = outcome(trial_id)
    if state == "failed":
        searcher.on_trial_complete(name, error=True)
    else:
        reported = "running" if state == "stopped" else state
        searcher.on_trial_complete(name, {"error": error, "state": reported, "epoch": 1})


def walk(
    searcher: StudySearcher, slots: int, choose: Callable[[list[str]], str], most: int | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run trials, `slots` at once; return what was suggested, in order, and the ids of those that ended.

    Args:
        searcher: what suggests.
        slots: trials at once.
        choose: which of the running trials ends next.
        most: trials that may end before the walk is cut off.
    """
    suggested: list[dict[str, Any]] = []
    running: dict[str, str] = {}
    ended: list[str] = []
    finished = False
    while most is None or len(ended) < most:
        while not finished and len(running) < slots:
            name = f"tune-{len(suggested)}"
            answer = searcher.suggest(name)
            if answer is None:
                assert running, "to wait is for a trial that runs"
                break
            if answer == Searcher.FINISHED:
                finished = True
            else:
                suggested.append(dict(answer))
                running[answer["trial_id"]] = name
        if not running:
            break
        trial_id = choose(sorted(running))
        end(searcher, running.pop(trial_id), trial_id)
        ended.append(trial_id)
    return suggested, ended


def recorded_row(study: Study, answer: Mapping[str, Any], state: str, error: float) -> Any:
    config = TrialConfig.from_dict(answer["config"])
    params = write_params(params_of(config, study.space_of(config.variant)))
    known = {"params": params, "lr": config.lr, "seed": config.seed, "epochs_run": 0, "isolated": False}
    # The record of a failed trial may hold the error of an epoch before.
    return known | {"trial_id": answer["trial_id"], "state": state, "val_error": None, "test_error": error}


@calm
@given(studies(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_each_cell_gets_its_trials_and_none_twice_whatever_order_they_end_in(
    study: Study, slots: int, order: Any
) -> None:
    suggested, ended = walk(StudySearcher(study), slots, order.choice)
    assert len(ended) == len(suggested)
    counts = Counter(answer["cell"] for answer in suggested)
    assert counts == {cell.cell: study.points_of(cell.variant) for cell in study.cells()}
    assert len(set(map(point, suggested))) == len(suggested)
    for answer in suggested:
        config = TrialConfig.from_dict(answer["config"])
        space = study.space_of(config.variant)
        params = params_of(config, space)
        assert all(value in space[name] for name, value in params.items())
        # What does not exist there is the cell's own.
        (cell,) = (cell for cell in study.cells() if cell.cell == config.cell)
        assert with_values(cell, params) == replace(config, seed=cell.seed)
    assert len({answer["trial_id"] for answer in suggested}) == len(suggested)


def point(answer: Mapping[str, Any]) -> str:
    """Return the whole of a trial's configuration, its cell and seed included."""
    return json.dumps(answer["config"], sort_keys=True)


@calm
@given(studies(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_cells_take_turns_until_they_are_done(study: Study, slots: int, order: Any) -> None:
    suggested, _ = walk(StudySearcher(study), slots, order.choice)
    seen: Counter[str] = Counter({cell.cell: 0 for cell in study.cells()})
    most = {cell.cell: study.points_of(cell.variant) for cell in study.cells()}
    for answer in suggested:
        seen[answer["cell"]] += 1
        left = [count for cell, count in seen.items() if count < most[cell]]
        assert max(seen.values()) - min(left, default=max(seen.values())) <= 1


@calm
@given(studies(), st.integers(1, 3), st.integers(0, 40))
def test_a_search_that_goes_on_tries_the_points_of_an_undisturbed_one(study: Study, slots: int, cut: int) -> None:
    def first(running: list[str]) -> str:
        return min(running, key=lambda trial_id: hashlib.sha256(trial_id.encode()).digest())

    whole, _ = walk(StudySearcher(study), slots, first)
    begun, ended = walk(StudySearcher(study), slots, first, most=cut)
    recorded = {
        answer["trial_id"]: recorded_row(study, answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in ended
        else recorded_row(study, answer, "pending", 0.9)
        for answer in begun
    }
    again, _ = walk(StudySearcher(study, recorded), slots, first)
    assert again == [answer for answer in whole if answer["trial_id"] not in ended]


@calm
@given(studies(), st.integers(0, 5))
def test_a_cell_that_is_done_leaves_its_share_to_the_others(study: Study, cell: int) -> None:
    # All trials of one cell lie in the record: what is left are the other cells' trials, all of them.
    whole, _ = walk(StudySearcher(study), 1, min)
    done = study.cells()[cell % len(study.cells())].cell
    recorded = {
        answer["trial_id"]: recorded_row(study, answer, *outcome(answer["trial_id"]))
        for answer in whole
        if answer["cell"] == done
    }
    left, _ = walk(StudySearcher(study, recorded), 4, min)
    assert Counter(answer["cell"] for answer in left) == {
        each.cell: study.points_of(each.variant) for each in study.cells() if each.cell != done
    }


@calm
@given(st.data(), st.integers(1, 3), st.integers(0, 40))
def test_an_extended_search_loses_no_point_and_doubles_none(data: st.DataObject, slots: int, cut: int) -> None:
    study = data.draw(studies())
    larger = data.draw(extensions(study))
    begun, ended = walk(StudySearcher(study), slots, min, most=cut)
    recorded = {
        answer["trial_id"]: recorded_row(study, answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in ended
        else recorded_row(study, answer, "pending", 0.9)
        for answer in begun
    }
    cells = {cell.cell: cell for cell in larger.cells()}
    in_cell = {answer["trial_id"]: cells[answer["cell"]] for answer in begun}
    recorded = {
        trial_id: with_all_params(row, in_cell[trial_id], larger.space_of(in_cell[trial_id].variant))
        for trial_id, row in recorded.items()
    }
    more, _ = walk(StudySearcher(larger, recorded), slots, min)
    # What was begun goes on as the same trial, and what ended is not dealt again.
    assert not {answer["trial_id"] for answer in more} & set(ended)
    of_begun = {answer["trial_id"]: answer["config"] for answer in begun}
    unended = set(of_begun) - set(ended)
    assert {answer["trial_id"]: answer["config"] for answer in more if answer["trial_id"] in of_begun} == {
        trial_id: of_begun[trial_id] for trial_id in unended
    }
    held = [answer for answer in begun if answer["trial_id"] in ended] + more
    assert len({answer["trial_id"] for answer in held}) == len(held)
    points = list(map(point, held))
    assert len(set(points)) == len(points)
    if larger.search == "grid":
        whole, _ = walk(StudySearcher(larger), slots, min)
        assert set(points) == set(map(point, whole))
    assert Counter(answer["cell"] for answer in held) == {
        cell.cell: larger.points_of(cell.variant) for cell in larger.cells()
    }
    # Cut off again and gone on with once more, each point keeps its trial.
    later, over = walk(StudySearcher(larger, recorded), slots, min, most=cut)
    rows = {
        answer["trial_id"]: recorded_row(larger, answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in over
        else recorded_row(larger, answer, "pending", 0.9)
        for answer in later
    }
    rest, _ = walk(StudySearcher(larger, recorded | rows), slots, min)
    if larger.search != "tpe":  # which learns from what has ended, and so from the order
        of_more = {answer["trial_id"]: answer for answer in more}
        assert {answer["trial_id"]: answer for answer in rest} == {
            trial_id: answer for trial_id, answer in of_more.items() if trial_id not in over
        }


@st.composite
def extensions(draw: st.DrawFn, study: Study) -> Study:
    """Return the study, or one that holds more of what `--extend` may add."""
    changes: dict[str, Any] = {"variants": draw(st.sampled_from([study.variants, (*study.variants, "convpool-cnn-a")]))}
    variants = changes["variants"]
    vary: dict[str, str] = {}
    if study.search == "grid":
        changes["seeds"] = (study.seeds or 1) + draw(st.integers(0, 2))
        for name, more in (("lr", [0.2, 0.02]), ("weight_decay", [0.5]), ("momentum", [0.5, 0.6])):
            if added := draw(st.lists(st.sampled_from(more), unique=True)):
                dimension = study.space.get(name)
                held = (value_of(study.base, name),) if dimension is None else dimension.listed() or ()
                vary[name] = ",".join(map(in_words, (*held, *added)))
        own = study.spaces.get("model-a", Space())
        if "lr" in own and draw(st.booleans()):
            vary["model-a:lr"] = ",".join(map(in_words, (0.3, *(own["lr"].listed() or ()))))
    if "convpool-cnn-a" in variants and study.search == "grid" and draw(st.booleans()):
        vary["convpool-cnn-a:lr"] = "0.7,0.8"
    changes["vary"] = tuple(f"{name}={values}" for name, values in vary.items()) or None
    if study.search != "grid":
        changes["trials_per_cell"] = study.points_of("model-a") + draw(st.integers(0, 5))
    given = RunOptions(**changes).apply(study)
    return extended(study, given, study_differences(study, given))
