"""One ASHA per cell behind one Ray scheduler, so that a weak architecture competes only with itself."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.records import FINAL_STATES
from sweep.rungs import CellASHA, Decision, rungs_of
from sweep.search import METRIC
from sweep.studies import Study


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
        self._rungs = rungs_of(study.base, study.first_rung, study.reduction_factor)
        self._reduction_factor = study.reduction_factor
        self._tell = tell
        self._of_cell: dict[str, CellASHA] = {}

    def restore_record(self, trials: Mapping[str, Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]]) -> None:
        """Put the trials that ended before the run was resumed back on their rungs; the others begin anew.

        Args:
            trials: rows of `trials` by trial_id.
            epochs: rows of `epochs`.
        """
        ended = {key: row for key, row in trials.items() if row["state"] in FINAL_STATES and row["phase"] == "search"}
        for row in ended.values():
            self._asha(_cell_of(row)).end(row["trial_id"], completed=row["state"] == "completed")
        for epoch in epochs:
            trial = ended.get(epoch["trial_id"])
            # The epoch in which a trial diverged was none of its arrivals.
            if trial is not None and (trial["state"] != "diverged" or epoch["epoch"] < trial["epochs_run"]):
                error = epoch["val_error"] if epoch["val_error"] is not None else epoch["test_error"]
                self._asha(_cell_of(trial)).arrive(epoch["epoch"], error)

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
            self._of_cell[cell] = CellASHA(self._rungs, self._reduction_factor)
        return self._of_cell[cell]


def make_scheduler(
    study: Study,
    *,
    recorded: Mapping[str, Mapping[str, Any]],
    epochs: Iterable[Mapping[str, Any]],
    tell: Callable[[Decision], None],
) -> TrialScheduler:
    """Return the scheduler of the study's early-stopping policy.

    Args:
        study: what is run.
        recorded: rows of `trials` by trial_id, of a run that goes on.
        epochs: its rows of `epochs`.
        tell: called with each decision.
    """
    if study.early_stopping == "none":
        return FIFOScheduler()
    scheduler = PerCellASHA(study, tell)
    scheduler.restore_record(recorded, epochs)
    return scheduler


def _cell_of(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}/{row['augmentation']}/{row['variant']}"
