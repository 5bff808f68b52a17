"""The record's three tables: their columns, units and schema version.

A row is never lost and never doubled: `trial_id` names a row of `trials`, `trial_id` and `epoch` one of `epochs` and of
`decisions`.
Errors are fractions in [0, 1], times are seconds. A null says that there is no such number.
"""

from typing import Literal, get_args

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised whenever a column changes its name, type or meaning, or one is added; no other version is read."""

State = Literal["pending", "running", "completed", "stopped", "diverged", "failed"]
"""`stopped` is by early stopping; `pending` waits, or was interrupted and can be resumed."""

FINAL_STATES: frozenset[str] = frozenset({"completed", "stopped", "diverged", "failed"})
STATES: tuple[str, ...] = get_args(State)

_METADATA = {"schema_version": str(SCHEMA_VERSION)}

TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("phase", pa.string()),  # `search` selects hyperparameters, `confirm` retrains the selected ones
        ("dataset", pa.string()),
        ("augmentation", pa.string()),
        ("variant", pa.string()),
        ("lr", pa.float64()),
        ("weight_decay", pa.float64()),
        ("batch_size", pa.int64()),
        ("width", pa.float64()),
        ("seed", pa.int64()),
        ("num_parameters", pa.int64()),
        ("state", pa.string()),
        ("epochs_run", pa.int64()),
        ("epochs_budget", pa.int64()),
        ("val_error", pa.float64()),
        ("test_error", pa.float64()),
        ("test_top5_error", pa.float64()),
        ("dead_classes", pa.int64()),
        ("duration_s", pa.float64()),
        ("train_s", pa.float64()),
        ("images_per_s", pa.float64()),
        ("node", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("memory_format", pa.string()),
        ("compiled", pa.bool_()),
        ("reason", pa.string()),
        ("preemptions", pa.int64()),
        ("retries", pa.int64()),
        ("retry_reasons", pa.string()),
    ],
    metadata=_METADATA,
)
"""A row per trial. Its errors are those measured last, 1.0 for a diverged trial; `test_top5_error` is that of an
image's class among the five likeliest, null with five classes or fewer. `dead_classes` is the number of classes whose
logit was the same for every image then. `preemptions` is how often the trial lost its node, taken back or dead, and was
begun again; `retries` is how often it was for another reason, each told in `retry_reasons`, parted by semicolons."""

EPOCHS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("epoch", pa.int64()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("train_error", pa.float64()),
        ("val_error", pa.float64()),
        ("test_error", pa.float64()),
        ("test_top5_error", pa.float64()),
        ("averaged_error", pa.float64()),
        ("dead_classes", pa.int64()),
        ("train_images", pa.int64()),
        ("val_images", pa.int64()),
        ("test_images", pa.int64()),
        ("epoch_s", pa.float64()),
        ("train_s", pa.float64()),
    ],
    metadata=_METADATA,
)
"""A row per trial and epoch, as the loop's EpochReport; `*_images` are how many images the errors count, and
`averaged_error` is that of averaged weights, measured where early stopping goes by it."""

DECISIONS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("epoch", pa.int64()),
        ("error", pa.float64()),
        ("cut", pa.float64()),
        ("arrivals", pa.int64()),
        ("verdict", pa.string()),
    ],
    metadata=_METADATA,
)
"""A row per trial and epoch after which early stopping judged it, in the order of the judgements. `cut` is the highest
error that went on by its rank among the `arrivals` so far, null where there was none; `verdict` is `go on` or `stop`. A
trial that goes on above the cut was the last of its cell that could complete."""

TIME_COLUMNS: frozenset[str] = frozenset(
    {"duration_s", "train_s", "images_per_s", "epoch_s", "node", "preemptions", "retries", "retry_reasons"}
)
"""Columns that differ between two runs of the same study on the same kind of machine."""
