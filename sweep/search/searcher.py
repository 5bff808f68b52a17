"""One Optuna study per cell behind one Ray searcher."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, assert_never, final

import optuna
from ray.tune.search import Searcher

from search_spaces import Choice, Dimension, LogUniform
from sweep.execution.failures import SHARED_GPU_FAILED
from sweep.record.schema import FINAL_STATES
from sweep.search.halving import Decision
from sweep.study.prior_trials import EarlierPoint
from sweep.study.samplers import SEQUENCE, make_sampler
from sweep.study.study import DIMENSIONS, Study
from trainables.common.validation import line
from trainables.config import TrialConfig

METRIC = "error"
"""What every trial reports and every search minimises."""

REHEARSED_TRIALS = 12
"""Trials after which every sampler of Optuna has left its first, random ones and loaded the packages that it needs."""

SAME_FAILURES = 3
"""Trials of a cell that fail alike before the others of it are not run any more, where none has trained an epoch."""

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

    def __init__(self, study: Study, cell: TrialConfig, recorded: Mapping[str, Mapping[str, Any]]) -> None:
        """Begin a cell's search.

        Args:
            study: what to search.
            cell: the cell, its searched fields still placeholders.
            recorded: rows of `trials` by trial_id, of a run that goes on; other cells' too.
        """
        # Below this Optuna says at each point that it draws some of it by another sampler, as it must.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = study
        self._cell = cell
        self._prefix = cell.cell.replace("/", "_")
        self._recorded = {key: row for key, row in recorded.items() if self.holds(key)}
        self._space = distributions(study)
        if study.search == "grid":
            self._space["replicate"] = optuna.distributions.CategoricalDistribution(list(range(study.search_seeds)))
        self._optuna = optuna.create_study(direction="minimize")
        self._asked: dict[str, optuna.trial.Trial] = {}
        self._of_record: dict[str, tuple[Any, ...]] = {}
        self._grid: Iterator[tuple[Any, ...]] = iter(())
        if study.search == "grid":
            points = _grid_points(study, cell, self._space)
            self._of_record, self._grid = self._dealt(list(points))
        # All that the record holds, also of points that are yet to be asked for again: no draw may repeat one.
        self._taken = {(*(row[name] for name in DIMENSIONS), row["seed"]) for row in self._recorded.values()}
        for point in _told(study, cell.cell):
            known = {name: getattr(point, name) for name in study.dimensions}
            self._optuna.add_trial(
                optuna.trial.create_trial(params=known, distributions=self._space, value=point.error)
            )

    def holds(self, trial_id: str) -> bool:
        """Return whether a trial is one of this cell's."""
        return trial_id.rpartition("_")[0] == self._prefix

    @property
    def name(self) -> str:
        """Data set, augmentation and variant."""
        return self._cell.cell

    @property
    def remaining(self) -> int:
        """Trials that the cell may still ask for."""
        return self._study.points_per_cell - len(self._asked)

    def ask(self) -> tuple[str, TrialConfig]:
        """Return the next trial's id and configuration.

        A point that the record knows is asked for again by its number, not redrawn. A point that the cell already has
        comes with the next seed: the same configuration and seed would give the same number twice.
        """
        number = len(self._asked)
        trial_id = f"{self._prefix}_{number:04d}"
        # A sampler of its own for each point: what it draws follows from the seed, the point's number and what the
        # search was told, not from how many points this process has drawn before.
        self._optuna.sampler = _sampler(self._study, self._cell, number)
        known = self._recorded.get(trial_id)
        if self._study.search == "grid":
            point = self._of_record[trial_id] if trial_id in self._of_record else next(self._grid)
            self._optuna.enqueue_trial(dict(zip(self._space, point, strict=True)))
        elif known is not None:
            self._optuna.enqueue_trial({name: known[name] for name in self._study.dimensions})
        trial = self._optuna.ask(self._space)
        self._asked[trial_id] = trial
        if known is not None and self._study.search == SEQUENCE and trial.number:
            # Optuna draws lazily, and not at all for a point that is enqueued: the next one drawn would be a point that
            # the record has. The study's first point is none of the sequence.
            _ = trial.relative_params
        config = replace(self._cell, **{name: trial.params[name] for name in self._study.dimensions})
        drawn = tuple(getattr(config, name) for name in DIMENSIONS)
        if self._study.search == "grid":
            seed = config.seed + trial.params["replicate"]
        elif known is not None:
            seed = known["seed"]
        else:
            seed = next(seed for seed in itertools.count(config.seed) if (*drawn, seed) not in self._taken)
        self._taken.add((*drawn, seed))
        return trial_id, replace(config, seed=seed, batch_size=int(config.batch_size))

    def _dealt(self, points: list[tuple[Any, ...]]) -> tuple[dict[str, tuple[Any, ...]], Iterator[tuple[Any, ...]]]:
        """Return the points of a grid that the record has, by trial_id, and the others in the grid's order.

        A grid that became larger is in another order: what is recorded keeps its number, and the rest fill the others.
        """
        first_seed = self._cell.seed
        recorded = {
            (*(row[name] for name in self._study.dimensions), row["seed"] - first_seed): trial_id
            for trial_id, row in self._recorded.items()
        }
        of_record = {recorded[point]: point for point in points if point in recorded}
        return of_record, iter([point for point in points if point not in recorded])

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
            # BruteForceSampler calls Study.stop at its last point, which Optuna allows within Study.optimize only. The
            # trial is stored before the complaint.
            if self._optuna.trials[trial.number].state != told:
                raise


