"""One ASHA per cell behind one Ray scheduler, so that a weak architecture competes only with itself."""

from typing import Any, final

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from sweep.search import METRIC
from trainables.config import TrialConfig

REDUCTION_FACTOR = 4
"""One trial in this many goes on from each rung: ASHA's eta."""


def first_rung(config: TrialConfig) -> int:
    """Return the earliest epoch at which a trial may be stopped: the first after the learning rate has dropped.

    Before the drop ASHA prefers small learning rates that end up worse.
    """
    return min(config.drop_epochs, default=config.epochs) + 1


@final
class PerCellASHA(FIFOScheduler):  # type: ignore[misc]
    """Routes each trial to the ASHA of its cell, which sees no other cell's trials."""

    def __init__(self, base: TrialConfig) -> None:
        """Begin with no cell known; `base` gives every cell's epochs and drops."""
        super().__init__()
        self._grace = first_rung(base)
        # One more than the budget: at max_t ASHA would stop a trial that is about to complete.
        self._max_t = base.epochs + 1
        self._of_cell: dict[str, ASHAScheduler] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Make the cell's ASHA where this is its first trial."""
        self._asha(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return whether the trial goes on."""
        return self._asha(trial).on_trial_result(tune_controller, trial, result)  # type: ignore[no-any-return]

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Count the trial's last result."""
        self._asha(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Forget the trial."""
        self._asha(trial).on_trial_remove(tune_controller, trial)

    def _asha(self, trial: Trial) -> ASHAScheduler:
        cell = trial.config["cell"]
        if cell not in self._of_cell:
            self._of_cell[cell] = ASHAScheduler(
                time_attr="epoch",
                metric=METRIC,
                mode="min",
                max_t=self._max_t,
                grace_period=min(self._grace, self._max_t - 1),
                reduction_factor=REDUCTION_FACTOR,
            )
        return self._of_cell[cell]


def make_scheduler(policy: str, base: TrialConfig) -> TrialScheduler:
    """Return the scheduler of an early-stopping policy by name."""
    return PerCellASHA(base) if policy == "asha" else FIFOScheduler()
