"""The study `recipe` at a size for two CPU cores: half width, 300 steps of 128 images at a constant learning rate.

    python -m sweep.run docs/reproduction/recipe_on_cpu.py --data DATA --name recipe-on-cpu

It tells which networks leave chance, not how good they become. The recipes that cannot be told in 300 steps are left
out: `he-warmup`, which is still warming up, and `xavier-256`, whose initialisation `caffe` has.
"""

from dataclasses import replace

from search_spaces import Choice, Space
from sweep.study.catalog import SCREENED, recipe
from sweep.study.study import Study

TOLD = ("glorot", "glorot-linear", "caffe", "normal", "he", "he-clip")


def study() -> Study:
    """Six recipes, four networks, two learning rates: 48 trials of three reports, 100 steps each."""
    whole = recipe()
    return replace(
        whole,
        name="recipe-on-cpu",
        variants=tuple(f"{network}.{name}" for name in TOLD for network in SCREENED),
        space=Space(lr=Choice((0.05, 0.01))),
        base=replace(
            whole.base,
            epochs=3,
            drops=(),
            train_size=14_222,  # of which a tenth is held out
            architecture=replace(whole.base.architecture, width=0.5),
        ),
    )
