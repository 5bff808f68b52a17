"""A run on disk with small networks, for the analysis that looks into networks."""

from dataclasses import replace
from typing import Any

import torch

from sweep.record.schema import EPOCHS
from sweep.record.store import Store
from sweep.study.catalog import quickstart
from tests import reported
from tests.standings import data, run_document
from tests.trained import checkpoint
from trainables.architectures import build
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import open_dataset

VARIANTS = ("model-c", "all-cnn-c")
TRAIN_SIZE = 60


def config(variant: str, **values: Any) -> TrialConfig:
    return TrialConfig(
        **{"dataset": "shapes", "lr": 0.01, "train_size": TRAIN_SIZE, "preprocessing": "standardise"}
        | {"variant": variant, "architecture": ArchitectureConfig(width=0.1)}
        | values
    )


def row(trial_id: str, trial: TrialConfig, **values: Any) -> Any:
    own = {name: getattr(trial, name) for name in ("dataset", "augmentation", "variant", "lr", "seed")}
    ended = {"trial_id": trial_id, "epochs_run": 5, "epochs_budget": 5, "test_error": 0.25}
    return reported.trial(0, **own | ended | values)


def write_rows(store: Store, rows: list[Any]) -> None:
    """Write rows of trials, and of every epoch that they count."""
    store.append_epochs(
        [
            dict.fromkeys(EPOCHS.names) | {"trial_id": trial["trial_id"], "epoch": number}
            for trial in rows
            for number in range(1, trial["epochs_run"] + 1)
        ]
    )
    store.write_trials(rows)


def save(store: Store, trial_id: str, trial: TrialConfig, build_as: str | None = None) -> None:
    torch.manual_seed(1)
    model = build(build_as or trial.variant, trial.architecture, 10)
    checkpoint(model, trial, 5).save(store.checkpoint(trial_id))


def make_run(location: str) -> Store:
    """Write a run of two variants, one completed trial of each, and return its store."""
    store = Store(location)
    images = open_dataset("shapes", None, TRAIN_SIZE)
    shapes = data(checksum=images.checksum, train_images=TRAIN_SIZE, test_images=2000, generated=True)
    study = replace(quickstart(), variants=VARIANTS, protocol="paper")
    store.write_run(run_document(study, {"shapes": shapes}, planned_trials=2))
    for variant in VARIANTS:
        save(store, f"t-{variant}", config(variant))
    write_rows(store, [row(f"t-{variant}", config(variant)) for variant in VARIANTS])
    return store
