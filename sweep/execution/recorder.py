"""The record's single writer: a Ray Tune callback that turns what trials report into rows."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, final

from ray.tune import Callback
from ray.tune.experiment import Trial

from sweep.execution.listener import Listener
from sweep.execution.retries import failure_of
from sweep.record.params import write_params
from sweep.record.schema import EPOCHS, FINAL_STATES, DecisionRow, EpochRow, Phase, TrialRow, retried
from sweep.record.store import Store
from sweep.search.halving import Decision
from sweep.study.study import Study, params_of
from trainables.config import TrialConfig

FLUSH_AFTER_S = 10.0
"""Epochs wait at most this long for the next report before they are written."""

PAUSE_PER_FLUSH = 39.0
"""A trial that begins or ends is written at once, unless the last write is less long ago than this many times what it
took: writing takes a fortieth of the driver's time, however many trials there are and however slow the disk."""

MERGE_AFTER_PARTS = 64
"""Parts of the epochs' table that may lie beside each other."""


@final
class Recorder(Callback):  # type: ignore[misc]
    """Writes a row per trial and per epoch while the run goes on, and tells a listener when a trial ends."""

    def __init__(
        self,
        store: Store,
        study: Study,
        *,
        recorded: Mapping[str, TrialRow] | None = None,
        is_interrupted: Callable[[], bool] = lambda: False,
        is_ending: Callable[[], bool] | None = None,
        listener: Listener = Listener(),  # noqa: B008 - it holds nothing
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the rows of a run that goes on, or with none.

        Args:
            store: where rows go.
            study: what is run.
            recorded: rows of `trials` by trial_id.
            is_interrupted: whether a trial that ends now without being done was cut off.
            is_ending: whether one that fails now does so since the run ends; `is_interrupted` where left out.
            listener: hears of rows, epochs and writes.
            clock: seconds from any start.
        """
        self._store, self._study = store, study
        self._rows: dict[str, TrialRow] = {key: row.copy() for key, row in (recorded or {}).items()}
        self._epochs: list[EpochRow] = []
        decisions = store.decision_rows() if recorded else []
        self._decisions: dict[tuple[str, int], DecisionRow] = {(d["trial_id"], d["epoch"]): d for d in decisions}
        self._decisions_are_written = True
        self._is_interrupted, self._is_ending = is_interrupted, is_ending or is_interrupted
        self._listener = listener
        self._trouble: OSError | None = None
        self._clock = clock
        self._started: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._flushed = clock()
        self._flush_s = 0.0
        self._is_behind = False
        # Counted here: to list them at each flush is a question more to an object store, and this is the only writer.
        self._parts = store.count_parts()

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks beside its state, but a run goes on from its record alone."""
        return {}

    @property
    def rows(self) -> list[TrialRow]:
        """The rows of `trials` so far."""
        return list(self._rows.values())

    @property
    def decisions(self) -> list[DecisionRow]:
        """The rows of `decisions` so far, in the order in which they were made."""
        return list(self._decisions.values())

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        """Add the trial's row, or take up that of an interrupted one."""
        self._begin(trial)
        self._flush_when_due()

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Trial],  # noqa: ARG002
        trial: Trial,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Add the epoch's row."""
        row = self._rows[trial.config["trial_id"]]
        # Also those of an earlier attempt: one whose checkpoint was lost trains them anew, and a GPU not bit for bit.
        epoch: Any = {name: result.get(name) for name in EPOCHS.names} | {"trial_id": row["trial_id"]}
        self._epochs.append(epoch)
        if result["epoch"] <= row["epochs_run"]:
            return
        train_s = row["train_s"] + result["train_s"]
        measured: Any = {
            "epochs_run": result["epoch"],
            "train_s": train_s,
            "images_per_s": result["train_images"] * result["epoch"] / train_s if train_s else None,
            "duration_s": self._clock() - self._started[row["trial_id"]],
            **{name: result[name] for name in _KEPT},
            **({name: result[name] for name in _EVALUATED} if _is_evaluated(result) else {}),
        }
        row.update(measured)
        self._listener.reported(row, self._epochs[-1])
        if result["state"] == "diverged":
            row.update({"state": "diverged", "reason": result["reason"]})
        self._listener.changed(row)
        if self._clock() - self._flushed >= FLUSH_AFTER_S:
            self.flush()

    def decided(self, decision: Decision) -> None:
        """Take what early stopping decided about a trial; it is written with the next flush, as the epochs are."""
        if decision.verdict == "pause":
            self._waiting.add(decision.trial_id)
            return
        # Where only NaN had arrived there is no error to compare with.
        cutoff = decision.cutoff if math.isfinite(decision.cutoff) else None
        kept: Any = asdict(decision) | {"cutoff": cutoff}
        self._decisions[decision.trial_id, decision.epoch] = kept
        self._decisions_are_written = False
        waited = decision.trial_id in self._waiting
        self._waiting.discard(decision.trial_id)
        if waited and decision.verdict == "stop":
            row = self._rows[decision.trial_id]
            row.update({"state": "stopped", "reason": _why_stopped(row)})
            self._listener.changed(row)
            self._flush_when_due()
            self._listener.ended(row)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        """Settle the trial's state."""
        row = self._rows[trial.config["trial_id"]]
        if row["state"] != "diverged":
            if row["epochs_run"] == row["epochs_budget"]:
                row["state"] = "completed"
            elif row["trial_id"] in self._waiting:
                row |= {"state": "pending", "reason": f"waits after epoch {row['epochs_run']} for others of its cell"}
            elif self._is_interrupted():
                _interrupt(row)
            else:
                row.update({"state": "stopped", "reason": _why_stopped(row)})
        self._end(row)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:  # noqa: ARG002
        """Keep why the trial failed."""
        # A trial whose process never came up fails without having been started.
        row = self._rows[trial.config["trial_id"]] if trial.config["trial_id"] in self._started else self._begin(trial)
        if row["state"] in FINAL_STATES:
            # What failed came after the trial's end, a write of this record it may be.
            self._flush_when_due()
            return
        if self._is_ending():
            _interrupt(row)
        else:
            failure = failure_of(trial)
            if failure.traceback and failure.fault != "node lost":
                # Beside the record, which must not fail for want of it.
                with suppress(OSError):
                    self._store.write_failure(row["trial_id"], failure.traceback)
            row["fault"] = failure.fault
            if failure.fault == "node lost":
                reason = f"lost its node after epoch {row['epochs_run']}"
                row.update({"state": "pending", "reason": reason, "preemptions": row["preemptions"] + 1})
            elif failure.is_tried_again:
                row.update(retried(row, failure.reason) | {"isolated": True})
            else:
                row.update({"state": "failed", "reason": failure.reason})
            if failure.is_tried_again:
                self._listener.restarted(row)
        self._end(row)

    def skipped(self, trial_id: str, phase: Phase, config: TrialConfig, reason: str) -> None:
        """Add the row of a trial that is not run, since it would fail as others of its cell have."""
        row = self._rows[trial_id] = self._rows.get(trial_id) or self._new_row(trial_id, phase, config)
        row.update({"state": "failed", "reason": reason, "duration_s": row["duration_s"] or 0.0})
        self._listener.changed(row)
        self._flush_when_due()
        self._listener.ended(row)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:  # noqa: ARG002
        """Write what begun and ended trials have left unwritten, once it is time; Tune asks many times a second."""
        if self._is_behind:
            self._flush_when_due()

    def _flush_when_due(self) -> None:
        # At most as long as epochs wait: a run of any size can be watched.
        pause = min(FLUSH_AFTER_S, PAUSE_PER_FLUSH * self._flush_s)
        self._is_behind = True
        if self._clock() - self._flushed >= pause:
            self.flush()

    def flush(self) -> None:
        """Write every row that is not written yet: trials last, so that none counts epochs that are not there.

        Where storage fails, the rows stay here until the next time: the trials are not to blame and go on.
        """
        started = self._clock()
        before = self._trouble
        try:
            self._write()
            self._is_behind = False
            self._trouble = None
        except OSError as error:
            self._is_behind = True
            self._trouble = error
        if (before is None) != (self._trouble is None):
            self._listener.troubled(self._trouble)
        self._flushed = self._clock()
        self._flush_s = self._flushed - started

    def _write(self) -> None:
        if self._epochs:
            self._store.append_epochs(self._epochs)
            self._epochs = []
            self._parts += 1
        if self._parts > MERGE_AFTER_PARTS:
            self._store.merge_epochs()
            self._parts = 1
        if not self._decisions_are_written:
            self._store.write_decisions(self.decisions)
            self._decisions_are_written = True
        self._store.write_trials(self.rows)
        self._listener.flushed()

    def close(self) -> None:
        """Write what is left; trials that are still running become pending.

        Raises:
            OSError: storage still fails; what is missing in the record, trials report once more when the run goes on.
        """
        for row in self._rows.values():
            if row["state"] not in FINAL_STATES and row["state"] != "pending":
                _interrupt(row)
                self._listener.changed(row)
        self.flush()
        if self._trouble is not None:
            raise self._trouble

    def _new_row(self, trial_id: str, phase: Phase, config: TrialConfig) -> TrialRow:
        space = self._study.space_of(config.variant)
        unknown: Any = dict.fromkeys(TrialRow.__annotations__)
        row: Any = unknown | {
            "trial_id": trial_id,
            "phase": phase,
            "dataset": config.dataset,
            "augmentation": config.augmentation,
            "variant": config.variant,
            "params": write_params(params_of(config, space)),
            "lr": config.lr,
            "seed": config.seed,
            "epochs_run": 0,
            "epochs_budget": config.epochs,
            "train_s": 0.0,
            "isolated": False,
            "preemptions": 0,
            "retries": 0,
            "retry_reasons": "",
        }
        return row  # type: ignore[no-any-return]

    def _begin(self, trial: Trial) -> TrialRow:
        trial_id = trial.config["trial_id"]
        config = TrialConfig.from_dict(trial.config["config"])
        begun = self._rows.get(trial_id)
        # What an earlier attempt took is part of the trial's time.
        self._started[trial_id] = self._clock() - ((begun and begun["duration_s"]) or 0.0)
        row = begun or self._new_row(trial_id, trial.config["phase"], config)
        row.update({"state": "running", "reason": ""})
        self._rows[trial_id] = row
        self._listener.changed(row)
        return row

    def _end(self, row: TrialRow) -> None:
        row["duration_s"] = self._clock() - self._started[row["trial_id"]]
        self._listener.changed(row)
        self._flush_when_due()
        if row["state"] in FINAL_STATES:
            self._listener.ended(row)


_KEPT = ("num_parameters", "node", "device", "precision", "memory_format", "compiled")
_EVALUATED = ("val_error", "test_error", "test_top5_error", "dead_classes")


def _is_evaluated(result: Mapping[str, Any]) -> bool:
    return result["val_error"] is not None or result["test_error"] is not None


def _interrupt(row: TrialRow) -> None:
    row.update({"state": "pending", "reason": f"interrupted after epoch {row['epochs_run']}"})


def _why_stopped(row: TrialRow) -> str:
    return f"early stopping after epoch {row['epochs_run']}"
