"""Recipes for the paper's networks.

The paper gives the optimiser, the schedule, the dropout and the weight decay, but neither the initialisation nor the
batch size, and these decide which of its twelve networks train at all. docs/reproduction/README.md has the sources.
"""

from trainables.recipe import Recipe

RECIPES = (
    Recipe(name="he", settings={"initialisation": "he"}),
    Recipe(name="he-clip", settings={"initialisation": "he", "class_relu": False, "max_grad_norm": 1.0}),
    Recipe(name="he-warmup", settings={"initialisation": "he", "class_relu": False, "warmup_epochs": 5.0}),
    Recipe(name="glorot", settings={"initialisation": "glorot"}),
    Recipe(name="glorot-linear", settings={"initialisation": "glorot", "class_relu": False}),
    Recipe(name="normal", settings={"initialisation": "normal", "initialisation_std": 0.05}),
    Recipe(
        name="caffe",
        settings={
            "initialisation": "xavier-caffe",
            "momentum_form": "caffe",
            "bias_lr_factor": 2.0,
            "bias_weight_decay": False,
        },
    ),
    Recipe(name="xavier-256", settings={"initialisation": "xavier-caffe", "momentum_form": "caffe", "batch_size": 256}),
)
"""Settings that are not named are those of the study: batches of 128, ReLU on the class layer, no clipping."""

SCREENED = ("all-cnn-c", "model-c", "convpool-cnn-c", "strided-cnn-c")
"""The paper's networks of base C."""
