from dataclasses import dataclass

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from sweep.execution.pending import LiveTrials
from sweep.execution.retries import LossScheduler
from tests.unit.test_losses import Heard


@dataclass
class StandIn:
    """What is read of a Ray trial."""

    name: str
    status: str = Trial.PENDING
    looks: int = 0

    def __getattribute__(self, name: str) -> object:
        if name == "status":
            self.looks += 1
        return super().__getattribute__(name)


class Controller:
    """What is read of Ray's controller."""

    def __init__(self) -> None:
        self.trials: list[StandIn] = []

    def get_trials(self) -> list[StandIn]:
        return self.trials


def test_those_that_have_not_ended_are_found_in_order_as_the_list_grows() -> None:
    live, trials = LiveTrials(), [StandIn("a"), StandIn("b")]
    assert [trial.name for trial in live.of(trials)] == ["a", "b"]  # type: ignore[arg-type, attr-defined]
    trials[0].status = Trial.ERROR
    trials += [StandIn("c"), StandIn("d", Trial.TERMINATED)]
    assert [trial.name for trial in live.of(trials)] == ["b", "c"]  # type: ignore[arg-type, attr-defined]
    trials[1].status = Trial.RUNNING
    assert [trial.name for trial in live.of(trials)] == ["b", "c"]  # type: ignore[arg-type, attr-defined]


def test_one_that_ended_is_looked_at_no_more() -> None:
    live, trials = LiveTrials(), [StandIn("a", Trial.TERMINATED), StandIn("b")]
    live.of(trials)  # type: ignore[arg-type]
    looks = trials[0].looks
    for _ in range(10):
        live.of(trials)  # type: ignore[arg-type]
    assert (looks, trials[0].looks) == (1, 1)
    assert trials[1].looks == 11


def test_the_scheduler_chooses_what_rays_own_would() -> None:
    scheduler, fifo, controller = LossScheduler(FIFOScheduler(), Heard()), FIFOScheduler(), Controller()
    states = (Trial.PENDING, Trial.RUNNING, Trial.TERMINATED, Trial.ERROR)
    for round_ in range(64):
        for number, trial in enumerate(controller.trials):
            # Forward only, as trials go.
            trial.status = states[max(states.index(trial.status), (round_ >> (number % 6)) & 3)]
        if round_ % 3 == 0:
            controller.trials.append(StandIn(str(round_)))
        assert scheduler.choose_trial_to_run(controller) is fifo.choose_trial_to_run(controller)
