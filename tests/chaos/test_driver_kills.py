"""The driver is killed at ten random moments of a run of 24 trials on real CIFAR-10."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.harness import KILLED, Bench

KILLS = 10
SEED = int(os.environ.get("CHAOS_SEED", "0"))
STUDY = (
    *("cifar10", "--variants", "all-cnn-c", "model-c", "strided-cnn-c", "convpool-cnn-c"),
    *("--learning-rates", "0.005", "0.01", "0.02", "--seeds", "3", "--width", "0.1", "--train-size", "500"),
    *("--epochs", "6", "--batch-size", "32", "--set", "class_relu=no", "--set", "input_dropout=0"),
    *("--set", "dropout=0.1"),
)


@pytest.mark.chaos
@pytest.mark.skipif("SWEEP_DATA" not in os.environ, reason="SWEEP_DATA names no folder with real CIFAR-10")
def test_a_driver_that_is_killed_ten_times_leaves_the_undisturbed_record(tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path, study=STUDY)
    started = time.monotonic()
    assert bench.finish("whole") == 0, bench.log["whole"]
    length = time.monotonic() - started
    draws = random.Random(SEED)
    faults = 0
    for _ in range(KILLS):
        process = bench.start("cut", *bench.again("cut"))
        # Long enough to get somewhere in most attempts, short enough to cut most of them off.
        time.sleep(draws.uniform(8, 8 + 2 * length / KILLS))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        faults += process.returncode == KILLED
    bench.go_on("cut")
    tally = bench.compare("cut", faults)
    print(tally)
    assert (tally.lost, tally.doubled) == (0, 0)
    assert tally.faults > KILLS // 2
    # Two trials at once, each with an epoch under way.
    assert tally.repeated <= 2 * tally.faults
