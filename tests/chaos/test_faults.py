"""What may befall a run besides the death of its driver: it goes on, or says how to, to the undisturbed record."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from tests.chaos.harness import Bench, Tally
from tests.chaos.test_writes import SEED, STUDY

ENDS, GOES_ON = 1, 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = Bench(folder=tmp_path_factory.mktemp("chaos"), study=STUDY)
    assert made.finish("whole") == 0, made.log["whole"]
    return made


def moment(bench: Bench, by_driver: bool, *whens: str) -> str:
    """Return one of the moments at which the driver, or a trial, writes."""
    draws = random.Random(SEED)
    # Not the last ones: what is to be hurt must be there still.
    number = draws.randrange(1, len(bench.writes("whole", by_driver=by_driver)) - 2)
    return f"{'driver' if by_driver else 'trial'}:{draws.choice(whens)}:{number}"


def check(bench: Bench, name: str, status: int, faults: int = 1, repeated: int = 1) -> None:
    said = "".join(bench.log[name])
    assert "Traceback" not in said, said
    if status == ENDS:
        bench.go_on(name)
    tally = bench.compare(name, faults)
    print(f"{name}: {tally}")
    assert tally == Tally(faults=faults, repeated=tally.repeated), said
    assert tally.repeated <= repeated


@pytest.mark.chaos
@pytest.mark.parametrize("what", ["raylet", "gcs_server", "cluster"])
def test_a_lost_cluster_ends_the_run_in_words_and_it_goes_on(bench: Bench, what: str) -> None:
    # In the first half: a last trial that runs already may come to its end before anybody has seen the loss.
    number = random.Random(SEED).randrange(1, len(bench.writes("whole")) // 2)
    assert bench.finish(what, fault=f"driver:after:{number}:{what}") == ENDS, bench.log[what]
    assert "The Ray cluster was lost: " in bench.log[what][-1]
    assert "Resume with: " in bench.log[what][-1]
    check(bench, what, ENDS)


def test_a_trial_whose_process_dies_as_it_writes_is_begun_again(bench: Bench) -> None:
    fault = f"{moment(bench, False, 'half', 'before', 'after')}:die"
    assert bench.finish("trial", fault=fault) == GOES_ON, bench.log["trial"]
    check(bench, "trial", GOES_ON)


@pytest.mark.chaos
@pytest.mark.parametrize("by_driver", [True, False], ids=["of-the-record", "of-a-checkpoint"])
def test_a_disk_that_is_full_for_a_while_costs_nothing(bench: Bench, by_driver: bool) -> None:
    name = f"full-{by_driver}"
    assert bench.finish(name, fault=f"{moment(bench, by_driver, 'half')}:full:1") == GOES_ON, bench.log[name]
    check(bench, name, GOES_ON)


@pytest.mark.chaos
def test_a_disk_that_stays_full_ends_the_run_in_words_and_it_goes_on(bench: Bench) -> None:
    # How often the record is written goes by time: as late a write as comes in each run.
    late = len(bench.writes("whole")) - 5
    assert bench.finish("stays", fault=f"driver:half:{late}:full:9999") == ENDS, bench.log["stays"]
    assert "The run could not be written ([Errno 28] No space left on device)" in bench.log["stays"][-1]
    (bench.folder / "stays.log.left").unlink()
    check(bench, "stays", ENDS)


@pytest.mark.chaos
def test_a_second_interrupt_does_not_wait_and_the_run_goes_on(bench: Bench) -> None:
    process = bench.start("twice")
    said = interrupt_at(process, "[1/3]", lambda: [os.killpg(process.pid, signal.SIGINT) for _ in range(2)])
    bench.log["twice"] = [said]
    assert process.returncode == 130, said
    # Nobody waits for the trial: it may train on while Ray ends, and its epochs are then not in the record.
    check(bench, "twice", ENDS, repeated=3)


@pytest.mark.chaos
def test_a_clock_that_jumps_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    library = files("libfaketime") / "vendor/libfaketime/src/libfaketime.so.1"
    process = bench.start(
        "clock",
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(clock),
        FAKETIME_NO_CACHE="1",
        # As where a clock is set: what counts seconds from the machine's start goes on.
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    jumps = iter(["-2h", "+30d"])
    said = interrupt_at(process, "[", lambda: clock.write_text(next(jumps, "+0")), once=False)
    bench.log["clock"] = [said]
    assert process.returncode == GOES_ON, said
    check(bench, "clock", GOES_ON, faults=2)


def interrupt_at(process: "subprocess.Popen[str]", start: str, do: Callable[[], object], once: bool = True) -> str:
    """Do something when the process says a line that starts so, and return all that it said."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start) and do is not None:
            do()
            if once:
                break
    rest, _ = process.communicate()
    return "".join(lines) + rest
