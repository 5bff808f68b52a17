"""The networks of a run and the images they are looked at with: the chosen trial of each cell, from its checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import nn

from analysis.results import Cell, cell_of
from analysis.run_data import read_evidence
from sweep.record.schema import TrialRow
from sweep.record.store import Store
from trainables.checkpoint import Checkpoint
from trainables.common.registry import load_plugins
from trainables.config import TrialConfig
from trainables.data import Dataset, StreamedDataset, hold_out, open_dataset, prepare
from trainables.data.augmentation import placed

_SAME_IN_BOTH = ("dataset", "augmentation", "variant", "lr", "seed")
"""What a trial's row and its checkpoint's configuration both say."""


@final
@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network of a cell's chosen trial, on the CPU and in evaluation mode."""

    label: str
    """The variant's name; data set and augmentation before it where the run has several."""
    error: float
    """The record's on the images that the trial was measured with, a fraction in [0, 1]."""
    config: TrialConfig
    num_classes: int
    network: nn.Module
    checksum: str | None
    """Of the data set that the run recorded."""


@final
@dataclass(frozen=True, kw_only=True)
class Images:
    """Test images, the first ones of their data set."""

    pixels: np.ndarray[Any, Any]
    """uint8 `(N, 3, H, W)`, as they were before normalisation."""
    normalised: torch.Tensor
    """float32 `(N, 3, H, W)`, what the network takes."""
    labels: torch.Tensor
    """int64 `(N,)`."""
    class_names: tuple[str, ...]

    def class_name(self, label: int) -> str:
        """Return what a class is called, its number where no name is known."""
        return self.class_names[label] if label < len(self.class_names) else str(label)


def load_subjects(store: Store, variants: Sequence[str] = ()) -> list[Subject]:
    """Return the chosen network of each cell in the study's order, all variants if none is named.

    The trial is the table's selected one, and of its seeds the first; where a second phase has trained it on all
    images, its first seed there.
    A cell without a completed trial is left out unless its variant was asked for.

    Raises:
        ValueError: there is no run, no such variant, no completed trial, or no checkpoint that fits the record.
    """
    document = store.read_run()
    known = document.study.variants
    unknown = [name for name in variants if name not in known]
    if unknown:
        raise ValueError(f"variant must be one of the run's, {', '.join(known)}, got {unknown[0]!r}.")
    chosen = _chosen_trials(store)
    without = [name for name in variants if not any(cell[2] == name for cell in chosen)]
    if without or not chosen:
        of = f" of {without[0]}" if without else ""
        raise ValueError(
            f"The run must have a completed trial{of}, got none in {store.location}; wait until one has ended."
        )
    are_alike = len({cell[:2] for cell in chosen}) == 1
    return [
        _load(store, trial, cell[2] if are_alike else "/".join(cell), document.data[cell[0]].checksum)
        for cell, trial in chosen.items()
        if not variants or cell[2] in variants
    ]


def check_counts(**counts: int | None) -> None:
    """Refuse a number of something that is below 1, by its name.

    Raises:
        ValueError: one is.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}.")


def load_images(subject: Subject, data: str | None, count: int) -> Images:
    """Return the first `count` test images, or all where there are fewer, as the trial's network was given them.

    Args:
        subject: whose data set.
        data: folder or URI in place of the one that the trial read.
        count: at least 1.

    Raises:
        ValueError: `count` is below 1, the data cannot be had, or is not what the run was trained on.
    """
    check_counts(images=count)
    config = subject.config
    dataset = open_dataset(config.dataset, data or config.data, config.train_size)
    if isinstance(dataset, StreamedDataset):
        raise ValueError(
            f"The data set must be one that fits into memory, got {config.dataset}, which is streamed; "
            "features with --without-image needs no images."
        )
    if dataset.num_classes != subject.num_classes or subject.checksum not in (None, dataset.checksum):
        raise ValueError(
            f"The data set {config.dataset} must be the one that the run was trained on, got one of another checksum; "
            "name its place with --data."
        )
    # A network of a search is shown the images that were held out of its training.
    dataset = hold_out(dataset, config.held_out)
    assert isinstance(dataset, Dataset), "as it was before"
    prepared = prepare(dataset, config.preprocessing)
    return Images(
        pixels=placed(torch.from_numpy(dataset.test.images[:count]), config.canvas).numpy(),
        normalised=placed(prepared.test_images[:count], config.canvas),
        labels=prepared.test_labels[:count],
        class_names=dataset.class_names,
    )


def _chosen_trials(store: Store) -> dict[Cell, TrialRow]:
    evidence = read_evidence(store)
    by_id = {trial["trial_id"]: trial for trial in evidence.trials}
    chosen: dict[Cell, TrialRow] = {}
    for result in evidence.results:
        if result.chosen:
            best = by_id[result.chosen[0]]
            confirmed = [trial for trial in evidence.trials if _confirms(trial, best)]
            chosen[result.cell] = min(confirmed, key=lambda trial: trial["seed"], default=best)
    return chosen


def _confirms(trial: TrialRow, best: TrialRow) -> bool:
    """Whether a trial has trained the chosen trial's configuration on all images."""
    same = cell_of(trial) == cell_of(best) and trial["params"] == best["params"]
    return same and trial["phase"] == "confirm" and trial["state"] == "completed"


def _load(store: Store, trial: TrialRow, label: str, checksum: str | None) -> Subject:
    location = store.checkpoint(trial["trial_id"])
    checkpoint = Checkpoint.load(location)
    recorded: Mapping[str, object] = dict(trial)
    for name in _SAME_IN_BOTH:
        held = getattr(checkpoint.config, name)
        if held != recorded[name]:
            raise ValueError(
                f"{location} must be of {name} {recorded[name]}, as the record says of its trial, got {held}."
            )
    error = trial["val_error"] if trial["test_error"] is None else trial["test_error"]
    assert error is not None, "a choice falls on trials with an error"
    load_plugins(checkpoint.config.plugins)
    return Subject(
        label=label,
        error=error,
        config=checkpoint.config,
        num_classes=checkpoint.num_classes,
        network=checkpoint.network(),
        checksum=checksum,
    )
