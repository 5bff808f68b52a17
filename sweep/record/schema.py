"""The record's three tables as types of rows, from which their Arrow schemas follow.

A row is never lost and never doubled: `trial_id` names a row of `trials`, `trial_id` and `epoch` one of `epochs` and of
`decisions`.
Errors are fractions in [0, 1], times are seconds. A null says that there is no such number.
"""

import types
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised whenever a column changes its name, type or meaning, or one is added; no other version is read."""

State = Literal["pending", "running", "completed", "stopped", "diverged", "failed"]
"""`stopped` is by early stopping; `pending` waits, or was interrupted and can be resumed."""

FINAL_STATES: frozenset[State] = frozenset({"completed", "stopped", "diverged", "failed"})
STATES: tuple[State, ...] = get_args(State)

Phase = Literal["search", "confirm"]
"""`search` selects hyperparameters; `confirm` retrains the selected ones. The `paper` protocol has no second phase."""

Fault = Literal["node lost", "out of memory", "process died", "shared GPU", "code"]
"""Why an attempt at a trial failed. A lost node says nothing about the trial, which is retried elsewhere, without end.
Lack of memory, the death of a process, which mostly comes of it, and an error of a GPU that is shared by MPS may be the
neighbours' doing: the trial is retried once in isolation. An exception of the trial's own code would come again."""

Verdict = Literal["continue", "stop"]
ErrorColumn = Literal["val_error", "test_error"]


class TrialRow(TypedDict):
    """A trial. Its errors are those measured last, 1.0 for a diverged trial."""

    trial_id: str
    phase: Phase
    dataset: str
    augmentation: str
    variant: str
    params: str
    """Values of what the trial's cell searches, by name, as `sweep.record.params` writes them: its configuration. The
    file has a column for each of them besides."""
    lr: float
    """The initial learning rate, searched or not."""
    seed: int
    num_parameters: int | None
    state: State
    epochs_run: int
    epochs_budget: int
    val_error: float | None
    test_error: float | None
    test_top5_error: float | None
    """Of an image's class among the five likeliest; null with five classes or fewer."""
    dead_classes: int | None
    """Classes whose logit was the same for every image at the last evaluation."""
    duration_s: float | None
    train_s: float
    images_per_s: float | None
    node: str | None
    device: str | None
    precision: str | None
    memory_format: str | None
    compiled: bool | None
    reason: str | None
    fault: Fault | None
    """Why the last failed attempt failed."""
    isolated: bool
    """Whether the trial runs on devices that it shares with no other, since it may have failed for its neighbours."""
    preemptions: int
    """How often the trial lost its node, taken back or dead, and was restarted."""
    retries: int
    """How often it was restarted for another reason, each told in `retry_reasons`, parted by semicolons."""
    retry_reasons: str


class EpochRow(TypedDict):
    """An epoch of a trial, as the loop's EpochReport has it; `*_images` are how many images the errors count."""

    trial_id: str
    epoch: int
    lr: float
    train_loss: float
    train_error: float
    val_error: float | None
    test_error: float | None
    test_top5_error: float | None
    averaged_error: float | None
    """That of averaged weights, measured where early stopping goes by it."""
    dead_classes: int | None
    train_images: int
    val_images: int
    test_images: int
    epoch_s: float
    train_s: float


class DecisionRow(TypedDict):
    """What early stopping decided about a trial after an epoch, in the order of the decisions."""

    trial_id: str
    epoch: int
    error: float
    cutoff: float | None
    """The highest error that continued by its rank among the `num_results` so far; null where there was none. A trial
    that continues above it was the last of its cell that could complete."""
    num_results: int
    verdict: Verdict


_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _schema(row: type) -> pa.Schema:
    hints = get_type_hints(row)
    return pa.schema(
        [(name, _ARROW[_bare(kind)]) for name, kind in hints.items()], metadata={"schema_version": str(SCHEMA_VERSION)}
    )


def _bare(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return str
    if get_origin(kind) is types.UnionType or type(None) in get_args(kind):
        return next(_bare(each) for each in get_args(kind) if each is not types.NoneType)
    return kind


TRIALS = _schema(TrialRow)
EPOCHS = _schema(EpochRow)
DECISIONS = _schema(DecisionRow)


def cell_of(row: TrialRow) -> str:
    """Return data set, augmentation and variant of a trial, as `TrialConfig.cell` does."""
    return f"{row['dataset']}/{row['augmentation']}/{row['variant']}"


def reopened(rows: Mapping[str, TrialRow], epochs: int | None) -> dict[str, TrialRow]:
    """Return rows of `trials` with those as pending that were completed with fewer epochs than the study has now.

    They resume from their checkpoints. Trials that were stopped, diverged or failed stay what they are.

    Args:
        rows: by trial_id.
        epochs: the study's; None where each trial has a number of its own.
    """
    found = {trial_id: row.copy() for trial_id, row in rows.items()}
    for row in found.values():
        if epochs is not None and row["state"] == "completed" and row["epochs_budget"] < epochs:
            row["reason"] = f"goes on from epoch {row['epochs_run']} of {row['epochs_budget']} to {epochs}"
            row["state"], row["epochs_budget"] = "pending", epochs
    return found


def retried(row: TrialRow, reason: str) -> TrialRow:
    """Return the row of a trial that is restarted for this reason."""
    reasons = "; ".join(filter(None, [row["retry_reasons"], reason]))
    return row | {"state": "pending", "reason": reason, "retries": row["retries"] + 1, "retry_reasons": reasons}
