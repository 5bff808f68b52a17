"""Runs for tests of what is shown: study.json and rows as a run would have them."""

from typing import Any

from sweep.record.progress import Scope
from sweep.record.schema import TRIALS
from sweep.study.study import STUDIES

TWELVE = [f"{name}-{letter}" for letter in "abc" for name in ("model", "strided-cnn", "convpool-cnn", "all-cnn")]
RATES = (0.25, 0.1, 0.05, 0.01)
EXECUTION: dict[str, Any] = {
    "created": "2026-01-02T03:04:05+00:00",
    "command": ["python", "-m", "sweep.run"],
    "code": {"commit": None, "altered": None},
    "packages": {},
    "hardware": {"cpus": 2, "gpus": 0, "gpu": None, "machine": "x86_64", "system": "linux"},
    "placement": {"workers_per_trial": None, "gpus_per_trial": None, "max_concurrent": None},
    "workers": 0,
    "plugins": [],
}
"""What study.json says of how a run was begun."""


def document(**changes: Any) -> dict[str, Any]:
    """Return study.json of a run under holdout, as far as its progress needs it."""
    study = {
        "name": "cifar10",
        "datasets": ["cifar10"],
        "augmentations": ["none"],
        "variants": ["model-a", "all-cnn-a"],
        "protocol": "holdout",
        "search": "grid",
        "learning_rates": {"values": list(RATES)},
        "base": {"epochs": 10},
        "early_stopping": "none",
        "seeds": None,
        "trials_per_cell": None,
        "weight_decays": None,
        "batch_sizes": None,
        **changes,
    }
    cells = len(study["variants"]) * len(study["datasets"]) * len(study["augmentations"])
    per_cell = len(RATES) * (study["seeds"] or 1) if study["search"] == "grid" else study["trials_per_cell"]
    confirm = 3 if study["protocol"] == "holdout" else 0
    return {
        "study": study,
        "planned_trials": cells * (per_cell + confirm),
        "data": {},
        "created": "2026-01-02T03:04:05+00:00",
    }


def whole_document() -> dict[str, Any]:
    """Return study.json of a run of the quickstart, as far as a table needs it."""
    data = {"checksum": "0", "train_images": 50, "test_images": 10, "num_classes": 10, "generated": True}
    return {
        "study": STUDIES["quickstart"]().to_dict(),
        "data": {"shapes": data},
        "planned_trials": 20,
        **EXECUTION,
    }


def scope(**changes: Any) -> Scope:
    return Scope.from_document(document(**changes), "table3")


def row(variant: str, lr: float, state: str, *, number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a row of `trials`; by default of the search, 10 epochs of 2 s each where it was completed."""
    epochs = changes.pop("epochs_run", {"completed": 10, "running": 4, "pending": 0}.get(state, 3))
    phase = changes.get("phase", "search")
    return (
        dict.fromkeys(TRIALS.names)
        | {
            "trial_id": f"cifar10_none_{variant}_{'confirm_0_' if phase == 'confirm' else ''}{number:04d}_{lr:g}",
            "phase": phase,
            "dataset": "cifar10",
            "augmentation": "none",
            "variant": variant,
            "lr": lr,
            "weight_decay": 0.001,
            "batch_size": 128,
            "width": 1.0,
            "seed": 0,
            "state": state,
            "epochs_run": epochs,
            "epochs_budget": 10,
            "duration_s": 2.0 * epochs,
            "train_s": 1.5 * epochs,
            "reason": "",
        }
        | changes
    )
