"""A study of my own: a network, a data set, a search space and a study in one file.

    python -m sweep.run my_study.py --dry-run       # the plan, and whether all is as it must be
    python -m sweep.run my_study.py --name first    # the run: about a minute on two cores as this file stands
    python -m analysis table runs/first             # its table, again

It runs as it stands, on images made by a program. Change the four parts below, one at a time. Whatever an option of
`python -m sweep.run --help` can set may be set there too, for one run. On a cluster this file travels to all nodes by
itself; keep all that it needs in it.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from search_spaces import Choice, Space
from sweep.study.study import Study
from trainables.architectures import register_variant
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data.custom import Arrays, register_arrays

# 1. The network. Its name is lower-case letters, digits and hyphens. It takes images (N, 3, 32, 32) and gives one
#    logit for each class, (N, num_classes). Register as many as you like. Each field of its options is a
#    hyperparameter: `--set options.channels=32` sets it, `--vary options.channels=8,16,32` searches it.


@dataclass
class MyOptions:
    """What may differ between two networks `my-net`."""

    channels: int = 16
    dropout: float = 0.1


@register_variant("my-net", options=MyOptions)
def my_net(options: MyOptions, num_classes: int) -> nn.Module:
    """Two convolutions and a mean over the map."""
    channels = options.channels
    return nn.Sequential(
        nn.Conv2d(3, channels, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Conv2d(channels, 2 * channels, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, num_classes),
    )


# 2. The data: uint8 images (N, 3, 32, 32) and labels (N,) from 0 on, first to train on, then to test on. Here four
#    classes of stripes under noise. From files: np.load("photos.npz"), or Parquet files as Hugging Face writes them:
#
#        from trainables.data.custom import register_parquet
#        register_parquet("my-photos", num_classes=2)        # then: --data FOLDER with train-*.parquet, test-*.parquet
#
#    CIFAR-10 itself is the data set "cifar10", with --data FOLDER.


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images of stripes in one of four directions, and which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    angle = (labels * np.pi / 4)[:, None, None]
    y, x = np.mgrid[0:32, 0:32]
    waves = np.sin(0.7 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6.28, (count, 1, 1)))
    noisy = 128 + 40 * waves[:, None] + rng.normal(0, 60, (count, 3, 32, 32))
    drawn_anew = rng.random(count) < 0.1  # wrong labels, without which no error would be left
    labels[drawn_anew] = rng.integers(0, 4, drawn_anew.sum())
    return noisy.clip(0, 255).astype(np.uint8), labels


@register_arrays("my-stripes", num_classes=4)
def my_stripes() -> Arrays:
    """Return 1,000 images to train on and 400 to test on."""
    return stripes(1_000, seed=1), stripes(400, seed=2)


# 3. The search space: what each network tries, each with its own best. Any setting of training, of the paper's networks
#    and any field of MyOptions can be searched by its name. For a range use LogUniform(0.001, 0.1), Uniform or
#    IntUniform from search_spaces, with search="tpe" and trials_per_cell=8 in the study.

SPACE = Space(lr=Choice((0.05, 0.01)))

# 4. The study. Any of the networks that are there already may stand beside yours, such as all-cnn-c.

study = Study(
    name="my-study",
    datasets=("my-stripes",),
    variants=("my-net", "model-c"),
    space=SPACE,
    # spaces={"my-net": Space({"options.channels": Choice((8, 16))})},  # what one network searches besides
    # search="grid",
    # protocol="holdout",        # choose on held-out images, then train the choice again with fresh seeds
    # seeds=3,                   # so many of them
    base=TrialConfig(
        # What all trials share. The first three are placeholders: the lines above say what is tried.
        dataset="my-stripes",
        variant="my-net",
        lr=0.01,
        epochs=4,
        batch_size=16,
        warmup_epochs=1.0,
        preprocessing="standardise",
        architecture=ArchitectureConfig(width=0.25, input_dropout=0.0, dropout=0.1, class_relu=False),
    ),
)
