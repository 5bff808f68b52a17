"""A study of one's own from `sweep.init`: cut off with Ctrl-C, gone on with without being named again."""

from pathlib import Path

import torch

from sweep.cli.init import main as init
from sweep.record.store import Store
from tests.e2e.conftest import Sweep
from tests.e2e.test_interrupt import go_on, interrupted, run
from trainables.architectures import build
from trainables.checkpoint import Checkpoint
from trainables.loop import stream_seed

RECIPES = """
from dataclasses import replace

from search_spaces import Choice, Space
from sweep.study.catalog import STUDIES
from trainables.recipe import Recipe

shipped = STUDIES["quickstart"]()
_base = replace(shipped.base, train_size=100, epochs=2, weight_decay=0.0, evaluate_every=2)
_base = replace(_base, architecture=replace(_base.architecture, width=0.05))
study = replace(
    shipped,
    name="two-recipes",
    protocol="paper",
    variants=("strided-cnn-a.plain", "strided-cnn-a.clipped"),
    space=Space(lr=Choice((0.01,))),
    recipes=(
        Recipe(name="plain", settings={"warmup_epochs": 0.0}),
        Recipe(name="clipped", settings={"max_grad_norm": 0.001, "warmup_epochs": 0.0}),
    ),
    base=_base,
)
del shipped
"""


def test_a_study_of_ones_own_runs_is_cut_off_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "my_study.py"
    assert init([str(file)]) == 0
    study = (f"{file}:study", "--train-size", "1000", "--epochs", "2", "--variants", "my-net", "--max-concurrent", "1")
    rest, _ = interrupted(tmp_path, (*study, "--seeds", "2"), "[1/4]", "own")
    done = run(go_on(rest))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| my-net" in done.stdout
    store = Store(str(tmp_path / "own"))
    rows = store.read_trials().to_pylist()
    assert [row["state"] for row in rows] == ["completed"] * 4
    assert {(row["dataset"], row["variant"]) for row in rows} == {("my-stripes", "my-net")}
    assert store.read_run().study.base.plugins == (str(file),)


def distance(checkpoint: Checkpoint) -> float:
    """Return how far a trial has moved its network's weights."""
    config = checkpoint.config
    torch.manual_seed(stream_seed(config.seed, "weights"))
    first = build(config.variant, config.architecture, checkpoint.num_classes).state_dict()
    return torch.cat([(checkpoint.weights[name] - first[name]).flatten() for name in first]).norm().item()


def test_two_recipes_are_two_rows_of_which_one_is_trained_with_clipping(tmp_path: Path, sweep: Sweep) -> None:
    file = tmp_path / "two_recipes.py"
    file.write_text(RECIPES)
    done = sweep(str(file), "--name", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| strided-cnn-a")]
    assert table == ["strided-cnn-a.plain", "strided-cnn-a.clipped"]
    assert "recipe clipped  max grad norm 0.001, warmup epochs 0" in done.stdout
    store = Store(str(tmp_path / "mine"))
    rows = {row["variant"]: row for row in store.read_trials().to_pylist()}
    assert {row["state"] for row in rows.values()} == {"completed"}
    checkpoints = {name: Checkpoint.load(store.checkpoint(row["trial_id"])) for name, row in rows.items()}
    assert [checkpoints[name].config.max_grad_norm for name in table] == [None, 0.001]
    # Of two epochs the second is measured.
    assert [row["test_error"] is None for row in store.read_epochs().to_pylist()] == [True, False] * 2
    plain, clipped = (distance(checkpoints[name]) for name in table)
    # Eight steps at the rate 0.01 along velocities of gradients no longer than 0.001, by momentum 0.9.
    assert clipped <= 8 * 0.01 * 0.001 / (1 - 0.9)
    assert plain > 10 * clipped
