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
@dataclass(frozen=True, kw_only=True)
class Published:
    """A published error and where it stands."""

    error_percent: float
    """On the test set; on ImageNet the top-1 error of the validation set."""
    method: str
    """Who is compared, as the paper names it."""
    dataset: str
    augmentation: str
    """`none`, `flip-shift`, `crop-flip`, or `heavy`: scaled, rotated and colour-shifted too, each method in its own
    way."""
    variant: str | None = None
    """Our name of the same network, where we have it."""
    parameters: str = ""
    """As the paper prints them; empty where it prints none."""
    table: str = ""
    """Where in the paper; empty where that is not known."""
    confidence: Confidence = "several sources"

    @property
    def source(self) -> str:
        """Where the number stands, for a reader."""
        place = f"{PAPER}, {self.table}" if self.table else PAPER
        return place if self.confidence == "several sources" else f"{place} ({self.confidence} only)"


def _table3() -> list[Published]:
    rows = {
        "a": [(12.47, "~0.9 M"), (13.46, "~0.9 M"), (10.21, "~1.28 M"), (10.30, "~1.28 M")],
        "b": [(10.20, "~1 M"), (10.98, "~1 M"), (9.33, "~1.35 M"), (9.10, "~1.35 M")],
        "c": [(9.74, "~1.3 M"), (10.19, "~1.3 M"), (9.31, "~1.4 M"), (9.08, "~1.4 M")],
    }
    networks = {"model": "Model", "strided-cnn": "Strided-CNN", "convpool-cnn": "ConvPool-CNN", "all-cnn": "ALL-CNN"}
    return [
        Published(
            error_percent=error,
            method=f"{method} {base.upper()}" if prefix == "model" else f"{method}-{base.upper()}",
            dataset="cifar10",
            augmentation="none",
            variant=f"{prefix}-{base}",
            parameters=parameters,
            table="Table 3",
        )
        for base, row in rows.items()
        for (prefix, method), (error, parameters) in zip(networks.items(), row, strict=True)
    ]


def _others(dataset: str, augmentation: str, table: str, *rows: tuple[str, float, Confidence]) -> list[Published]:
    return [
        Published(
            error_percent=error,
            method=method,
            dataset=dataset,
            augmentation=augmentation,
            table=table,
            confidence=confidence,
            variant=OURS.get(method),
            parameters="~1.4 M" if method == "ALL-CNN-C" else "",
        )
        for method, error, confidence in rows
    ]


OURS = {
    "ALL-CNN-C": "all-cnn-c",
    "Large ALL-CNN": "large-all-cnn",
    "Upscaled ALL-CNN-B": "imagenet-all-cnn-b",
}
"""Our names of the paper's networks outside its Table 3."""

SEVERAL, ONE, MEMORY = get_args(Confidence)

PUBLISHED: tuple[Published, ...] = (
    *_table3(),
    # Table 4 repeats ALL-CNN-C's 9.08 of Table 3, which stands above.
    *_others(
        *("cifar10", "none", "Table 4"),
        ("Maxout", 11.68, SEVERAL),
        ("Network in Network", 10.41, SEVERAL),
        ("Deeply Supervised", 9.69, SEVERAL),
    ),
    *_others(
        *("cifar10", "flip-shift", "Table 4"),
        ("Maxout", 9.38, SEVERAL),
        ("DropConnect", 9.32, ONE),
        ("dasNet", 9.22, ONE),
        ("Network in Network", 8.81, SEVERAL),
        ("Deeply Supervised", 7.97, SEVERAL),
        ("ALL-CNN-C", 7.25, SEVERAL),
    ),
    # Later work files these under augmented; the paper's section on CIFAR-100 names no augmentation of its own.
    *_others(
        *("cifar100", "none", "Table 4"),
        ("CNN + tree prior", 36.85, MEMORY),
        ("Network in Network", 35.68, SEVERAL),
        ("Deeply Supervised", 34.57, SEVERAL),
        ("Maxout", 34.54, ONE),
        ("dasNet", 33.78, ONE),
        ("ALL-CNN-C", 33.71, SEVERAL),
        ("Fractional max-pooling (1 test)", 31.45, MEMORY),
        ("Fractional max-pooling (12 tests)", 26.39, ONE),
    ),
    *_others(
        *("cifar10", "heavy", ""),
        ("Fractional max-pooling (1 test)", 4.50, ONE),
        ("Spatially sparse CNN", 4.47, MEMORY),
        ("Large ALL-CNN", 4.41, MEMORY),
        ("Fractional max-pooling (100 tests)", 3.47, MEMORY),
    ),
    *_others(
        *("imagenet", "crop-flip", ""),
        ("Upscaled ALL-CNN-B", 41.2, SEVERAL),
        ("Krizhevsky et al. 2012", 40.7, SEVERAL),
    ),
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
    other = {OURS["Large ALL-CNN"]: LARGE_SETTINGS, OURS["Upscaled ALL-CNN-B"]: IMAGENET_SETTINGS}
    return other.get(entry.variant or "", PAPER_SETTINGS)


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
