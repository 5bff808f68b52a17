"""Early stopping per cell behind one Ray scheduler, so that a weak architecture competes only with itself."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.record.schema import FINAL_STATES, DecisionRow, TrialRow, cell_of
from sweep.search.halving import CellASHA, CellHalving, Decision
from sweep.search.searcher import METRIC
from sweep.study.study import Study
from trainables.config import TrialConfig


@final
class PerCell(FIFOScheduler):  # type: ignore[misc]
    """Routes each trial to the rungs of its cell, which see no other cell's trials.

    A trial that is paused ends for Tune, and its slot is free: the searcher suggests it once more where it continues,
    from its checkpoint.
    """

    def __init__(self, study: Study, tell: Callable[[Decision], object] = lambda _: None) -> None:
        """Begin with nobody on a rung.

        Args:
            study: gives the policy, the cells and their rungs.
            tell: called with each decision, before its trial's result reaches Tune's callbacks.
        """
        super().__init__()
        self._tell = tell
        self._judged_by = METRIC if study.early_stopping == "asha" else "averaged_error"
        self._of_cell = {cell.cell: _rungs(study, cell) for cell in study.cells()}
        self._paused: set[str] = set()

    def restore_record(self, trials: Mapping[str, TrialRow], decisions: Iterable[DecisionRow]) -> None:
        """Put the trials that were judged before the run was resumed back on their rungs; paused ones are repeated."""
        for decision in decisions:
            self._of_cell[cell_of(trials[decision["trial_id"]])].restore(_decision(decision))
        for row in trials.values():
            if row["state"] in FINAL_STATES and row["phase"] == "search":
                self._of_cell[cell_of(row)].end(row["trial_id"], completed=row["state"] == "completed")

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002 - Tune's signature
        """Count the trial among those that can complete."""
        self._of_cell[trial.config["cell"]].add(trial.config["trial_id"])

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Return whether the trial continues; it does not while it is paused."""
        trial_id = trial.config["trial_id"]
        if result["state"] != "running":
            # It has ended by itself, and the loop said how.
            self._end(trial, completed=result["state"] == "completed")
            return TrialScheduler.CONTINUE  # type: ignore[no-any-return]
        decisions = self._of_cell[trial.config["cell"]].arrive(trial_id, result["epoch"], result[self._judged_by])
        self._spread(decisions)
        continues = all(each.verdict == "continue" for each in decisions if each.trial_id == trial_id)
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Count the trial no longer, unless it is paused: it completed, and was counted so then, or it did not."""
        if trial.config["trial_id"] not in self._paused:
            self._end(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Count the trial no longer."""
        self._end(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Count the trial no longer."""
        self._end(trial)

    def _end(self, trial: Trial, *, completed: bool = False) -> None:
        self._spread(self._of_cell[trial.config["cell"]].end(trial.config["trial_id"], completed=completed))

    def _spread(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            (self._paused.add if decision.verdict == "pause" else self._paused.discard)(decision.trial_id)
            self._tell(decision)


def _rungs(study: Study, cell: TrialConfig) -> CellASHA | CellHalving:
    if study.early_stopping == "asha":
        return CellASHA(study.rungs, study.keep_one_in)
    return CellHalving(study.rungs, study.keep_one_in, study.points_of(cell.variant))


def make_scheduler(
    study: Study,
    *,
    recorded: Mapping[str, TrialRow],
    decisions: Iterable[DecisionRow],
    tell: Callable[[Decision], object],
) -> TrialScheduler:
    """Return the scheduler of the study's early-stopping policy."""
    if study.early_stopping == "none":
        return FIFOScheduler()
    scheduler = PerCell(study, tell)
    # A process that was killed may have written decisions and not yet the rows of their trials, which restart.
    scheduler.restore_record(recorded, [decision for decision in decisions if decision["trial_id"] in recorded])
    return scheduler


def _decision(row: DecisionRow) -> Decision:
    # A null cutoff is that of a rung at which only NaN had arrived.
    return Decision(
        trial_id=row["trial_id"],
        epoch=row["epoch"],
        error=row["error"],
        cutoff=math.inf if row["cutoff"] is None else row["cutoff"],
        num_results=row["num_results"],
        verdict=row["verdict"],
    )
