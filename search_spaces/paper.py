"""The values that the paper's studies search.

Source: Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity: The All Convolutional Net",
ICLR 2015 workshop, arXiv 1412.6806v3, section 3.
"""

from search_spaces.dimensions import Choice, LogUniform

LEARNING_RATES = Choice((0.25, 0.1, 0.05, 0.01))
"""The paper's gamma, searched for each model; which one won is not disclosed."""

LARGE_LEARNING_RATES = Choice((0.05, 0.02, 0.01))
"""For the Large ALL-CNN, of which the paper does not say how it was trained: this project's choice."""

LEARNING_RATE_RANGE = LogUniform(0.001, 0.25)
"""Where TPE and random search look when the study names no range: the paper's grid and a decade below it."""

BASES = ("a", "b", "c")
"""The paper's three base networks."""

VARIANTS = tuple(
    name
    for base in BASES
    for name in (f"model-{base}", f"strided-cnn-{base}", f"convpool-cnn-{base}", f"all-cnn-{base}")
)
"""The twelve networks of the paper's Table 3, in its order: each base, then its three derivations."""

POOLING_VARIANTS = tuple(
    f"{network}-c{norm}" for network in ("model", "convpool-cnn") for norm in ("-p1", "-p2", "-p3", "-plearned", "")
)
"""The two networks of base C that pool, by a p-norm with p = 1, 2, 3 and learned, and by the maximum, p -> infinity."""
