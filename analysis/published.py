"""Published errors, each with its source and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

from search_spaces import Dimension, Scalar
from sweep.study.study import Study

PAPER = "Springenberg et al. 2015, arXiv 1412.6806v3"


Confidence = Literal["several sources", "one source", "memory"]
"""How a number came here: the paper's own text was not at hand, so that each was read in transcriptions of it and in
papers that cite it; `memory` is none of these and wants checking."""


@final
@dataclass(frozen=True)
class Published:
    """A published error and where it stands."""

    method: str
    """Who is compared, as the paper names it."""
    error_percent: float
    """On the test set; on ImageNet the top-1 error of the validation set."""
    dataset: str
    augmentation: str
    """`none`, `flip-shift`, `crop-flip`, or `heavy`: scaled, rotated and colour-shifted too, each method in its own
    way."""
    table: str
    """Where in the paper; empty where that is not known."""
    confidence: Confidence
    variant: str | None = None
    """Our name of the same network, where we have it."""
    parameters: str = ""
    """As the paper prints them; empty where it prints none."""

    @property
    def source(self) -> str:
        """Where the number stands, for a reader."""
        place = f"{PAPER}, {self.table}" if self.table else PAPER
        return place if self.confidence == "several sources" else f"{place} ({self.confidence} only)"


LARGE, UPSCALED = "large-all-cnn", "imagenet-all-cnn-b"
"""Our names of the two networks of the paper that have a recipe of their own."""

SEVERAL, ONE, MEMORY = get_args(Confidence)

PUBLISHED: tuple[Published, ...] = (
    Published("Model A", 12.47, "cifar10", "none", "Table 3", SEVERAL, "model-a", "~0.9 M"),
    Published("Strided-CNN-A", 13.46, "cifar10", "none", "Table 3", SEVERAL, "strided-cnn-a", "~0.9 M"),
    Published("ConvPool-CNN-A", 10.21, "cifar10", "none", "Table 3", SEVERAL, "convpool-cnn-a", "~1.28 M"),
    Published("ALL-CNN-A", 10.30, "cifar10", "none", "Table 3", SEVERAL, "all-cnn-a", "~1.28 M"),
    Published("Model B", 10.20, "cifar10", "none", "Table 3", SEVERAL, "model-b", "~1 M"),
    Published("Strided-CNN-B", 10.98, "cifar10", "none", "Table 3", SEVERAL, "strided-cnn-b", "~1 M"),
    Published("ConvPool-CNN-B", 9.33, "cifar10", "none", "Table 3", SEVERAL, "convpool-cnn-b", "~1.35 M"),
    Published("ALL-CNN-B", 9.10, "cifar10", "none", "Table 3", SEVERAL, "all-cnn-b", "~1.35 M"),
    Published("Model C", 9.74, "cifar10", "none", "Table 3", SEVERAL, "model-c", "~1.3 M"),
    Published("Strided-CNN-C", 10.19, "cifar10", "none", "Table 3", SEVERAL, "strided-cnn-c", "~1.3 M"),
    Published("ConvPool-CNN-C", 9.31, "cifar10", "none", "Table 3", SEVERAL, "convpool-cnn-c", "~1.4 M"),
    Published("ALL-CNN-C", 9.08, "cifar10", "none", "Table 3", SEVERAL, "all-cnn-c", "~1.4 M"),
    # Table 4 repeats ALL-CNN-C's 9.08 of Table 3, which stands above.
    Published("Maxout", 11.68, "cifar10", "none", "Table 4", SEVERAL),
    Published("Network in Network", 10.41, "cifar10", "none", "Table 4", SEVERAL),
    Published("Deeply Supervised", 9.69, "cifar10", "none", "Table 4", SEVERAL),
    Published("Maxout", 9.38, "cifar10", "flip-shift", "Table 4", SEVERAL),
    Published("DropConnect", 9.32, "cifar10", "flip-shift", "Table 4", ONE),
    Published("dasNet", 9.22, "cifar10", "flip-shift", "Table 4", ONE),
    Published("Network in Network", 8.81, "cifar10", "flip-shift", "Table 4", SEVERAL),
    Published("Deeply Supervised", 7.97, "cifar10", "flip-shift", "Table 4", SEVERAL),
    Published("ALL-CNN-C", 7.25, "cifar10", "flip-shift", "Table 4", SEVERAL, "all-cnn-c", "~1.4 M"),
    # Later work files these under augmented; the paper's section on CIFAR-100 names no augmentation of its own.
    Published("CNN + tree prior", 36.85, "cifar100", "none", "Table 4", MEMORY),
    Published("Network in Network", 35.68, "cifar100", "none", "Table 4", SEVERAL),
    Published("Deeply Supervised", 34.57, "cifar100", "none", "Table 4", SEVERAL),
    Published("Maxout", 34.54, "cifar100", "none", "Table 4", ONE),
    Published("dasNet", 33.78, "cifar100", "none", "Table 4", ONE),
    Published("ALL-CNN-C", 33.71, "cifar100", "none", "Table 4", SEVERAL, "all-cnn-c", "~1.4 M"),
    Published("Fractional max-pooling (1 test)", 31.45, "cifar100", "none", "Table 4", MEMORY),
    Published("Fractional max-pooling (12 tests)", 26.39, "cifar100", "none", "Table 4", ONE),
    Published("Fractional max-pooling (1 test)", 4.50, "cifar10", "heavy", "", ONE),
    Published("Spatially sparse CNN", 4.47, "cifar10", "heavy", "", MEMORY),
    Published("Large ALL-CNN", 4.41, "cifar10", "heavy", "", MEMORY, LARGE),
    Published("Fractional max-pooling (100 tests)", 3.47, "cifar10", "heavy", "", MEMORY),
    Published("Upscaled ALL-CNN-B", 41.2, "imagenet", "crop-flip", "", SEVERAL, UPSCALED),
    Published("Krizhevsky et al. 2012", 40.7, "imagenet", "crop-flip", "", SEVERAL),
)
"""Every number that the paper prints, its own and those that it compares with."""

PAPER_ERRORS: dict[tuple[str, str, str], Published] = {
    (entry.dataset, entry.augmentation, entry.variant): entry for entry in PUBLISHED if entry.variant is not None
}
"""The paper's own errors by data set, augmentation and variant: its sixteen networks, each as `settings_of` says."""

