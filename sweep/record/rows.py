"""How a trial's row changes when its trial is retried or is to have more epochs."""

from collections.abc import Mapping

from sweep.record.schema import TrialRow


def reopened(rows: Mapping[str, TrialRow], epochs: int | None) -> dict[str, TrialRow]:
    """Return rows of `trials` with those as pending that were completed with fewer epochs than the study has now.

    They resume from their checkpoints. Trials that were stopped, diverged or failed stay what they are.

    Args:
        rows: by trial_id.
        epochs: the study's; None where each trial has a number of its own.
    """
    return {
        trial_id: _reopened(row, epochs)
        if epochs is not None and row["state"] == "completed" and row["epochs_budget"] < epochs
        else row.copy()
        for trial_id, row in rows.items()
    }


def _reopened(row: TrialRow, epochs: int) -> TrialRow:
    reason = f"goes on from epoch {row['epochs_run']} of {row['epochs_budget']} to {epochs}"
    return row | {"state": "pending", "epochs_budget": epochs, "reason": reason}


def retried(row: TrialRow, reason: str) -> TrialRow:
    """Return the row of a trial that is restarted for this reason."""
    reasons = [row["retry_reasons"]] if row["retry_reasons"] else []
    return row | {
        "state": "pending",
        "reason": reason,
        "retries": row["retries"] + 1,
        "retry_reasons": "; ".join([*reasons, reason]),
    }
