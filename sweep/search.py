"""One Optuna study per cell behind one Ray searcher; the only place that imports optuna."""

import pickle
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


@final
class CellSearch:
    """The search within one cell: asks Optuna for points, tells it their errors."""

    def __init__(self, study: Study, cell: TrialConfig, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = study
        self._cell = cell
        self._space = _distributions(study)
        self._optuna = optuna.create_study(direction="minimize", sampler=_sampler(study, seed))
        self._asked: dict[str, optuna.trial.Trial] = {}

    @property
    def remaining(self) -> int:
        """Trials that the cell may still ask for."""
        return self._study.points_per_cell - len(self._asked)

    def ask(self, recorded: Mapping[str, Mapping[str, Any]]) -> tuple[str, TrialConfig]:
        """Return the next trial's id and configuration; one that the record knows is asked for again, not redrawn."""
        trial_id = f"{self._cell.cell.replace('/', '_')}_{len(self._asked):04d}"
        known = recorded.get(trial_id)
        if known is not None and self._study.search != "grid":
            # A grid's order follows from its seed; other samplers would draw on from what they have been told.
            self._optuna.enqueue_trial({"lr": known["lr"]})
        trial = self._optuna.ask(self._space)
        self._asked[trial_id] = trial
        seed = self._cell.seed + trial.params.get("replicate", 0)
        return trial_id, replace(self._cell, lr=trial.params["lr"], seed=seed)

    def tell(self, trial_id: str, error: float | None) -> None:
        """Tell Optuna a trial's error, a fraction in [0, 1]; None for a failed trial."""
        trial = self._asked[trial_id]
        state = optuna.trial.TrialState.FAIL if error is None else optuna.trial.TrialState.COMPLETE
        try:
            self._optuna.tell(trial, error, state=state)
        except RuntimeError:
            # GridSampler calls Study.stop at its last point, which Optuna allows within Study.optimize only. The trial
            # is stored before the complaint.
            if self._optuna.trials[trial.number].state != state:
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
        self._cells = [CellSearch(study, cell, study.base.seed + number) for number, cell in enumerate(study.cells())]
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
                cell.tell(name, None if done["state"] == "failed" else error)
                continue
            self._of_tune[trial_id] = (number, name)
            return {"trial_id": name, "cell": config.cell, "config": config.to_dict()}
        return Searcher.FINISHED  # type: ignore[no-any-return]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's cell how it ended."""
        number, name = self._of_tune.pop(trial_id)
        self._cells[number].tell(name, None if error or not result else result[METRIC])

    def save(self, checkpoint_path: str) -> None:
        """Write the search's state, as Ray Tune asks now and then."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))  # noqa: S301 - Ray's own state folder

    def _next_cell(self) -> int | None:
        count = len(self._cells)
        for offset in range(count):
            number = (self._turn + offset) % count
            if self._cells[number].remaining:
                self._turn = number + 1
                return number
        return None


def _sampler(study: Study, seed: int) -> optuna.samplers.BaseSampler:
    if study.search == "grid":
        assert isinstance(study.learning_rates, Choice), "checked when the study was made"
        return optuna.samplers.GridSampler(
            {"lr": list(study.learning_rates.values), "replicate": list(range(study.seeds))}, seed=seed
        )
    if study.search == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _distributions(study: Study) -> dict[str, optuna.distributions.BaseDistribution]:
    space = {"lr": _distribution(study.learning_rates)}
    if study.search == "grid":
        space["replicate"] = optuna.distributions.CategoricalDistribution(list(range(study.seeds)))
    return space


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    match dimension:
        case Choice():
            return optuna.distributions.CategoricalDistribution(list(dimension.values))
        case LogUniform():
            return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=True)
        case _:
            assert_never(dimension)
