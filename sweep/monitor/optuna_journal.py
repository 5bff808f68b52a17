"""The run's trials as optuna-dashboard shows them: an Optuna study per cell and phase in a journal in the run's folder.

For people to look at. The record is the truth, and the journal is made from its rows alone: nothing reads it, and a run
that goes on writes it anew.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, final

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweep.record.params import read_params
from sweep.record.schema import FINAL_STATES, EpochRow, ErrorColumn, Phase, State, TrialRow, cell_of
from sweep.record.selection import criterion_column
from sweep.record.store import Store
from sweep.search.searcher import distribution, sampler_seed
from sweep.study.study import Study

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
class _Buffer(BaseJournalBackend):  # type: ignore[misc]
    """A journal's newest lines, before they are in its file, where each would be a write that waits for the disk.

    Read by one storage, which takes up at once what it has appended.
    """

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self._first = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from - self._first :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def write(self, file: BaseJournalBackend) -> None:
        """Append the lines to a file, and forget them."""
        if self._logs:
            file.append_logs(self._logs)
            self._first += len(self._logs)
            self._logs = []


@dataclass
class _Open:
    """What the journal holds of a trial that has not ended."""

    number: int
    state: State = "running"
    epochs: set[int] = field(default_factory=set)


@final
class Journal:
    """Follows the rows of `trials`. Written by the process that writes the record, and by no other."""

    def __init__(self, path: str, study: Study, rows: Iterable[TrialRow], epochs: Iterable[EpochRow]) -> None:
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
        self._columns: dict[Phase, ErrorColumn] = {"search": criterion_column(study.protocol), "confirm": "test_error"}
        self._open: dict[str, _Open] = {}
        ended = {row["trial_id"]: row for row in rows if row["state"] in FINAL_STATES}
        curves: dict[str, dict[int, float]] = {trial_id: {} for trial_id in ended}
        for epoch in epochs:
            row = ended.get(epoch["trial_id"])
            if row is not None and (error := epoch[self._columns[row["phase"]]]) is not None:
                curves[row["trial_id"]][epoch["epoch"]] = error
        self._buffer = _Buffer()
        self._storage = JournalStorage(self._buffer)
        self._studies = {(cell.cell, "search"): self._new_study(cell.cell, "search") for cell in study.cells()}
        for trial_id, row in ended.items():
            self._add(row, curves[trial_id])
        # Written by Optuna's own class, which writes to a path alone.
        fresh = Path(f"{path}.new")
        fresh.unlink(missing_ok=True)
        self._buffer.write(JournalFileBackend(str(fresh)))
        fresh.replace(path)
        self._file: JournalFileBackend | None = JournalFileBackend(path)

    def update(self, row: TrialRow) -> None:
        """Note what has changed in a row of `trials`: begun, an epoch further, or ended; `flush` writes it."""
        trial_id = row["trial_id"]
        if trial_id not in self._open:
            if row["state"] == "running":
                self._open[trial_id] = _Open(self._add(row, {}))
            return
        trial = self._open[trial_id]
        error = row[self._columns[row["phase"]]]
        if row["epochs_run"] and error is not None and row["epochs_run"] not in trial.epochs:
            self._storage.set_trial_intermediate_value(trial.number, row["epochs_run"], error)
            trial.epochs.add(row["epochs_run"])
        if row["state"] == trial.state:
            return
        # One that was paused, or lost its node, waits here until it is resumed or stopped: it is the same trial.
        trial.state = row["state"]
        for name in ("state", "reason"):
            self._storage.set_trial_user_attr(trial.number, name, row[name])
        value = self._value(row)
        self._storage.set_trial_state_values(trial.number, _STATES[row["state"]], None if value is None else [value])
        if row["state"] in FINAL_STATES:
            del self._open[trial_id]

    def flush(self) -> None:
        """Write to the file what has been noted since the last time; it is left as it is once that has failed."""
        if self._file is None:
            return
        try:
            self._buffer.write(self._file)
        except OSError as error:
            # It may end in half a line, behind which nothing could be read. A run that goes on writes it anew.
            self._file = None
            warnings.warn(f"{JOURNAL} is not written any more: {error}", RuntimeWarning, stacklevel=2)

    def _new_study(self, cell: str, phase: Phase) -> int:
        name = cell if phase == "search" else f"{cell} {phase}"
        number: int = self._storage.create_new_study([StudyDirection.MINIMIZE], name)
        about: dict[str, Any] = {"phase": phase, "protocol": self._study.protocol, "seed": self._study.base.seed}
        search: dict[str, Any] = {"search": self._study.search, "minimises": self._columns[phase]}
        search |= {"first_sampler_seed": sampler_seed(self._study, cell, 0)}
        about |= search if phase == "search" else {"measures": self._columns[phase]}
        for name, value in about.items():
            self._storage.set_study_user_attr(number, name, value)
        return number

    def _add(self, row: TrialRow, curve: Mapping[int, float]) -> int:
        cell, phase = cell_of(row), row["phase"]
        if (cell, phase) not in self._studies:
            # Only once there is something to show: a cell without a completed trial is never confirmed.
            self._studies[cell, phase] = self._new_study(cell, phase)
        params, space = read_params(row["params"]), self._study.space_of(row["variant"])
        attributes = {name: row[name] for name in ("trial_id", "state", "seed", "reason")}
        if phase == "search":  # what confirms was drawn by no sampler
            point = int(row["trial_id"].rpartition("_")[2])
            attributes["sampler_seed"] = sampler_seed(self._study, cell, point)
        state = _STATES[row["state"]]
        now = datetime.now(UTC)
        trial = FrozenTrial(
            number=-1,  # storage counts
            trial_id=-1,
            state=state,
            value=self._value(row),
            # The record knows how long a trial took, not when it began.
            datetime_start=now - timedelta(seconds=row["duration_s"] or 0.0),
            datetime_complete=now if state.is_finished() else None,
            params=dict(params),
            distributions={name: distribution(space[name]) for name in params},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values=dict(curve),
        )
        return self._storage.create_new_trial(self._studies[cell, phase], trial)  # type: ignore[no-any-return]

    def _value(self, row: TrialRow) -> float | None:
        if row["state"] not in ("completed", "stopped"):
            return None  # Optuna's failed trials have no value
        return row[self._columns[row["phase"]]]


def open_journal(store: Store, study: Study, recorded: Mapping[str, TrialRow]) -> Journal | None:
    """Return the journal in a run's folder, None where there can be none: at a URI, or where it cannot be written.

    Args:
        store: the run's.
        study: what is run.
        recorded: rows of `trials` by trial_id, of a resumed run.
    """
    if "://" in store.location:  # a journal grows at its end, which a file in an object store cannot
        return None
    epochs = store.read_epochs().to_pylist() if recorded else ()
    try:
        return Journal(store.folder(JOURNAL), study, recorded.values(), epochs)
    except OSError as error:  # the copy of a record must not end its run
        warnings.warn(f"{JOURNAL} is left out: {error}", RuntimeWarning, stacklevel=2)
        return None
