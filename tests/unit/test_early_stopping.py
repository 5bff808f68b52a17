"""Early stopping as Ray Tune sees it: one ASHA per cell, its record, and Ray's own for comparison."""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from search_spaces import Choice, Space
from sweep.execution.recorder import Recorder
from sweep.record.store import Store
from sweep.search.halving import Decision
from sweep.search.schedulers import PerCell, make_scheduler
from sweep.study.study import Study
from trainables.config import TrialConfig

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
STUDY = Study(
    name="test",
    datasets=("shapes",),
    variants=("model-a", "all-cnn-a"),
    space=Space(lr=Choice((0.1, 0.01))),
    # Drops after epochs 4, 5 and 6: rungs at 5 and 6.
    base=TrialConfig(dataset="shapes", variant="model-a", lr=0.1, epochs=7),
    early_stopping="asha",
)


class TuneTrial:
    """As much of Ray's Trial as a scheduler and the recorder read."""

    error_file: str | None = None

    def __init__(self, trial_id: str, variant: str) -> None:
        config = replace(STUDY.base, variant=variant)
        # Ray's own id is another than ours.
        self.trial_id = f"ray-{trial_id}"
        self.config = {"trial_id": trial_id, "phase": "search", "cell": config.cell, "config": config.to_dict()}


def report(epoch: int, error: float, state: str = "running") -> dict[str, Any]:
    numbers = {"train_loss": 1.0, "train_error": error, "train_images": 10, "test_images": 10, "lr": 0.1}
    times = {"epoch_s": 1.0, "train_s": 1.0}
    where = {
        "node": "here",
        "device": "cpu",
        "precision": "float32",
        "memory_format": "contiguous",
        "compiled": False,
        "dead_classes": 0,
    }
    return {
        **numbers,
        **times,
        **where,
        "epoch": epoch,
        "error": error,
        "val_error": None,
        "test_error": error,
        "test_top5_error": None,
        "num_parameters": 7,
        "state": state,
        "reason": "",
    }


def verdict(scheduler: TrialScheduler, trial: TuneTrial, epoch: int, error: float, state: str = "running") -> str:
    return scheduler.on_trial_result(None, trial, report(epoch, error, state))  # type: ignore[no-any-return]


def added(scheduler: TrialScheduler, *names: str, variant: str = "model-a") -> list[TuneTrial]:
    trials = [TuneTrial(name, variant) for name in names]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    return trials


def test_a_weak_cell_competes_with_itself_only() -> None:
    scheduler = PerCell(STUDY)
    strong = added(scheduler, "s0", "s1", "s2", "s3", variant="model-a")
    weak = added(scheduler, "w0", "w1", "w2", "w3", variant="all-cnn-a")
    for epoch in range(1, 5):
        for trial in strong + weak:
            assert verdict(scheduler, trial, epoch, 0.9) == CONTINUE
    # At the rung the best quarter goes on: with errors rising, the first to arrive in each cell.
    strong_verdicts = [verdict(scheduler, trial, 5, 0.1 + number / 100) for number, trial in enumerate(strong)]
    weak_verdicts = [verdict(scheduler, trial, 5, 0.8 + number / 100) for number, trial in enumerate(weak)]
    assert strong_verdicts == weak_verdicts == [CONTINUE, STOP, STOP, STOP]


def test_the_user_s_rungs_and_reduction_factor_are_taken() -> None:
    scheduler = PerCell(replace(STUDY, first_rung=1, reduction_factor=2))
    trials = added(scheduler, "t0", "t1", "t2", "t3")
    assert [verdict(scheduler, trial, 1, 0.4 - n / 10) for n, trial in enumerate(trials)] == [CONTINUE] * 4
    assert [verdict(scheduler, trial, 2, 0.4 + n / 10) for n, trial in enumerate(trials)] == [
        *(CONTINUE, STOP, STOP),
        STOP,
    ]


def test_a_trial_at_its_last_epoch_is_not_stopped_by_its_budget() -> None:
    scheduler = PerCell(STUDY)
    (trial,) = added(scheduler, "only")
    assert all(verdict(scheduler, trial, epoch, 0.5) == CONTINUE for epoch in range(1, 7))
    assert verdict(scheduler, trial, 7, 0.5, "completed") == CONTINUE
    # Tune asks again about the last result once a trial's function has returned.
    assert verdict(scheduler, trial, 7, 0.5, "completed") == CONTINUE


