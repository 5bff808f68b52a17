"""The run's trials as optuna-dashboard shows them: an Optuna study per cell and phase in a journal in the run's folder.

For people to look at. The record is the truth, and the journal is made from its rows alone: nothing reads it, and a run
that goes on writes it anew.
"""

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, final

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweep.records import FINAL_STATES
from sweep.search import distributions, sampler_seed
from sweep.selection import criterion_column
from sweep.studies import Study

JOURNAL = "optuna.journal"
"""Name of the file in the run's folder."""

# Not the states that the search is told, where a diverged trial is complete with the worst error there is.
_STATES = {
    "pending": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}


@final
class _Memory(BaseJournalBackend):  # type: ignore[misc]
    """A journal that is not in a file yet."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


@final
class Journal:
    """Follows the rows of `trials`. Written by the process that writes the record, and by no other."""

    def __init__(
        self, path: str, study: Study, rows: Iterable[Mapping[str, Any]], epochs: Iterable[Mapping[str, Any]]
    ) -> None:
        """Write the journal of what has ended so far, in place of one that may be there.

        Args:
            path: the file.
            study: what is searched.
            rows: rows of `trials` of a run that goes on; none for a new one.
            epochs: rows of `epochs` of the same.
        """
        # Optuna would print a line for each cell.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = study
        # What confirms is the only one of `holdout` that reads test errors, and nothing is chosen by them.
        self._columns = {"search": criterion_column(study.protocol), "confirm": "test_error"}
        self._distributions = distributions(study)
        self._running: dict[str, int] = {}
        self._curves: dict[str, dict[int, float]] = {}
        ended = {row["trial_id"]: row for row in rows if row["state"] in FINAL_STATES}
        curves: dict[str, dict[int, float]] = {trial_id: {} for trial_id in ended}
        for epoch in epochs:
            row = ended.get(epoch["trial_id"])
            if row is not None and (error := epoch[self._columns[row["phase"]]]) is not None:
                curves[row["trial_id"]][epoch["epoch"]] = error
        # One write for all: to a file, each trial would be a write of its own that waits for the disk.
        memory = _Memory()
        storage = JournalStorage(memory)
        self._studies = {(cell.cell, "search"): self._new_study(storage, cell.cell, "search") for cell in study.cells()}
        for trial_id, row in ended.items():
            self._add(storage, row, curves[trial_id])
        fresh = f"{path}.new"
        Path(fresh).unlink(missing_ok=True)
        JournalFileBackend(fresh).append_logs(memory.logs)
        os.replace(fresh, path)  # noqa: PTH105 - both are strings
        self._storage = JournalStorage(JournalFileBackend(path))

    def update(self, row: Mapping[str, Any]) -> None:
        """Note what has changed in a row of `trials`: begun, an epoch further, or ended."""
        trial_id = row["trial_id"]
        if trial_id not in self._running:
            if row["state"] == "running":
                self._running[trial_id] = self._add(self._storage, row, {})
                self._curves[trial_id] = {}
            return
        number = self._running[trial_id]
        error = row[self._columns[row["phase"]]]
        if row["epochs_run"] and error is not None:
            self._storage.set_trial_intermediate_value(number, row["epochs_run"], error)
            self._curves[trial_id][row["epochs_run"]] = error
        if row["state"] == "running":
            return
        del self._running[trial_id]
        for name in ("state", "reason"):
            self._storage.set_trial_user_attr(number, name, row[name])
        value = self._value(row, self._curves.pop(trial_id))
        self._storage.set_trial_state_values(number, _STATES[row["state"]], None if value is None else [value])

    def _new_study(self, storage: JournalStorage, cell: str, phase: str) -> int:
        number: int = storage.create_new_study([StudyDirection.MINIMIZE], _name(cell, phase))
        about: dict[str, Any] = {"phase": phase, "protocol": self._study.protocol, "seed": self._study.base.seed}
        if phase == "search":
            about |= {
                "search": self._study.search,
                "minimises": self._columns[phase],
                "criterion": self._study.criterion,
                "first_sampler_seed": sampler_seed(self._study, cell, 0),
            }
        else:
            about["measures"] = self._columns[phase]
        for name, value in about.items():
            storage.set_study_user_attr(number, name, value)
        return number

    def _add(self, storage: JournalStorage, row: Mapping[str, Any], curve: Mapping[int, float]) -> int:
        cell, phase = f"{row['dataset']}/{row['augmentation']}/{row['variant']}", row["phase"]
        if (cell, phase) not in self._studies:
            # Only once there is something to show: a cell without a completed trial is never confirmed.
            self._studies[cell, phase] = self._new_study(storage, cell, phase)
        state = _STATES[row["state"]]
        now = datetime.now(UTC)
        trial = FrozenTrial(
            number=-1,  # storage counts
            trial_id=-1,
            state=state,
            value=self._value(row, curve),
            # The record knows how long a trial took, not when it began.
            datetime_start=now - timedelta(seconds=row["duration_s"] or 0.0),
            datetime_complete=now if state.is_finished() else None,
            params={name: row[name] for name in self._distributions},
            distributions=self._distributions,
            user_attrs={
                "trial_id": row["trial_id"],
                "state": row["state"],
                "seed": row["seed"],
                **self._sampled(row, cell),
                "reason": row["reason"],
            },
            system_attrs={},
            intermediate_values=dict(curve),
        )
        return storage.create_new_trial(self._studies[cell, phase], trial)  # type: ignore[no-any-return]

    def _sampled(self, row: Mapping[str, Any], cell: str) -> dict[str, int]:
        if row["phase"] != "search":
            return {}  # what confirms was drawn by no sampler
        point = int(row["trial_id"].rpartition("_")[2])
        return {"sampler_seed": sampler_seed(self._study, cell, point)}

    def _value(self, row: Mapping[str, Any], curve: Mapping[int, float]) -> float | None:
        if row["state"] not in ("completed", "stopped"):
            return None  # Optuna's failed trials have no value
        if row["phase"] == "search" and self._study.criterion == "best-epoch" and curve:
            return min(curve.values())
        return row[self._columns[row["phase"]]]  # type: ignore[no-any-return]


def _name(cell: str, phase: str) -> str:
    return cell if phase == "search" else f"{cell} {phase}"
