"""Whole runs on generated and real images, one Ray each: what is recorded, printed and returned."""

import subprocess
import sys
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.dashboard import check_shown
from tests.e2e.conftest import TINY, Sweep, without_times


def test_the_same_study_twice_gives_the_same_record(sweep: Sweep, tmp_path: Path) -> None:
    for name in ("first", "second"):
        done = sweep("quickstart", *TINY, "--variants", "model-a", "all-cnn-a", "--name", name)
        assert done.returncode == 0, done.stderr
        assert "| all-cnn-a" in done.stdout
        # Optuna's own lines are not for this project's users.
        assert "[I " not in done.stderr
    first, second = (without_times(Store(str(tmp_path / name))) for name in ("first", "second"))
    assert first == second
    trials, epochs = first
    assert len(trials) == len({row["trial_id"] for row in trials}) == 4
    assert {row["state"] for row in trials} <= {"completed", "diverged"}
    assert all(row["train_images"] == 100 and row["test_images"] == 2000 for row in epochs)

    again = sweep("quickstart", *TINY, "--name", "first")
    assert again.returncode == 2
    assert again.stderr.startswith("error: name must be that of a new run, got 'first'")


def test_two_workers_count_every_image_once_and_agree_with_one(sweep: Sweep, tmp_path: Path) -> None:
    # 97 images in batches of 32 leave one image for the last batch: one of the two workers has none of it.
    small = ("--train-size", "97", "--epochs", "2", "--width", "0.05", "--set", "dropout=0")
    small = (*small, "--set", "input_dropout=0")
    small = (*small, "--protocol", "paper")
    chosen = ("--variants", "strided-cnn-a", "--learning-rates", "0.01", "--batch-size", "32")
    for name, workers in (("one", "1"), ("two", "2")):
        done = sweep("quickstart", *small, *chosen, "--workers-per-trial", workers, "--name", name)
        assert done.returncode == 0, done.stdout + done.stderr
    alone = sweep("quickstart", *small, *chosen, "--name", "in-process")
    assert alone.returncode == 0, alone.stderr
    curves = {name: Store(str(tmp_path / name)).read_epochs().to_pylist() for name in ("in-process", "one", "two")}
    for rows in curves.values():
        assert [(row["epoch"], row["train_images"], row["test_images"]) for row in rows] == [
            (1, 97, 2000),
            (2, 97, 2000),
        ]
    for name in ("one", "two"):
        for row, expected in zip(curves[name], curves["in-process"], strict=True):
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
            assert row["test_error"] == pytest.approx(expected["test_error"], abs=0.003)


PLUGIN = """
from torch import nn
from trainables.architectures import register_variant

@register_variant("linear-net")
def linear_net(options, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(nn.init.ones_(nn.Parameter(__import__("torch").empty(1)).data))

    def forward(self, images):
        raise OSError("this network cannot go forward")

@register_variant("broken-net")
def broken_net(options, num_classes):
    return Broken()

class Constant(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.bias = nn.Parameter(nn.init.zeros_(nn.Linear(1, num_classes).bias))

    def forward(self, images):
        return self.bias.expand(len(images), -1)

@register_variant("constant-net")
def constant_net(options, num_classes):
    return Constant(num_classes)
"""


def test_a_user_s_variants_run_and_their_failures_disturb_no_other(sweep: Sweep, tmp_path: Path) -> None:
    plugin = tmp_path / "my_variants.py"
    plugin.write_text(PLUGIN)
    done = sweep(
        *("quickstart", *TINY, "--plugins", str(plugin), "--learning-rates", "0.01", "--name", "own"),
        *("--variants", "broken-net", "linear-net", "constant-net"),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "| linear-net" in done.stdout
    rows = {row["variant"]: row for row in Store(str(tmp_path / "own")).read_trials().to_pylist()}
    assert rows["linear-net"]["state"] == "completed"
    assert rows["linear-net"]["num_parameters"] == 30730
    assert rows["broken-net"]["state"] == "failed"
    assert "this network cannot go forward" in rows["broken-net"]["reason"]
    assert rows["constant-net"]["state"] == "diverged"
    assert rows["constant-net"]["test_error"] == 1.0
    assert "same output for every image" in rows["constant-net"]["reason"]
    check_shown(tmp_path / "own")


def test_early_stopping_ends_the_worse_trials_of_a_cell_after_the_drop(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        *("quickstart", "--train-size", "60", "--epochs", "7", "--width", "0.05", "--early-stopping", "asha"),
        *("--protocol", "paper"),
        *(
            "--variants",
            "strided-cnn-a",
            "--learning-rates",
            "0.02",
            "0.01",
            "0.005",
            "0.0001",
            "--max-concurrent",
            "1",
        ),
        *("--name", "asha"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(str(tmp_path / "asha"))
    rows = store.read_trials().to_pylist()
    assert len(rows) == 4
    states = [row["state"] for row in rows]
    assert "completed" in states
    stopped = [row for row in rows if row["state"] == "stopped"]
    # The first drop of 7 epochs comes after epoch 4.
    assert stopped
    assert all(row["epochs_run"] >= 5 and row["reason"].startswith("early stopping") for row in stopped)
    check_shown(tmp_path / "asha")
    # Each stop has its decision, which names the epoch and the error that was too high.
    stops = {row["trial_id"]: row for row in store.read_decisions().to_pylist() if row["verdict"] == "stop"}
    assert stops.keys() == {row["trial_id"] for row in stopped}
    for row in stopped:
        decision = stops[row["trial_id"]]
        assert (decision["epoch"], decision["error"]) == (row["epochs_run"], row["val_error"] or row["test_error"])
        assert decision["error"] > decision["cutoff"]


def test_random_search_draws_as_many_rates_as_asked(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(
        *("quickstart", *TINY, "--variants", "strided-cnn-a", "--search", "random", "--trials-per-cell", "3"),
        *("--name", "random"),
    )
    assert done.returncode == 0, done.stderr
    rates = [row["lr"] for row in Store(str(tmp_path / "random")).read_trials().to_pylist()]
    assert len(set(rates)) == 3
    assert all(0.001 <= rate <= 0.25 for rate in rates)


def test_real_cifar10_stands_beside_the_paper(sweep: Sweep, real_data: str, tmp_path: Path) -> None:
    done = sweep(
        *("cifar10", "--data", real_data, "--train-size", "100", "--epochs", "1", "--width", "0.05", "--name", "real"),
        *("--variants", "all-cnn-c", "--learning-rates", "0.01", "--protocol", "paper"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    formats = {}
    for form in ("markdown", "latex", "csv", "html"):
        table = [sys.executable, "-m", "analysis", "table", str(tmp_path / "real"), "--format", form]
        formats[form] = subprocess.run(table, capture_output=True, text=True, check=True).stdout
    assert all("9.08" in text for text in formats.values())
    assert "Not comparable with the paper's numbers: learning_rates 0.01 (paper: " in formats["markdown"]
    assert "epochs 1 (paper: 350)" in formats["markdown"]
    epochs = Store(str(tmp_path / "real")).read_epochs().to_pylist()
    assert [(row["train_images"], row["test_images"]) for row in epochs] == [(100, 10_000)]
