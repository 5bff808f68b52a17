"""One ASHA per cell, its rungs computed by hand."""

from typing import Any

from ray.tune.schedulers import TrialScheduler

from sweep.early_stopping import PerCellASHA, first_rung
from trainables.config import TrialConfig

BASE = TrialConfig(dataset="shapes", variant="model-a", lr=0.1, epochs=7)


class TuneTrial:
    """As much of Ray's Trial as a scheduler reads."""

    def __init__(self, trial_id: str, cell: str) -> None:
        self.trial_id, self.config = trial_id, {"cell": cell}


def verdict(scheduler: PerCellASHA, trial: TuneTrial, epoch: int, error: float) -> str:
    result: dict[str, Any] = {"epoch": epoch, "error": error}
    return scheduler.on_trial_result(None, trial, result)


def test_the_first_rung_is_the_first_epoch_after_the_first_drop() -> None:
    assert first_rung(TrialConfig(dataset="shapes", variant="model-a", lr=0.1)) == 201
    assert first_rung(BASE) == 5


def test_a_weak_cell_competes_with_itself_only() -> None:
    scheduler = PerCellASHA(BASE)
    strong = [TuneTrial(f"s{number}", "strong") for number in range(4)]
    weak = [TuneTrial(f"w{number}", "weak") for number in range(4)]
    for trial in strong + weak:
        scheduler.on_trial_add(None, trial)
    for epoch in range(1, 5):
        for trial in strong + weak:
            assert verdict(scheduler, trial, epoch, 0.9) == TrialScheduler.CONTINUE
    # At the rung the best quarter goes on: with errors rising, the first to arrive in each cell.
    strong_verdicts = [verdict(scheduler, trial, 5, 0.1 + number / 100) for number, trial in enumerate(strong)]
    weak_verdicts = [verdict(scheduler, trial, 5, 0.8 + number / 100) for number, trial in enumerate(weak)]
    expected = [TrialScheduler.CONTINUE] + [TrialScheduler.STOP] * 3
    assert strong_verdicts == weak_verdicts == expected


def test_a_trial_at_its_last_epoch_is_not_stopped_by_its_budget() -> None:
    scheduler = PerCellASHA(BASE)
    trial = TuneTrial("only", "cell")
    scheduler.on_trial_add(None, trial)
    assert all(verdict(scheduler, trial, epoch, 0.5) == TrialScheduler.CONTINUE for epoch in range(1, 8))
