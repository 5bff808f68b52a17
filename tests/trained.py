"""Checkpoints for tests: a network with a training state that says nothing of how it was trained."""

from typing import Any

import torch
from torch import nn

from trainables.checkpoint import Checkpoint
from trainables.config import TrialConfig
from trainables.epoch_report import EpochReport
from trainables.state import TrainingState


def report(epoch: int, **values: Any) -> EpochReport:
    """Return what one epoch did, on 10 training and 10 test images."""
    given: dict[str, Any] = {
        **{"lr": 0.01, "train_loss": 2.0, "train_error": 0.9, "val_error": None, "test_error": 0.8},
        **{"test_top5_error": 0.5, "averaged_error": None, "error": 0.8},
        **{"train_images": 10, "val_images": 0, "test_images": 10, "epoch_s": 1.5, "train_s": 1.0},
        **{"state": "running", "num_parameters": 30, "precision": "float32", "memory_format": "contiguous"},
        **{"compiled": False, "device": "cpu", "node": "here"},
    }
    return EpochReport(epoch=epoch, **given | values)


def training(*reports: EpochReport, **values: Any) -> TrainingState:
    """Return the state of a trial with these reports, before its optimiser's first step."""
    given: dict[str, Any] = {
        **{"unlearned_steps": 0, "optimiser": {"state": {}, "param_groups": []}, "feed": {}},
        **{"generators": [{"cpu": torch.get_rng_state()}], "average": None},
    }
    return TrainingState(reports=reports, **given | values)


def checkpoint(model: nn.Module, config: TrialConfig, epoch: int) -> Checkpoint:
    """Return a checkpoint of a network of ten classes after an epoch."""
    return Checkpoint.of(model, config, 10, epoch, training(*map(report, range(1, epoch + 1))))