PAPER_SETTINGS: dict[str, Any] = {
    "learning_rates": {0.25, 0.1, 0.05, 0.01},
    "early_stopping": "none",
    "epochs": 350,
    "iterations": None,
    "drops": [200 / 350, 250 / 350, 300 / 350],
    "drop_factor": 0.1,
    "warmup_epochs": 0.0,
    "preprocessing": "gcn-zca",
    "momentum": 0.9,
    "weight_decay": 0.001,
    "max_grad_norm": None,
    "label_smoothing": 0.0,
    "width": 1.0,
    "input_dropout": 0.2,
    "dropout": 0.5,
    "class_relu": True,
    "head_padding": 0,
    "canvas": None,
    "training images": 50_000,
}
"""What the paper states of its recipe on CIFAR (its section 3), under the names that study.json has, all but the number
of images. The paper leaves batch size, initialisation, the form of momentum (`momentum_form`) and whether the learning
rate and the decay of biases differ (`bias_lr_factor`, `bias_weight_decay`) open: a run may set these as it likes."""

LARGE_SETTINGS: dict[str, Any] = {
    "canvas": 126,
    "width": 1.0,
    "input_dropout": 0.0,
    "dropout": 0.5,
    "training images": 50_000,
}
"""The same for the Large ALL-CNN: its layers, and the size of the images. How it was trained the paper does not say."""

IMAGENET_SETTINGS: dict[str, Any] = {
    "learning_rates": {0.01},
    "early_stopping": "none",
    "iterations": 450_000,
    "batch_size": 64,
    "drops": [200 / 450, 400 / 450],
    "drop_factor": 0.1,
    "warmup_epochs": 0.0,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "width": 1.0,
    "dropout": 0.5,
    "training images": 1_281_167,
}
"""The same for the network on ImageNet: one rate, and no word on preprocessing or a ReLU on the class layer."""


def published_error(dataset: str, augmentation: str, variant: str, protocol: str) -> Published | None:
    """Return the paper's error of a cell, or None where it printed none by this protocol."""
    return PAPER_ERRORS.get((dataset, augmentation, variant)) if protocol == "paper" else None


def settings_of(entry: Published) -> dict[str, Any]:
    """Return what the paper states of the recipe behind one of its own errors."""
    return {LARGE: LARGE_SETTINGS, UPSCALED: IMAGENET_SETTINGS}.get(entry.variant or "", PAPER_SETTINGS)


def differences(study: Study, variant: str, train_images: int, settings: Mapping[str, Any]) -> list[str]:
    """Return in words where a variant's recipe differs from the paper's: `epochs 4 (paper: 350)`.

    Args:
        study: the run's.
        variant: one of the study's.
        train_images: number of training images.
        settings: what the paper states of its recipe.
    """
    # A variant may search what no other does.
    ours = {name: _value(setting) for name, setting in {**study.settings(), **study.space_of(variant)}.items()}
    rates = ours["lr"]
    ours |= {"learning_rates": rates if isinstance(rates, set | str) else {rates}, "training images": train_images}
    pairs = [(name, ours[name], theirs) for name, theirs in settings.items()]
    return [f"{name} {_plain(mine)} (paper: {_plain(theirs)})" for name, mine, theirs in pairs if mine != theirs]


def _value(setting: Any) -> Any:
    """Return a setting's value, a set of those searched, or a range in words."""
    if isinstance(setting, tuple):
        return list(setting)
    if not isinstance(setting, Dimension):
        return setting
    listed = setting.listed()
    if listed is None:
        return str(setting)
    return set(listed) if len(listed) > 1 else listed[0]


def _rank(value: Scalar) -> tuple[bool, bool, Any]:
    """Return the place of a value among others: Python compares no text, number or None with each other."""
    return (value is not None, isinstance(value, str), value if isinstance(value, str) else value or 0)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, set | list):
        return "/".join(map(_plain, sorted(value, key=_rank, reverse=True) if isinstance(value, set) else value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
