"""Published errors, each with its source. In percent, on the test set."""

from dataclasses import dataclass
from typing import final

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

PAPER_EPOCHS, PAPER_WIDTH = 350, 1.0
PAPER_TRAIN_IMAGES = 50_000


def published_error(dataset: str, augmentation: str, variant: str, protocol: str) -> Published | None:
    """Return the paper's error of a cell, or None where it printed none by this protocol."""
    return PAPER_ERRORS.get((dataset, augmentation, variant)) if protocol == "paper" else None
