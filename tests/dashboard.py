"""What optuna-dashboard shows of a journal, asked through its own application without a network."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweep.record.store import Store

STATES = {
    "pending": "Waiting",
    "running": "Running",
    "completed": "Complete",
    "stopped": "Pruned",
    "diverged": "Fail",
    "failed": "Fail",
}
"""The dashboard's word for each state of the record."""


def studies_shown(journal: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the trials that the dashboard's JSON holds, by the study's name."""
    optuna_dashboard = pytest.importorskip("optuna_dashboard")
    application = optuna_dashboard.wsgi(JournalStorage(JournalFileBackend(str(journal))))

    def get(path: str) -> Any:
        environ: dict[str, Any] = {"PATH_INFO": path}
        setup_testing_defaults(environ)
        status: list[str] = []
        body = b"".join(application(environ, lambda line, headers, *error: status.append(line)))
        assert status == ["200 OK"]
        return json.loads(body)

    listed = get("/api/studies")["study_summaries"]
    return {study["study_name"]: get(f"/api/studies/{study['study_id']}")["trials"] for study in listed}


def check_shown(run: Path) -> None:
    """Check that the dashboard shows of each cell's search, and of what confirms it, what the record holds."""
    recorded: dict[str, Counter[str]] = {}
    for row in Store(str(run)).read_trials().to_pylist():
        cell = f"{row['dataset']}/{row['augmentation']}/{row['variant']}"
        name = cell if row["phase"] == "search" else f"{cell} confirm"
        recorded.setdefault(name, Counter())[STATES[row["state"]]] += 1
    shown = studies_shown(run / "optuna.journal")
    assert {cell: Counter(trial["state"] for trial in trials) for cell, trials in shown.items()} == recorded