@final
class StudySearcher(Searcher):  # type: ignore[misc]
    """Deals trials over the cells in turn, so that each gets the same number, whatever order they end in.

    A trial that early stopping puts aside has ended for Ray Tune; it is suggested once more when it may go on. So is
    one that lost its node, at once.
    """

    def __init__(
        self,
        study: Study,
        recorded: Mapping[str, Mapping[str, Any]] | None = None,
        best_epochs: Mapping[str, float] | None = None,
        skip: Callable[[str, str, TrialConfig, str], object] = lambda *_: None,
        only: Container[str] | None = None,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Begin a search.

        Args:
            study: what to search.
            recorded: rows of `trials` by trial_id, of a run that goes on; those in a final state are not run again.
            best_epochs: lowest error of any epoch by trial_id, of the same run; read where the study's criterion is
                `best-epoch`.
            skip: called with trial_id, phase, configuration and reason of each trial that is not run, since others of
                its cell have failed in the same way.
            only: variants whose trials are dealt; None deals all.
            fits: asked whether a cell's trials have the time for an epoch; those of other cells are dealt then.
        """
        super().__init__(metric=METRIC, mode="min")
        self._recorded = dict(recorded or {})
        self._epochs = study.base.epochs
        self._by_best_epoch = study.criterion == "best-epoch"
        self._recorded_best = dict(best_epochs or {})
        self._best: dict[str, float] = {}
        self._cells = [CellSearch(study, cell, self._recorded) for cell in study.cells()]
        self._is_dealt = [only is None or cell.variant in only for cell in study.cells()]
        self._fits, self._is_out_of_time = fits, False
        self._turn = 0
        self._running: dict[str, str] = {}
        self._known: dict[str, tuple[int, TrialConfig]] = {}
        self._aside: dict[str, float] = {}
        self._may_go_on: list[str] = []
        self._lost: set[str] = set()
        self._alone = tried_again_alone(self._recorded)
        self._skip = skip
        self._failures: dict[int, list[str]] = {}
        self._have_trained = {self._cell_of(name) for name, row in self._recorded.items() if row["epochs_run"]}
        self._attempts: Counter[str] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | Literal["FINISHED"] | None:
        """Return the next trial's configuration for Ray's trial `trial_id`; None where one must be waited for."""
        for name in self._may_go_on:
            if self._has_time(self._known[name][0]):
                self._may_go_on.remove(name)
                return self._start(trial_id, name)
        while (number := self._next_cell()) is not None:
            cell = self._cells[number]
            name, config = cell.ask()
            done = self._recorded.get(name)
            if done is not None and done["state"] in FINAL_STATES:
                error = done["val_error"] if done["val_error"] is not None else done["test_error"]
                if self._by_best_epoch and done["state"] != "diverged":
                    error = self._recorded_best.get(name, error)
                cell.tell(name, done["state"], error)
                continue
            self._known[name] = (number, config)
            if self._is_hopeless(number):
                self._skip(
                    name, "search", config, f"not run: {SAME_FAILURES} trials of the cell failed alike before it"
                )
                cell.tell(name, "failed", None)
                continue
            return self._start(trial_id, name)
        # Those aside wait for one that runs, and one that runs may lose its node and come again.
        waits = self._running or (self._aside and not self._is_out_of_time)
        return None if waits else Searcher.FINISHED

    def decided(self, decision: Decision) -> None:
        """Hear what early stopping decided about a trial, before Ray Tune hears of it or after."""
        name = decision.trial_id
        if decision.verdict == "wait":
            self._aside[name] = decision.error
        elif name in self._aside:
            error = self._aside.pop(name)
            if decision.verdict == "go on":
                self._may_go_on.append(name)
            else:
                self._tell(name, "stopped", error)

    def lost(self, name: str, *, alone: bool = False) -> None:
        """Hear that a trial is begun again, before Ray Tune says that it ended: it is suggested once more."""
        self._lost.add(name)
        if alone:
            self._alone.add(name)

    def failed(self, name: str, signature: str) -> None:
        """Hear how a trial failed for good, before Ray Tune says that it ended."""
        self._failures.setdefault(self._known[name][0], []).append(signature)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note the lowest error of the trial's epochs."""
        self._have_trained.add(self._known[self._running[trial_id]][0])
        self._best[trial_id] = min(result[METRIC], self._best.get(trial_id, result[METRIC]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's cell how it ended."""
        name = self._running.pop(trial_id)
        best = self._best.pop(trial_id, None)
        if name in self._lost:
            self._lost.discard(name)
            self._may_go_on.append(name)
            return
        if error or not result:
            self._tell(name, "failed", None)
            return
        told = result[METRIC]
        # A trial that diverged is as bad as can be, whatever it reached before.
        if self._by_best_epoch and best is not None and result["state"] != "diverged":
            told = min(best, told)
        if name in self._aside:
            self._aside[name] = told
        else:
            stopped = result["state"] == "running" and result["epoch"] < self._epochs
            self._tell(name, "stopped" if stopped else "completed", told)

    def _start(self, trial_id: str, name: str) -> dict[str, Any]:
        _, config = self._known[name]
        self._running[trial_id] = name
        attempt = self._attempts[name]
        self._attempts[name] += 1
        return {
            "trial_id": name,
            "attempt": attempt,
            "alone": name in self._alone,
            "phase": "search",
            "cell": config.cell,
            "config": config.to_dict(),
        }

    def _is_hopeless(self, number: int) -> bool:
        """Return whether the last trials of a cell have failed alike, and none of it has ever trained an epoch."""
        last = self._failures.get(number, [])[-SAME_FAILURES:]
        return number not in self._have_trained and len(last) == SAME_FAILURES and len(set(last)) == 1

    def _cell_of(self, name: str) -> int | None:
        return next((number for number, cell in enumerate(self._cells) if cell.holds(name)), None)

    def _tell(self, name: str, state: str, error: float | None) -> None:
        number, _ = self._known[name]
        self._cells[number].tell(name, state, error)

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Ray Tune wants the search's state: a run goes on from its record alone."""
        Path(checkpoint_path).touch()

    def _has_time(self, number: int) -> bool:
        has_time = self._fits(self._cells[number].name)
        self._is_out_of_time = self._is_out_of_time or not has_time
        return has_time

    def _next_cell(self) -> int | None:
        count = len(self._cells)
        for offset in range(count):
            number = (self._turn + offset) % count
            if self._is_dealt[number] and self._cells[number].remaining and self._has_time(number):
                self._turn = number + 1
                return number
        return None


def tried_again_alone(recorded: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the ids of a resumed run's trials that have been retried for a fault after which they run in isolation.

    That is lack of memory, which the reason of a dead process names too, or an error of a GPU shared by MPS.
    """
    words = ("memory", SHARED_GPU_FAILED.lower())
    return {name for name, row in recorded.items() if any(each in row["retry_reasons"].lower() for each in words)}


def rehearse(study: Study) -> None:
    """Walk the first cell's search on made-up errors, so that a sampler that cannot do it is refused.

    Samplers of Optuna load what they need, and look at the space, only once they draw their first points.

    Raises:
        ValueError: a package is missing, or the sampler cannot search this space.
    """
    if study.search == "grid":
        return
    ranges = [dimension for dimension in study.dimensions.values() if isinstance(dimension, LogUniform)]
    if study.search == "CmaEsSampler" and not ranges:
        raise ValueError(
            f"CmaEsSampler must have a range LOW..HIGH to search, since it draws listed values at random, "
            f"got {study.learning_rates}."
        )
    cell = CellSearch(study, study.cells()[0], {})
    try:
        for number in range(min(REHEARSED_TRIALS, cell.remaining)):
            trial_id, _ = cell.ask()
            cell.tell(trial_id, "completed", 0.5 + 0.01 * number)
    except ImportError as error:
        raise ValueError(
            f"search must be a sampler whose packages are installed, got {study.search!r}, which needs {error.name}; "
            f"add it with pip install {error.name}."
        ) from error
    except Exception as error:  # a sampler refuses a space in its own ways
        reason = line(error)
        raise ValueError(f"search must be a sampler that takes this space, got {study.search!r} ({reason}).") from error


def sampler_seed(study: Study, cell: str, number: int) -> int:
    """Return the seed of the sampler that draws a cell's point of this number; one for all points of a grid."""
    number = 0 if study.search == "grid" else number
    told = _told(study, cell)
    # With the earlier run's own seeds a sampler would begin with the very points that it began with there.
    text = f"{study.base.seed} {cell} {number}" + (f" after {told}" if told else "")
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big")


def distributions(study: Study) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return what a cell searches, by the field of a trial's configuration, in Optuna's terms."""
    return {name: _distribution(dimension) for name, dimension in study.dimensions.items()}


def _told(study: Study, cell: str) -> list[EarlierPoint]:
    return [point for point in study.warm_start.points if point.cell == cell] if study.warm_start is not None else []


def _sampler(study: Study, cell: TrialConfig, number: int) -> optuna.samplers.BaseSampler:
    if study.search == "grid":
        return optuna.samplers.RandomSampler(seed=0)  # which is asked nothing: each point is given whole
    return make_sampler(study.search, sampler_seed(study, cell.cell, number), sampler_seed(study, cell.cell, 0))


def _grid_points(
    study: Study, cell: TrialConfig, space: dict[str, optuna.distributions.BaseDistribution]
) -> Iterator[tuple[Any, ...]]:
    """Yield a grid's points, as values of what `space` names, in the order of Optuna's shuffle of it."""
    listed = {name: list(each.values) for name, each in study.dimensions.items() if isinstance(each, Choice)}
    listed |= {"replicate": list(range(study.search_seeds))}
    seed = sampler_seed(study, cell.cell, 0)
    grid = optuna.create_study(sampler=optuna.samplers.GridSampler(listed, seed=seed))
    for _ in range(study.points_per_cell):
        params = grid.ask(space).params
        yield tuple(params[name] for name in space)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    match dimension:
        case Choice():
            return optuna.distributions.CategoricalDistribution(list(dimension.values))
        case LogUniform():
            return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=True)
        case _:
            assert_never(dimension)