def test_each_decision_is_told_with_our_own_id() -> None:
    told: list[Decision] = []
    scheduler = PerCell(STUDY, told.append)
    first, second = added(scheduler, "t0", "t1")
    for trial, error in ((first, 0.2), (second, 0.3)):
        verdict(scheduler, trial, 4, error)
        verdict(scheduler, trial, 5, error)
    assert [(d.trial_id, d.epoch, d.error, d.cutoff, d.verdict) for d in told] == [
        ("t0", 5, 0.2, 0.2, "continue"),
        ("t1", 5, 0.3, 0.2, "stop"),
    ]


def test_a_trial_that_diverges_at_a_rung_neither_arrives_nor_can_complete() -> None:
    told: list[Decision] = []
    scheduler = PerCell(STUDY, told.append)
    dead, alive, other = added(scheduler, "dead", "alive", "other")
    assert verdict(scheduler, other, 5, 0.1) == CONTINUE
    assert verdict(scheduler, dead, 5, 1.0, "diverged") == CONTINUE
    scheduler.on_trial_error(None, other)
    assert verdict(scheduler, alive, 5, 0.8) == CONTINUE
    assert [(d.trial_id, d.num_results) for d in told] == [("other", 1), ("alive", 2)]


@pytest.mark.parametrize("way", ["complete", "error", "remove"])
def test_a_trial_that_ended_before_its_budget_counts_no_longer(way: str) -> None:
    scheduler = PerCell(STUDY)
    gone, left = added(scheduler, "gone", "left")
    assert verdict(scheduler, gone, 5, 0.1) == CONTINUE
    ends: dict[str, Callable[[], None]] = {
        "complete": lambda: scheduler.on_trial_complete(None, gone, report(5, 0.1)),
        "error": lambda: scheduler.on_trial_error(None, gone),
        "remove": lambda: scheduler.on_trial_remove(None, gone),
    }
    ends[way]()
    assert verdict(scheduler, left, 5, 0.9) == CONTINUE


def test_no_early_stopping_asks_nobody() -> None:
    scheduler = make_scheduler(replace(STUDY, early_stopping="none"), recorded={}, decisions=[], tell=lambda _: None)
    assert type(scheduler) is FIFOScheduler


def recorded_row(trial_id: str, state: str, phase: str = "search") -> dict[str, Any]:
    cell = {"dataset": "shapes", "augmentation": "none", "variant": "model-a"}
    return {"trial_id": trial_id, "phase": phase, "state": state, **cell}


def recorded_decision(
    trial_id: str, epoch: int, error: float, verdict: str, cutoff: float | None = 0.3
) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "epoch": epoch,
        "error": error,
        "cutoff": cutoff,
        "num_results": 1,
        "verdict": verdict,
    }


def test_a_resumed_run_judges_by_all_that_was_judged_before() -> None:
    told: list[Decision] = []
    rows = [
        recorded_row("done", "completed"),
        recorded_row("stopped", "stopped"),
        recorded_row("dead", "diverged"),
        recorded_row("cut", "pending"),
        recorded_row("again", "completed", phase="confirm"),
    ]
    decisions = [
        recorded_decision("done", 5, 0.30, "continue"),
        recorded_decision("stopped", 5, 0.4, "stop"),
        recorded_decision("cut", 5, 0.28, "continue"),
        recorded_decision("done", 6, 0.25, "continue"),
    ]
    scheduler = make_scheduler(
        STUDY, recorded={row["trial_id"]: row for row in rows}, decisions=decisions, tell=told.append
    )
    cut, late = added(scheduler, "cut", "late")
    # `cut` goes on from its checkpoint and reports its first epochs once more; what was decided stays so.
    assert verdict(scheduler, cut, 5, 0.9) == CONTINUE
    assert verdict(scheduler, late, 5, 0.27) == CONTINUE
    assert verdict(scheduler, late, 6, 0.26) == STOP
    assert [(d.trial_id, d.epoch, d.cutoff, d.num_results) for d in told] == [
        ("cut", 5, 0.30, 1),
        ("late", 5, 0.27, 4),
        ("late", 6, 0.25, 2),
    ]


def test_a_trial_told_to_stop_before_the_run_was_cut_off_is_told_so_again() -> None:
    decisions = [recorded_decision("t0", 5, math.nan, "stop", cutoff=None)]
    scheduler = make_scheduler(
        STUDY, recorded={"t0": recorded_row("t0", "running")}, decisions=decisions, tell=lambda _: None
    )
    trial, _ = added(scheduler, "t0", "t1")
    assert verdict(scheduler, trial, 5, 0.1) == STOP


def test_a_decision_about_a_trial_without_a_row_is_forgotten() -> None:
    # The process was killed after it had written the decisions and before the rows of trials.
    decisions = [recorded_decision("lost", 5, 0.2, "stop")]
    scheduler = make_scheduler(
        STUDY, recorded={"t0": recorded_row("t0", "completed")}, decisions=decisions, tell=lambda _: None
    )
    (trial,) = added(scheduler, "lost")
    assert verdict(scheduler, trial, 5, 0.2) == CONTINUE


