"""Unfinished trials without a checkpoint, as in a run that was packed without them: they train from epoch 1 again."""

from collections.abc import Container, Mapping
from typing import Any

from sweep.record.schema import FINAL_STATES, TrialRow
from sweep.record.store import Store

_MEASURED = (
    *("num_parameters", "val_error", "test_error", "test_top5_error", "dead_classes", "images_per_s"),
    *("node", "device", "precision", "memory_format", "compiled"),
)
"""Columns of `trials` that say what a trial's epochs have measured, and where."""

_REASON = "no checkpoint: restarts from epoch 1"


def without_checkpoint(store: Store, trials: Mapping[str, TrialRow], only: Container[str] | None = None) -> set[str]:
    """Return the ids of the trials, of the variants `only` or of all, that have not ended and have no checkpoint."""
    return {
        trial_id
        for trial_id, row in trials.items()
        if row["state"] not in FINAL_STATES
        and (only is None or row["variant"] in only)
        and not store.checkpoints(trial_id)
    }


def restarted(store: Store, trials: Mapping[str, TrialRow], only: Container[str] | None = None) -> dict[str, TrialRow]:
    """Return all rows of `trials`, those of trials that must restart as before their first epoch, and write them.

    The epochs that these trials have reported are removed: another machine may not come to the same ones, nor to as
    many. What early stopping has decided about them stays, since other trials were judged beside them.

    Args:
        store: locked by this process.
        trials: rows of `trials` by trial_id.
        only: the variants that run now; trials of others keep their rows and epochs. None restarts all.

    Raises:
        OSError: the record cannot be written.
    """
    rows = {trial_id: row.copy() for trial_id, row in trials.items()}
    lost = without_checkpoint(store, rows, only)
    reported = lost & set(store.read_epochs()["trial_id"].unique().to_pylist()) if lost else set()
    begun = reported | {trial_id for trial_id in lost if rows[trial_id]["epochs_run"]}
    if not begun:
        return rows
    for trial_id in begun:
        unknown: Any = dict.fromkeys(_MEASURED)
        rows[trial_id].update(unknown)
        rows[trial_id] |= {"epochs_run": 0, "train_s": 0.0, "state": "pending", "reason": _REASON}
    # Trials first: none must count epochs that are not there.
    store.write_trials(list(rows.values()))
    if reported:
        store.merge_epochs(drop=reported)
    return rows
