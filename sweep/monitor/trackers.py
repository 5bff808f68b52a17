"""Other tools that follow a run beside its record: TensorBoard, MLflow, Weights & Biases; off unless asked for.

Each is written by its own library, in a thread of its own: a tool that is slow or gone costs the run nothing, and what
it cannot take is said once. The record remains `trials.parquet`.
"""

import hashlib
import importlib.util
import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from search_spaces.dimensions import in_words
from sweep.record.params import read_params
from sweep.record.schema import FINAL_STATES
from sweep.record.store import Store
from sweep.study.study import Study
from trainables.common.validation import one_line

Row = Mapping[str, Any]

LIBRARIES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""The module that each tool needs; the extra of this project that installs it has the tool's name."""

SETTINGS = ("phase", "dataset", "augmentation", "variant", "lr", "seed")
"""Columns of `trials` that say what a trial is, besides its hyperparameters."""

ERRORS = ("train_loss", "train_error", "val_error", "test_error")
"""Columns of `epochs` that become curves, as far as they hold a number: errors are fractions in [0, 1]."""

DRAIN_S = 30.0
"""Seconds that a tool may take, after the last trial, for what it has not taken yet."""


class Tracker(ABC):
    """One tool, with something of its own for each trial. What a subclass raises is said once and goes no further."""

    def __init__(self) -> None:
        self._runs: dict[str, Any] = {}

    def epoch(self, trial: Row, epoch: Row) -> None:
        """Take an epoch: a row of `trials` and one of `epochs`."""
        self._log(self._run(trial), _numbers(epoch), epoch["epoch"])

    def end(self, trial: Row) -> None:
        """Take a trial's end; its state is in the row."""
        self._finish(self._run(trial), trial)
        del self._runs[trial["trial_id"]]

    def close(self) -> None:
        """Close what is open for trials that have not ended: they may be resumed."""
        for run in self._runs.values():
            self._finish(run, None)

    def _run(self, trial: Row) -> Any:
        if trial["trial_id"] not in self._runs:
            self._runs[trial["trial_id"]] = self._begin(trial)
        return self._runs[trial["trial_id"]]

    @abstractmethod
    def _begin(self, trial: Row) -> Any:
        """Return what the tool has for a trial that it sees for the first time."""

    @abstractmethod
    def _log(self, run: Any, numbers: Mapping[str, float], step: int) -> None: ...

    @abstractmethod
    def _finish(self, run: Any, trial: Row | None) -> None:
        """Close what `_begin` returned, with the state of its trial; None where it has not ended."""


def check_logs(names: Sequence[str], location: str) -> None:
    """Refuse tools that cannot be written.

    Raises:
        ValueError: a name is unknown, its library is missing, or it cannot write where the run lies.
    """
    if not names:
        raise ValueError(f"log must name at least one of {', '.join(LIBRARIES)}, got none.")
    for name in names:
        if name not in LIBRARIES:
            raise ValueError(f"log must be one of {', '.join(LIBRARIES)}, got {name!r}.")
        if importlib.util.find_spec(LIBRARIES[name]) is None:
            raise ValueError(
                f"log must name tools whose library is installed, got {name!r}; pip install 'all-cnn-sweep[{name}]' "
                f"or pip install {LIBRARIES[name]}."
            )
        elsewhere = name == "mlflow" and "MLFLOW_TRACKING_URI" in os.environ
        if "://" in location and not elsewhere:
            raise ValueError(
                f"log must be left out where a run lies in an object store, got {name!r} for {location}; "
                "mlflow with MLFLOW_TRACKING_URI set can be written."
            )


def make_trackers(names: Sequence[str], store: Store, study: Study, say: Callable[[str], None]) -> "Trackers":
    """Return the tools by their names, of which `check_logs` approves."""
    makers: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(Path(store.folder("tensorboard"))),
        "mlflow": lambda: MLflow(store.location, study.name),
        "wandb": lambda: WandB(store.location, study.name),
    }
    return Trackers({name: makers[name] for name in dict.fromkeys(names)}, say)


@final
class Trackers:
    """Hands rows to each tool's own thread and never fails."""

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]], say: Callable[[str], None]) -> None:
        """Begin.

        Args:
            makers: how each tool is made, in its own thread, by its name.
            say: takes a sentence for the user.
        """
        self._threads = [_Thread(name, make, say) for name, make in makers.items()]

    def epoch(self, trial: Row, epoch: Row) -> None:
        """Pass an epoch on; the rows may change afterwards."""
        for thread in self._threads:
            thread.put("epoch", dict(trial), dict(epoch))

    def change(self, trial: Row) -> None:
        """Pass a trial's end on, should it be one."""
        if trial["state"] in FINAL_STATES:
            for thread in self._threads:
                thread.put("end", dict(trial))

    def close(self) -> None:
        """Wait until all has been taken, at most `DRAIN_S` for each tool."""
        for thread in self._threads:
            thread.close()


