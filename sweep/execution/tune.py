"""Run a plan's trials with Ray Tune and keep their record."""

import functools
import logging
import os
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from typing import Any, final

import ray.tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweep.execution.deadline import Deadline
from sweep.execution.listener import Listener
from sweep.execution.pending import Waiting
from sweep.execution.plan import Plan
from sweep.execution.recorder import Recorder
from sweep.execution.restart import restarted
from sweep.execution.retries import LossScheduler
from sweep.execution.trial import attempt_name, run_trial
from sweep.record.schema import FINAL_STATES, TrialRow, reopened
from sweep.record.store import Store
from sweep.search.confirm import ConfirmSearcher, confirmations, search_ended
from sweep.search.halving import Decision
from sweep.search.schedulers import make_scheduler
from sweep.search.searcher import METRIC, StudySearcher
from trainables.common.registry import read_plugins


@final
class StopWhen(ray.tune.Stopper):  # type: ignore[misc]
    """Stops all trials once a condition holds, and each of them in time: how an interruption reaches Ray Tune."""

    def __init__(self, condition: Callable[[], bool], deadline: Deadline) -> None:
        self._condition, self._deadline = condition, deadline
        self.cut_off: set[str] = set()
        """Ray's ids of the trials that were stopped before their end."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: see Recorder."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return whether this trial stops."""
        stops = self._deadline.stops(result["config"], result) or self._condition()
        if stops and result["state"] == "running":
            self.cut_off.add(trial_id)
        return stops

    def stop_all(self) -> bool:
        """Return whether all trials stop."""
        return self._condition() or self._deadline.is_over


def run_trials(
    plan: Plan,
    store: Store,
    *,
    recorded: Mapping[str, TrialRow],
    is_interrupted: Callable[[], bool],
    listener: Listener = Listener(),  # noqa: B008 - it holds nothing
    deadline: Deadline | None = None,
    only: Container[str] | None = None,
    trainable: Callable[[dict[str, Any]], None] | None = None,
) -> list[TrialRow]:
    """Run every trial of the plan that `recorded` does not hold in a final state; return all rows of `trials`.

    Args:
        plan: what to run; a cluster is connected.
        store: where the record goes.
        recorded: rows of `trials` by trial_id, of a resumed run; as `restarted` returned them.
        is_interrupted: asked again and again; once it holds, trials end and the record is closed.
        listener: hears of what happens.
        deadline: when to have stopped; trials that have no time left are pending then.
        only: variants whose trials run, those of the second phase once every cell's search has ended; None runs all.
        trainable: what is done with a trial's parameters where it runs, instead of `run_trial`: for measurements of all
            that is around a trial. It reports what an `EpochReport` holds to Ray Tune.
    """
    study = plan.study
    ends = Deadline() if deadline is None else deadline

    def is_cut_off() -> bool:
        return is_interrupted() or ends.is_near

    def run(
        searcher_of: Callable[[Recorder], StudySearcher | ConfirmSearcher], rows: Mapping[str, TrialRow]
    ) -> list[TrialRow]:
        recorder = Recorder(
            store,
            study,
            recorded=rows,
            is_interrupted=is_cut_off,
            is_ending=lambda: is_interrupted() or ends.is_ending,
            listener=listener,
        )
        searcher = searcher_of(recorder)
        scheduler: TrialScheduler = FIFOScheduler()
        if isinstance(searcher, StudySearcher):
            search = searcher

            def tell(decision: Decision) -> None:
                search.decided(decision)
                recorder.decided(decision)

            scheduler = make_scheduler(study, recorded=rows, decisions=recorder.decisions, tell=tell)
        stop = StopWhen(is_interrupted, ends)
        losses = LossScheduler(scheduler, searcher, stop.cut_off)
        _tune(plan, store, searcher, losses, recorder, stop, listener.waiting, trainable)
        return recorder.rows

    ends.learn(recorded.values())
    rows = [row.copy() for row in recorded.values()]
    if len(search_ended(rows)) < study.search_trials:
        rows = run(lambda recorder: StudySearcher(study, recorded, recorder.skipped, only, ends.fits), recorded)
    if not study.confirm_seeds or is_cut_off() or len(search_ended(rows)) < study.search_trials:
        return rows
    wanted = confirmations(study, rows)
    listener.confirming(wanted)
    # What is confirmed no longer, after an extension, keeps the epochs that it has.
    by_id = {row["trial_id"]: row for row in rows}
    reopens = {key: row for key, row in by_id.items() if key in wanted and (only is None or row["variant"] in only)}
    by_id |= reopened(reopens, study.epochs)
    by_id = restarted(store, by_id, only)
    ends.learn(by_id.values())
    dealt = {key: config for key, config in wanted.items() if only is None or config.variant in only}
    if all(key in by_id and by_id[key]["state"] in FINAL_STATES for key in dealt):
        return list(by_id.values())
    # What is confirmed runs to its end.
    return run(lambda _: ConfirmSearcher(dealt, by_id, ends.fits), by_id)


def _tune(
    plan: Plan,
    store: Store,
    searcher: Searcher,
    scheduler: TrialScheduler,
    recorder: Recorder,
    stop: StopWhen,
    on_wait: Callable[[int, int], None],
    trainable: Callable[[dict[str, Any]], None] | None,
) -> None:
    # Tune's own table, log files and signal handler give way to this project's.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Else Tune would itself begin a trial again whose node was taken back with notice, and the searcher once more.
    os.environ["RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE"] = "1"
    # At the level ERROR Tune would print the traceback of each failed trial, which is in the run's folder.
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    state = store.folder("tune")
    # Each execution has a folder of its own: Tune would overwrite an earlier one's state, Train would go on from it.
    execution = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    if trainable is None:
        trainable = functools.partial(
            run_trial,
            placement=plan.placement,
            run=store.location,
            execution=execution,
            plugins=read_plugins(plan.study.base.plugins),
        )
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, plan.placement.resources),
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="min",
            # As many as the searcher has: one that is put aside, or that lost its node, comes once more.
            num_samples=-1,
            search_alg=searcher,
            scheduler=scheduler,
            max_concurrent_trials=plan.slots,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            # On an H100 a process that had trained a compiled network died as it began the next trial.
            reuse_actors=plan.placement.workers == 0 and not plan.may_compile,
        ),
        run_config=ray.tune.RunConfig(
            name=execution,
            storage_path=state,
            verbose=0,
            stop=stop,
            callbacks=[recorder, Waiting(on_wait)],
            failure_config=ray.tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        tuner.fit()
    finally:
        recorder.close()


def _trial_name(trial: Trial) -> str:
    return attempt_name(trial.config)
