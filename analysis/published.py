"""Published errors, each with its source. In percent, on the test set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

PAPER = "Springenberg et al. 2015, arXiv 1412.6806v3"


@final
@dataclass(frozen=True, kw_only=True)
class Published:
    """A published error and where it stands."""

    error_percent: float
    source: str


def _table3() -> dict[tuple[str, str, str], Published]:
    errors = {
        "a": (12.47, 13.46, 10.21, 10.30),
        "b": (10.20, 10.98, 9.33, 9.10),
        "c": (9.74, 10.19, 9.31, 9.08),
    }
    prefixes = ("model", "strided-cnn", "convpool-cnn", "all-cnn")
    return {
        ("cifar10", "none", f"{prefix}-{base}"): Published(error_percent=error, source=f"{PAPER}, Table 3")
        for base, row in errors.items()
        for prefix, error in zip(prefixes, row, strict=True)
    }


PAPER_ERRORS: dict[tuple[str, str, str], Published] = _table3() | {
    ("cifar10", "flip-shift", "all-cnn-c"): Published(error_percent=7.25, source=f"{PAPER}, Table 4"),
    # Later work files this one under augmented; the paper's section on CIFAR-100 names no augmentation of its own.
    ("cifar100", "none", "all-cnn-c"): Published(error_percent=33.71, source=f"{PAPER}, Table 4"),
}
"""The paper's own errors by data set, augmentation and variant. All by its protocol: 350 epochs, all training images,
full width, the best of four learning rates."""

PAPER_TRAIN_IMAGES = 50_000
"""Training images of CIFAR-10 and CIFAR-100, all of which the paper trained on."""

PAPER_SETTINGS: dict[str, Any] = {
    "learning_rates": {0.25, 0.1, 0.05, 0.01},
    "early_stopping": "none",
    "epochs": 350,
    "drops": [200 / 350, 250 / 350, 300 / 350],
    "drop_factor": 0.1,
    "warmup_epochs": 0.0,
    "preprocessing": "gcn-zca",
    "momentum": 0.9,
    "weight_decay": 0.001,
    "width": 1.0,
    "input_dropout": 0.2,
    "dropout": 0.5,
    "class_relu": True,
    "head_padding": 0,
}
"""What the paper states of its recipe (its section 3), under the names that study.json has. What it leaves open, batch
size and initialisation among it, cannot differ from it."""


def published_error(dataset: str, augmentation: str, variant: str, protocol: str) -> Published | None:
    """Return the paper's error of a cell, or None where it printed none by this protocol."""
    return PAPER_ERRORS.get((dataset, augmentation, variant)) if protocol == "paper" else None


def differences(study: Mapping[str, Any], train_images: int) -> list[str]:
    """Return in words where a run's recipe differs from the paper's: `epochs 4 (paper: 350)`.

    Args:
        study: what study.json holds under `study`.
        train_images: number of training images.
    """
    rates = study["learning_rates"]
    ours = {
        **study,
        **study["base"],
        **study["base"]["architecture"],
        "learning_rates": set(rates["values"])
        if rates["kind"] == "choice"
        else f"{rates['low']:g} to {rates['high']:g}",
    }
    pairs = [(name, ours[name], theirs) for name, theirs in PAPER_SETTINGS.items()]
    pairs.append(("training images", train_images, PAPER_TRAIN_IMAGES))
    return [f"{name} {_plain(mine)} (paper: {_plain(theirs)})" for name, mine, theirs in pairs if mine != theirs]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, set | list):
        return "/".join(_plain(item) for item in (sorted(value, reverse=True) if isinstance(value, set) else value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
