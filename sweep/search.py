"""One Optuna study per cell behind one Ray searcher; the only place that imports optuna."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, assert_never, final

import optuna
from ray.tune.search import Searcher

from search_spaces import Choice, Dimension, LogUniform
from sweep.records import FINAL_STATES
from sweep.studies import Study
from trainables.config import TrialConfig

METRIC = "error"
"""What every trial reports and every search minimises."""

_OPTUNA_STATES = {
    "completed": optuna.trial.TrialState.COMPLETE,
    # A diverged trial has the worst error there is, which tells a search more than no error would.
    "diverged": optuna.trial.TrialState.COMPLETE,
    "stopped": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}


@final
class CellSearch:
    """The search within one cell: asks Optuna for points, tells it their errors."""

    def __init__(self, study: Study, cell: TrialConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = study
        self._cell = cell
        self._space = _distributions(study)
        self._optuna = optuna.create_study(direction="minimize")
        self._asked: dict[str, optuna.trial.Trial] = {}

    @property
    def remaining(self) -> int:
        """Trials that the cell may still ask for."""
        return self._study.points_per_cell - len(self._asked)

    def ask(self, recorded: Mapping[str, Mapping[str, Any]]) -> tuple[str, TrialConfig]:
        """Return the next trial's id and configuration; one that the record knows is asked for again, not redrawn."""
        number = len(self._asked)
        trial_id = f"{self._cell.cell.replace('/', '_')}_{number:04d}"
        # A sampler of its own for each point: what it draws follows from the seed, the point's number and what the
        # search was told, not from how many points this process has drawn before.
        self._optuna.sampler = _sampler(self._study, self._cell, number)
        known = recorded.get(trial_id)
        if known is not None and self._study.search != "grid":
            self._optuna.enqueue_trial({"lr": known["lr"]})
        trial = self._optuna.ask(self._space)
        self._asked[trial_id] = trial
        seed = self._cell.seed + trial.params.get("replicate", 0)
        return trial_id, replace(self._cell, lr=trial.params["lr"], seed=seed)

    def tell(self, trial_id: str, state: str, error: float | None) -> None:
        """Tell Optuna how a trial ended.

        Args:
            trial_id: what `ask` returned.
            state: the trial's final state in the record.
            error: its last error, a fraction in [0, 1]; None for a trial that reported none.
        """
        trial = self._asked[trial_id]
        told = _OPTUNA_STATES[state]
        if told is optuna.trial.TrialState.PRUNED and error is not None:
            trial.report(error, step=0)
        try:
            self._optuna.tell(trial, error if told is optuna.trial.TrialState.COMPLETE else None, state=told)
        except RuntimeError:
            # GridSampler calls Study.stop at its last point, which Optuna allows within Study.optimize only. The trial
            # is stored before the complaint.
            if self._optuna.trials[trial.number].state != told:
                raise


@final
class StudySearcher(Searcher):  # type: ignore[misc]
    """Deals trials over the cells in turn, so that each gets the same number, whatever order they end in."""

    def __init__(self, study: Study, recorded: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Begin a search.

        Args:
            study: what to search.
            recorded: rows of `trials` by trial_id, of a run that goes on; those in a final state are not run again.
        """
        super().__init__(metric=METRIC, mode="min")
        self._recorded = dict(recorded or {})
        self._epochs = study.base.epochs
        self._cells = [CellSearch(study, cell) for cell in study.cells()]
        self._turn = 0
        self._of_tune: dict[str, tuple[int, str]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | Literal["FINISHED"]:
        """Return the next trial's configuration for Ray's trial `trial_id`."""
        while (number := self._next_cell()) is not None:
            cell = self._cells[number]
            name, config = cell.ask(self._recorded)
            done = self._recorded.get(name)
            if done is not None and done["state"] in FINAL_STATES:
                error = done["val_error"] if done["val_error"] is not None else done["test_error"]
                cell.tell(name, done["state"], error)
                continue
            self._of_tune[trial_id] = (number, name)
            return {"trial_id": name, "phase": "search", "cell": config.cell, "config": config.to_dict()}
        return Searcher.FINISHED  # type: ignore[no-any-return]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's cell how it ended."""
        number, name = self._of_tune.pop(trial_id)
        if error or not result:
            self._cells[number].tell(name, "failed", None)
            return
        stopped = result["state"] == "running" and result["epoch"] < self._epochs
        self._cells[number].tell(name, "stopped" if stopped else "completed", result[METRIC])

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Ray Tune wants the search's state: a run goes on from its record alone."""
        Path(checkpoint_path).touch()

    def _next_cell(self) -> int | None:
        count = len(self._cells)
        for offset in range(count):
            number = (self._turn + offset) % count
            if self._cells[number].remaining:
                self._turn = number + 1
                return number
        return None


def _sampler(study: Study, cell: TrialConfig, number: int) -> optuna.samplers.BaseSampler:
    if study.search == "grid":
        assert isinstance(study.learning_rates, Choice), "checked when the study was made"
        # The same order at each point: the grid's number n is its n-th.
        return optuna.samplers.GridSampler(
            {"lr": list(study.learning_rates.values), "replicate": list(range(study.search_seeds))},
            seed=_seed(study, cell, 0),
        )
    seed = _seed(study, cell, number)
    return optuna.samplers.TPESampler(seed=seed) if study.search == "tpe" else optuna.samplers.RandomSampler(seed=seed)


def _seed(study: Study, cell: TrialConfig, number: int) -> int:
    digest = hashlib.sha256(f"{study.base.seed} {cell.cell} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _distributions(study: Study) -> dict[str, optuna.distributions.BaseDistribution]:
    space = {"lr": _distribution(study.learning_rates)}
    if study.search == "grid":
        space["replicate"] = optuna.distributions.CategoricalDistribution(list(range(study.search_seeds)))
    return space


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    match dimension:
        case Choice():
            return optuna.distributions.CategoricalDistribution(list(dimension.values))
        case LogUniform():
            return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=True)
        case _:
            assert_never(dimension)
