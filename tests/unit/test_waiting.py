from dataclasses import dataclass

from ray.tune.experiment import Trial

from sweep.execution.pending import SAID_AFTER_S, SAID_AGAIN_AFTER_S, Waiting


@dataclass
class StandIn:
    """What is read of a Ray trial."""

    status: str


def test_what_waits_is_said_once_it_has_waited_and_when_it_changes() -> None:
    now = 0.0
    said: list[tuple[int, int]] = []
    waiting = Waiting(lambda wait, run: said.append((wait, run)), clock=lambda: now)

    trials: list[StandIn] = []

    def step(*statuses: str) -> list[tuple[int, int]]:
        trials.extend(StandIn(status) for status in statuses[len(trials) :])
        for trial, status in zip(trials, statuses, strict=True):
            trial.status = status
        waiting.on_step_end(0, trials)  # type: ignore[arg-type]
        heard, said[:] = list(said), []
        return heard

    # Coming up is not waiting.
    assert step(Trial.PENDING, Trial.PENDING, Trial.TERMINATED) == []
    now += SAID_AFTER_S
    assert step(Trial.PENDING, Trial.PENDING, Trial.TERMINATED) == [(2, 0)]
    now += 1
    assert step(Trial.PENDING, Trial.PENDING, Trial.TERMINATED) == []
    now += SAID_AGAIN_AFTER_S
    assert step(Trial.PENDING, Trial.PENDING, Trial.TERMINATED) == [(2, 0)]
    now += 1
    assert step(Trial.RUNNING, Trial.PENDING, Trial.TERMINATED) == [(1, 1)]
    # All run; the next one to wait begins anew.
    assert step(Trial.RUNNING, Trial.RUNNING, Trial.TERMINATED) == []
    assert step(Trial.RUNNING, Trial.PENDING, Trial.TERMINATED) == []
    now += SAID_AFTER_S
    assert step(Trial.RUNNING, Trial.PENDING, Trial.TERMINATED) == [(1, 1)]
