"""The driver dies at a write of the record, at each in turn; the run goes on to the record that it would have had."""

import os
import random

import pytest

from tests.chaos.harness import KILLED, Bench, Tally

STUDY = (
    *("quickstart", "--train-size", "60", "--epochs", "3", "--width", "0.05", "--variants", "strided-cnn-a"),
    *("--learning-rates", "0.01", "0.005", "--seeds", "1", "--max-concurrent", "1"),
)
SEED = int(os.environ.get("CHAOS_SEED", "0"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(folder=tmp_path_factory.mktemp("chaos"), study=STUDY)
    assert made.finish("whole") == 0, made.log["whole"]
    return made


def moments(bench: Bench) -> list[str]:
    """Return every moment at which the driver may die, in the killer's words."""
    numbers = range(len(bench.writes("whole")))
    return [f"driver:{when}:{number}:die" for number in numbers for when in ("half", "before", "after")]


def check(bench: Bench, chosen: list[str]) -> None:
    total = Tally()
    for moment in chosen:
        name = moment.replace(":", "-")
        assert bench.finish(name, fault=moment) == KILLED, bench.log[name]
        bench.go_on(name)
        total.add(bench.compare(name, faults=1))
    print(total)
    assert total == Tally(faults=len(chosen), repeated=total.repeated)
    # One epoch may have been under way.
    assert total.repeated <= total.faults


def test_a_driver_that_dies_at_a_write_loses_nothing(bench: Bench) -> None:
    check(bench, random.Random(SEED).sample(moments(bench), 2))


@pytest.mark.chaos
def test_a_driver_that_dies_at_any_write_loses_nothing(bench: Bench) -> None:
    check(bench, moments(bench))
