"""Run a plan's trials with Ray Tune and keep their record."""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, final

import ray.tune
from ray.tune.experiment import Trial

from sweep.driver import run_trial
from sweep.early_stopping import make_scheduler
from sweep.plan import Plan
from sweep.recorder import Recorder
from sweep.search import METRIC, StudySearcher
from sweep.store import Store


@final
class StopWhen(ray.tune.Stopper):  # type: ignore[misc]
    """Ends all trials once a condition holds: how an interruption reaches Ray Tune."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: see Recorder."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune's signature
        """Return whether this trial ends."""
        return self._condition()

    def stop_all(self) -> bool:
        """Return whether all trials end."""
        return self._condition()


def run_trials(
    plan: Plan,
    store: Store,
    *,
    recorded: Mapping[str, Mapping[str, Any]],
    is_interrupted: Callable[[], bool],
    on_end: Callable[[Mapping[str, Any]], None],
) -> list[dict[str, Any]]:
    """Run every trial of the plan that `recorded` does not hold in a final state; return all rows of `trials`.

    Args:
        plan: what to run; a cluster is connected.
        store: where the record goes.
        recorded: rows of `trials` by trial_id, of a run that goes on.
        is_interrupted: asked again and again; once it holds, trials end and the record is closed.
        on_end: called with the row of each trial that ended.
    """
    # Tune's own table, log files and signal handler give way to this project's.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # At the level ERROR Tune would print the traceback of each failed trial, which is in the run's folder.
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    recorder = Recorder(store, recorded=recorded, is_interrupted=is_interrupted, on_end=on_end)
    state = store.folder("tune")
    # Each execution has a folder of its own: Tune would overwrite an earlier one's state, Train would go on from it.
    execution = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    trainable = functools.partial(run_trial, placement=plan.placement, run=store.location, execution=execution)
    epochs = store.read_epochs().to_pylist() if recorded else []
    scheduler = make_scheduler(plan.study, recorded=recorded, epochs=epochs, tell=recorder.decided)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, plan.placement.resources()),
        tune_config=ray.tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=plan.trials,
            search_alg=StudySearcher(plan.study, recorded),
            scheduler=scheduler,
            max_concurrent_trials=plan.slots,
            trial_name_creator=_trial_id,
            trial_dirname_creator=_trial_id,
            reuse_actors=plan.placement.workers == 0,
        ),
        run_config=ray.tune.RunConfig(
            name=execution,
            storage_path=state,
            verbose=0,
            stop=StopWhen(is_interrupted),
            callbacks=[recorder],
            failure_config=ray.tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        tuner.fit()
    finally:
        recorder.close()
    return recorder.rows


def _trial_id(trial: Trial) -> str:
    return str(trial.config["trial_id"])
