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


def _tell_nobody(decision: Decision) -> None:
    """Take a decision and do nothing."""


@final
class PerCellASHA(FIFOScheduler):  # type: ignore[misc]
    """Routes each trial to the ASHA of its cell, which sees no other cell's trials."""

    def __init__(self, study: Study, tell: Callable[[Decision], None] = _tell_nobody) -> None:
        """Begin with no cell known.

        Args:
            study: gives every cell's rungs.
            tell: called with each decision, before its trial's result reaches Tune's callbacks.
        """
        super().__init__()
        self._rungs, self._keep_one_in = study.rungs, study.keep_one_in
        self._tell = tell
        self._of_cell: dict[str, CellASHA] = {}

    def restore_record(self, trials: Mapping[str, TrialRow], decisions: Iterable[DecisionRow]) -> None:
        """Put the trials that were judged before the run was resumed back on their rungs.

        Args:
            trials: rows of `trials` by trial_id.
            decisions: rows of `decisions`, in their order.
        """
        for row in trials.values():
            if row["state"] in FINAL_STATES and row["phase"] == "search":
                self._asha(cell_of(row)).end(row["trial_id"], completed=row["state"] == "completed")
        for decision in decisions:
            self._asha(cell_of(trials[decision["trial_id"]])).restore(_decision(decision))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002 - Tune's signature
        """Count the trial among those that can complete."""
        self._asha(trial.config["cell"]).add(trial.config["trial_id"])

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Return whether the trial goes on."""
        asha, trial_id = self._asha(trial.config["cell"]), trial.config["trial_id"]
        if result["state"] != "running":
            # It has ended by itself, and the loop said how.
            asha.end(trial_id, completed=result["state"] == "completed")
            return TrialScheduler.CONTINUE  # type: ignore[no-any-return]
        decision = asha.decide(trial_id, result["epoch"], result[METRIC])
        if decision is None:
            return TrialScheduler.CONTINUE  # type: ignore[no-any-return]
        self._tell(decision)
        return TrialScheduler.STOP if decision.verdict == "stop" else TrialScheduler.CONTINUE  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Count the trial no longer: it completed, and was counted so then, or it did not."""
        self._end(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Count the trial no longer."""
        self._end(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Count the trial no longer."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        self._asha(trial.config["cell"]).end(trial.config["trial_id"], completed=False)

    def _asha(self, cell: str) -> CellASHA:
        if cell not in self._of_cell:
            self._of_cell[cell] = CellASHA(self._rungs, self._keep_one_in)
        return self._of_cell[cell]


@final
class PerCellHalving(FIFOScheduler):  # type: ignore[misc]
    """Routes each trial to the rungs of its cell, at which trials wait for each other.

    A trial that waits ends for Tune, and its slot is free: the searcher hears of it, and suggests it once more where it
    goes on, from its checkpoint.
    """

    def __init__(self, study: Study, tell: Callable[[Decision], None] = _tell_nobody) -> None:
        """Begin with nobody on a rung.

        Args:
            study: gives the cells and their rungs.
            tell: called with each decision, before its trial's result reaches Tune's callbacks.
        """
        super().__init__()
        self._tell = tell
        self._of_cell = {
            cell.cell: CellHalving(study.rungs, study.keep_one_in, study.points_of(cell.variant))
            for cell in study.cells()
        }
        self._waiting: set[str] = set()

    def restore_record(self, trials: Mapping[str, TrialRow], decisions: Iterable[DecisionRow]) -> None:
        """Know what was decided before the run was resumed; trials that waited come once more.

        Args:
            trials: rows of `trials` by trial_id.
            decisions: rows of `decisions`.
        """
        for decision in decisions:
            self._of_cell[cell_of(trials[decision["trial_id"]])].restore(_decision(decision))
        for row in trials.values():
            if row["state"] in FINAL_STATES and row["phase"] == "search":
                self._of_cell[cell_of(row)].end(row["trial_id"])

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Return whether the trial goes on; it does not while it waits."""
        trial_id = trial.config["trial_id"]
        if result["state"] != "running":
            self._end(trial)
            return TrialScheduler.CONTINUE  # type: ignore[no-any-return]
        decisions = self._of_cell[trial.config["cell"]].arrive(trial_id, result["epoch"], result["averaged_error"])
        if not decisions:
            return TrialScheduler.CONTINUE  # type: ignore[no-any-return]
        self._spread(decisions)
        own = next(decision for decision in decisions if decision.trial_id == trial_id)
        return TrialScheduler.CONTINUE if own.verdict == "continue" else TrialScheduler.STOP  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Wait for the trial no longer, unless it is one that waits itself."""
        if trial.config["trial_id"] not in self._waiting:
            self._end(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Wait for the trial no longer."""
        self._end(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """Wait for the trial no longer."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        self._spread(self._of_cell[trial.config["cell"]].end(trial.config["trial_id"]))

    def _spread(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            if decision.verdict == "pause":
                self._waiting.add(decision.trial_id)
            else:
                self._waiting.discard(decision.trial_id)
            self._tell(decision)


def make_scheduler(
    study: Study,
    *,
    recorded: Mapping[str, TrialRow],
    decisions: Iterable[DecisionRow],
    tell: Callable[[Decision], None],
) -> TrialScheduler:
    """Return the scheduler of the study's early-stopping policy.

    Args:
        study: what is run.
        recorded: rows of `trials` by trial_id, of a run that goes on.
        decisions: its rows of `decisions`.
        tell: called with each decision.
    """
    if study.early_stopping == "none":
        return FIFOScheduler()
    scheduler = PerCellASHA(study, tell) if study.early_stopping == "asha" else PerCellHalving(study, tell)
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
