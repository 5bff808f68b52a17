"""What holds of a search whatever order its trials end in, and wherever it was cut off."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from search_spaces import Choice, Dimension, LogUniform
from sweep.resume.extend import extended
from sweep.search.searcher import StudySearcher
from sweep.study.catalog import STUDIES
from sweep.study.diff import study_differences
from sweep.study.options import RunOptions
from sweep.study.study import Study
from trainables.config import TrialConfig

calm = settings(deadline=None, derandomize=True, max_examples=25)

rates: st.SearchStrategy[Dimension] = st.sampled_from(
    [Choice((0.1,)), Choice((0.1, 0.05, 0.01)), LogUniform(0.01, 0.1)]
)


@st.composite
def studies(draw: st.DrawFn) -> Study:
    search = draw(st.sampled_from(["grid", "tpe", "random"]))
    where = draw(rates)
    if search == "grid" and not isinstance(where, Choice):
        where = Choice((0.1, 0.05))
    return replace(
        STUDIES["quickstart"](),
        variants=("model-a", "all-cnn-a", "model-c")[: draw(st.integers(1, 3))],
        learning_rates=where,
        weight_decays=draw(st.sampled_from([None, Choice((0.001, 0.01))])),
        batch_sizes=draw(st.sampled_from([None, Choice((32, 64))])),
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


def recorded_row(answer: Mapping[str, Any], state: str, error: float) -> dict[str, Any]:
    config = TrialConfig.from_dict(answer["config"])
    known = {name: getattr(config, name) for name in ("lr", "weight_decay", "batch_size", "seed")}
    known |= {"epochs_run": 0, "retry_reasons": ""}
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
    assert counts == {cell.cell: study.points_per_cell for cell in study.cells()}
    configs = [(answer["cell"], *(answer["config"][key] for key in KEYS)) for answer in suggested]
    assert len(set(configs)) == len(configs)
    assert len({answer["trial_id"] for answer in suggested}) == len(suggested)


KEYS = ("lr", "weight_decay", "batch_size", "seed")


@calm
@given(studies(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_cells_take_turns_until_they_are_done(study: Study, slots: int, order: Any) -> None:
    suggested, _ = walk(StudySearcher(study), slots, order.choice)
    seen: Counter[str] = Counter({cell.cell: 0 for cell in study.cells()})
    for answer in suggested:
        seen[answer["cell"]] += 1
        assert max(seen.values()) - min(seen.values()) <= 1


@calm
@given(studies(), st.integers(1, 3), st.integers(0, 40))
def test_a_search_that_goes_on_tries_the_points_of_an_undisturbed_one(study: Study, slots: int, cut: int) -> None:
    def first(running: list[str]) -> str:
        return min(running, key=lambda trial_id: hashlib.sha256(trial_id.encode()).digest())

    whole, _ = walk(StudySearcher(study), slots, first)
    begun, ended = walk(StudySearcher(study), slots, first, most=cut)
    recorded = {
        answer["trial_id"]: recorded_row(answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in ended
        else recorded_row(answer, "pending", 0.9)
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
        answer["trial_id"]: recorded_row(answer, *outcome(answer["trial_id"]))
        for answer in whole
        if answer["cell"] == done
    }
    left, _ = walk(StudySearcher(study, recorded), 4, min)
    assert Counter(answer["cell"] for answer in left) == {
        each.cell: study.points_per_cell for each in study.cells() if each.cell != done
    }


@calm
@given(st.data(), st.integers(1, 3), st.integers(0, 40))
def test_an_extended_search_loses_no_point_and_doubles_none(data: st.DataObject, slots: int, cut: int) -> None:
    study = data.draw(studies())
    larger = data.draw(extensions(study))
    begun, ended = walk(StudySearcher(study), slots, min, most=cut)
    recorded = {
        answer["trial_id"]: recorded_row(answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in ended
        else recorded_row(answer, "pending", 0.9)
        for answer in begun
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
    points = [(answer["cell"], *(answer["config"][key] for key in KEYS)) for answer in held]
    assert len(set(points)) == len(points)
    if larger.search == "grid":
        whole, _ = walk(StudySearcher(larger), slots, min)
        assert set(points) == {(answer["cell"], *(answer["config"][key] for key in KEYS)) for answer in whole}
    assert Counter(answer["cell"] for answer in held) == {cell.cell: larger.points_per_cell for cell in larger.cells()}
    # Cut off again and gone on with once more, each point keeps its trial.
    later, over = walk(StudySearcher(larger, recorded), slots, min, most=cut)
    rows = {
        answer["trial_id"]: recorded_row(answer, *outcome(answer["trial_id"]))
        if answer["trial_id"] in over
        else recorded_row(answer, "pending", 0.9)
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
    if study.search == "grid":
        assert isinstance(study.learning_rates, Choice)
        added = draw(st.lists(st.sampled_from([0.2, 0.02, 0.002]), unique=True))
        changes["learning_rates"] = (*study.learning_rates.values, *added)
        decays = study.weight_decays.values if isinstance(study.weight_decays, Choice) else (study.base.weight_decay,)
        changes["weight_decays"] = draw(st.sampled_from([decays, (*decays, 0.5)]))
        changes["seeds"] = (study.seeds or 1) + draw(st.integers(0, 2))
    else:
        changes["trials_per_cell"] = study.points_per_cell + draw(st.integers(0, 5))
    given = RunOptions(**changes).apply(study)
    return extended(study, given, study_differences(study, given))