@final
class _Thread:
    def __init__(self, name: str, make: Callable[[], Tracker], say: Callable[[str], None]) -> None:
        self._name, self._make, self._say = name, make, say
        self._has_said = False
        self._queue: queue.SimpleQueue[tuple[str, tuple[Row, ...]]] = queue.SimpleQueue()
        # A daemon: a tool that hangs does not keep the process.
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def put(self, what: str, *rows: Row) -> None:
        self._queue.put((what, rows))

    def close(self) -> None:
        self.put("close")
        self._thread.join(DRAIN_S)
        if self._thread.is_alive():
            self._trouble(f"it has not taken everything within {DRAIN_S:g} s")

    def _run(self) -> None:
        tracker: Tracker | None = None
        what = ""
        while what != "close":
            what, rows = self._queue.get()
            try:
                if tracker is None:
                    tracker = self._make()
                getattr(tracker, what)(*rows)
            except Exception as error:  # another tool's library may raise anything
                self._trouble(one_line(f"{type(error).__name__}: {error}"))

    def _trouble(self, reason: str) -> None:
        if not self._has_said:
            self._has_said = True
            self._say(f"The log {self._name} is not complete ({reason}); the run and its record go on.")


@final
class TensorBoard(Tracker):
    """Event files, a folder per trial, and its settings beside its final errors for the page HPARAMS."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def _begin(self, trial: Row) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder / trial["trial_id"]))

    def _log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            run.add_scalar(name, value, step)
        run.flush()

    def _finish(self, run: Any, trial: Row | None) -> None:
        from torch.utils.tensorboard.summary import hparams

        if trial is not None:
            final = {f"final/{name}": value for name, value in _numbers(trial).items()}
            # SummaryWriter.add_hparams would make one more folder for each trial.
            for summary in hparams(_settings(trial), final):
                run.file_writer.add_summary(summary)
            self._log(run, final, trial["epochs_run"])
            run.add_text("state", f"{trial['state']} {trial['reason'] or ''}".strip(), trial["epochs_run"])
        run.close()


@final
class MLflow(Tracker):
    """An MLflow run per trial, in the experiment of the study's name.

    It goes to MLFLOW_TRACKING_URI where that is set, else to a database `mlflow.db` in the run's folder. A resumed
    trial continues its MLflow run.
    """

    def __init__(self, location: str, experiment: str) -> None:
        from mlflow import MlflowClient

        super().__init__()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{location}/mlflow.db"
        self._client = MlflowClient(tracking_uri=uri)
        self._location = location
        known = self._client.get_experiment_by_name(experiment)
        self._experiment = known.experiment_id if known else self._client.create_experiment(experiment)

    def _begin(self, trial: Row) -> Any:
        key = _key(self._location, trial["trial_id"])
        found = self._client.search_runs([self._experiment], f"tags.sweep_trial = '{key}'", max_results=1)
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        tags = {"sweep_trial": key, "sweep_run": self._location}
        run = self._client.create_run(self._experiment, tags=tags, run_name=trial["trial_id"]).info.run_id
        for name, value in _settings(trial).items():
            self._client.log_param(run, name, value)
        return run

    def _log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._client.log_metric(run, name, value, step=step)

    def _finish(self, run: Any, trial: Row | None) -> None:
        if trial is None:
            self._client.set_terminated(run, "KILLED")
            return
        self._client.set_tag(run, "state", trial["state"])
        self._client.set_tag(run, "reason", (trial["reason"] or "")[:500])
        # What diverged or was stopped is no failure of MLflow's.
        self._client.set_terminated(run, "FAILED" if trial["state"] == "failed" else "FINISHED")


@final
class WandB(Tracker):
    """A W&B run per trial, grouped by this run, in the project WANDB_PROJECT, else the study's name.

    WANDB_MODE=offline writes into the run's folder, for `wandb sync` later.
    """

    def __init__(self, location: str, study: str) -> None:
        super().__init__()
        self._location, self._study = location, study

    def _begin(self, trial: Row) -> Any:
        import wandb

        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self._study,
            group=Path(self._location).name,
            name=trial["trial_id"],
            id=_key(self._location, trial["trial_id"]),
            config=_settings(trial),
            dir=self._location,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def _log(self, run: Any, numbers: Mapping[str, float], step: int) -> None:
        run.log(numbers, step=step)

    def _finish(self, run: Any, trial: Row | None) -> None:
        if trial is not None:
            run.summary.update({"state": trial["state"], "reason": trial["reason"] or ""})
        run.finish(exit_code=int(trial is None or trial["state"] == "failed"))


def _settings(trial: Row) -> dict[str, Any]:
    # As a command line has them: torch writes True as 1 and leaves None out, MLflow has text alone.
    params = {
        name: in_words(value) if value is None or isinstance(value, bool) else value
        for name, value in read_params(trial["params"]).items()
    }
    return {name: trial[name] for name in SETTINGS} | params


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(row[name]) for name in ERRORS if row.get(name) is not None}


def _key(location: str, trial_id: str) -> str:
    return hashlib.sha256(f"{location}/{trial_id}".encode()).hexdigest()[:16]