# One rung, at epoch 2, from which one of four goes on.
HALVING = replace(
    STUDY,
    early_stopping="halving",
    first_rung=2,
    reduction_factor=4,
    space=Space(lr=Choice((0.1, 0.05, 0.02, 0.01))),
)


class Halving:
    """A scheduler of the policy `halving`, and what it has told."""

    def __init__(
        self, recorded: Mapping[str, Mapping[str, Any]] | None = None, decisions: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.told: list[tuple[str, str]] = []
        self.scheduler = make_scheduler(
            HALVING,
            recorded=recorded or {},
            decisions=decisions,
            tell=lambda d: self.told.append((d.trial_id, d.verdict)),
        )

    def arrive(self, trial: TuneTrial, error: float) -> str:
        """Report epochs 1 and 2, the second being the rung, and end for Tune where that is the verdict."""
        assert self.scheduler.on_trial_result(None, trial, report(1, 0.9) | {"averaged_error": None}) == CONTINUE
        result = report(2, 0.9) | {"averaged_error": error}
        decision = self.scheduler.on_trial_result(None, trial, result)
        if decision == STOP:
            self.scheduler.on_trial_complete(None, trial, result)
        return str(decision)


def test_trials_of_a_cell_wait_for_each_other_and_the_best_by_averaged_weights_goes_on() -> None:
    halving = Halving()
    trials = [TuneTrial(f"cell_000{n}", "model-a") for n in range(4)]
    other = TuneTrial("other_0000", "all-cnn-a")
    verdicts = [halving.arrive(trial, error) for trial, error in zip(trials[:3], (0.5, 0.2, 0.6), strict=True)]
    assert verdicts == [STOP, STOP, STOP]
    assert halving.arrive(other, 0.1) == STOP, "another cell has its own rung"
    assert {verdict for _, verdict in halving.told} == {"pause"}
    del halving.told[:]
    assert halving.arrive(trials[3], 0.3) == STOP
    assert halving.told == [
        ("cell_0000", "stop"),
        ("cell_0001", "continue"),
        ("cell_0002", "stop"),
        ("cell_0003", "stop"),
    ]
    # Suggested once more it reports from its first epoch on.
    assert halving.arrive(trials[1], 0.2) == CONTINUE


def test_the_last_to_come_goes_on_at_once_where_it_is_the_best_and_nobody_waits_for_the_dead() -> None:
    halving = Halving()
    first, dead, failed, last = (TuneTrial(f"cell_000{n}", "model-a") for n in range(4))
    assert halving.arrive(first, 0.5) == STOP
    halving.scheduler.on_trial_result(None, dead, report(1, 1.0, "diverged") | {"averaged_error": None})
    halving.scheduler.on_trial_error(None, failed)
    assert halving.arrive(last, 0.4) == CONTINUE
    assert halving.told[-2:] == [("cell_0000", "stop"), ("cell_0003", "continue")]


def test_the_end_of_one_can_be_what_the_others_wait_for() -> None:
    halving = Halving()
    trials = [TuneTrial(f"cell_000{n}", "model-a") for n in range(4)]
    for trial, error in zip(trials[:3], (0.5, 0.2, 0.6), strict=True):
        halving.arrive(trial, error)
    halving.scheduler.on_trial_error(None, trials[3])
    assert halving.told[-3:] == [("cell_0000", "stop"), ("cell_0001", "continue"), ("cell_0002", "stop")]


def test_halving_goes_on_after_a_resume() -> None:
    rows = {
        "cell_0000": recorded_row("cell_0000", "pending"),
        "cell_0001": recorded_row("cell_0001", "diverged"),
        "cell_0002": recorded_row("cell_0002", "pending"),
    }
    halving = Halving(rows)
    waited, _, cut, new = (TuneTrial(f"cell_000{n}", "model-a") for n in range(4))
    assert [halving.arrive(waited, 0.5), halving.arrive(new, 0.6), halving.arrive(cut, 0.3)] == [STOP, STOP, CONTINUE]
    decisions = [
        recorded_decision("cell_0000", 2, 0.5, "stop"),
        recorded_decision("cell_0002", 2, 0.3, "continue"),
        recorded_decision("cell_0003", 2, 0.6, "stop"),
    ]
    again = Halving(rows | {"cell_0003": recorded_row("cell_0003", "stopped")}, decisions)
    assert [again.arrive(cut, 0.3), again.arrive(waited, 0.5)] == [CONTINUE, STOP]


def simulate(
    scheduler: TrialScheduler,
    trials: list[TuneTrial],
    error: Callable[[TuneTrial, int], float],
    epoch_s: Callable[[TuneTrial], float],
    *,
    slots: int,
    recorder: Recorder | None = None,
) -> dict[str, int]:
    """Run trials against a clock of their own, `slots` at once; return how many epochs each had."""
    waiting, running, ran = list(reversed(trials)), list[tuple[float, int, int, TuneTrial]](), dict[str, int]()

    def start(now: float) -> None:
        trial = waiting.pop()
        scheduler.on_trial_add(None, trial)
        if recorder is not None:
            recorder.on_trial_start(0, [], trial)  # type: ignore[arg-type]
        heapq.heappush(running, (now + epoch_s(trial), len(trials) - len(waiting), 1, trial))

    for _ in range(min(slots, len(trials))):
        start(0.0)
    while running:
        now, number, epoch, trial = heapq.heappop(running)
        is_last = epoch == STUDY.base.epochs
        result = report(epoch, error(trial, epoch), "completed" if is_last else "running")
        decision = scheduler.on_trial_result(None, trial, result)
        if recorder is not None:
            recorder.on_trial_result(0, [], trial, result)  # type: ignore[arg-type]
        if not is_last and decision != STOP:
            heapq.heappush(running, (now + epoch_s(trial), number, epoch + 1, trial))
            continue
        scheduler.on_trial_complete(None, trial, result)
        if recorder is not None:
            recorder.on_trial_complete(0, [], trial)  # type: ignore[arg-type]
        ran[trial.config["trial_id"]] = epoch
        if waiting:
            start(now)
    return ran


def two_variants() -> list[TuneTrial]:
    """Return 8 trials of a variant that is fast and good and of one that is slow and bad, dealt in turn."""
    return [TuneTrial(f"{variant}_{n}", variant) for n in range(8) for variant in ("model-a", "all-cnn-a")]


def error_of(trial: TuneTrial, epoch: int) -> float:
    # Another trial leads in each cell; all learn alike.
    rank = (int(trial.config["trial_id"][-1]) * 3 + 2) % 8
    return (0.2 if "model-a" in trial.config["trial_id"] else 0.6) + rank / 100 + 0.2 / epoch


def seconds_of(trial: TuneTrial) -> float:
    return 1.0 if "model-a" in trial.config["trial_id"] else 7.0


@pytest.mark.parametrize("first_rung", [None, 1])
@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_variants_of_different_speed_and_quality_both_keep_a_row_for_each_trial_and_a_full_length_one(
    tmp_path: Path, slots: int, first_rung: int | None
) -> None:
    store = Store(str(tmp_path))
    recorder = Recorder(store, STUDY)
    scheduler = PerCell(replace(STUDY, first_rung=first_rung), recorder.decided)
    simulate(scheduler, two_variants(), error_of, seconds_of, slots=slots, recorder=recorder)
    recorder.close()
    rows = store.read_trials().to_pylist()
    assert Counter(row["variant"] for row in rows) == {"model-a": 8, "all-cnn-a": 8}
    completed = Counter(row["variant"] for row in rows if row["state"] == "completed")
    assert set(completed) == {"model-a", "all-cnn-a"}
    assert Counter(row["state"] for row in rows) == {"completed": completed.total(), "stopped": 16 - completed.total()}
    # The best of each cell is among the completed: with the same order at each epoch nothing better is stopped.
    best = min(rows, key=lambda row: error_of(TuneTrial(row["trial_id"], row["variant"]), 7))
    assert best["state"] == "completed"
    stops = {row["trial_id"] for row in store.read_decisions().to_pylist() if row["verdict"] == "stop"}
    assert stops == {row["trial_id"] for row in rows if row["state"] == "stopped"}


@pytest.mark.parametrize("slots", [2, 4, 16])
def test_ray_s_own_asha_over_all_cells_leaves_the_weaker_variant_without_a_full_length_trial(slots: int) -> None:
    # Its usual settings: one pool, grace period 1. All 8 trials of the weaker variant are stopped after their first
    # epoch: the comparison would lose that variant.
    scheduler = ASHAScheduler(time_attr="epoch", metric="error", mode="min", max_t=8, grace_period=1)
    ran = simulate(scheduler, two_variants(), error_of, seconds_of, slots=slots)
    full = Counter(name.partition("_")[0] for name, epochs in ran.items() if epochs == STUDY.base.epochs)
    assert full["model-a"] >= 1
    assert full["all-cnn-a"] == 0
    assert [epochs for name, epochs in ran.items() if "all-cnn-a" in name] == [1] * 8
