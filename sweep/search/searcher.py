"""One Optuna study per cell behind one Ray searcher."""

import hashlib
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import optuna
from ray.tune.search import Searcher

from search_spaces import Choice, Dimension, IntUniform, LogUniform, Scalar, Space, Uniform
from search_spaces.dimensions import in_words
from sweep.record.params import read_params, write_params
from sweep.record.schema import FINAL_STATES, Phase, TrialRow
from sweep.search.halving import Decision
from sweep.search.samplers import SEQUENCE, check_search, make_sampler
from sweep.study.prior_trials import PriorTrial
from sweep.study.study import Study, params_of
from trainables.common.validation import one_line
from trainables.config import TrialConfig
from trainables.hyperparameters import with_values

METRIC = "error"
"""What every trial reports and every search minimises."""

REHEARSED_TRIALS = 12
"""Trials after which every sampler of Optuna has left its first, random ones and loaded the packages that it needs."""

MOST_CORNERS = 1000
"""Points of a space that are looked at before a search that draws."""

SAME_FAILURES = 3
"""Trials of a cell that fail alike before the others of it are not run any more, where none has trained an epoch."""

Point = tuple[dict[str, Scalar], int]
"""A grid's point: hyperparameters by name, and a trial's seed."""

_REPLICATE = "replicate"

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

    def __init__(self, study: Study, cell: TrialConfig, recorded: Mapping[str, TrialRow]) -> None:
        """Begin a cell's search.

        Args:
            study: what to search.
            cell: the cell, its searched fields still placeholders.
            recorded: rows of `trials` by trial_id, of a run that goes on; other cells' too.
        """
        self._study = study
        self._cell = cell
        self._prefix = cell.cell.replace("/", "_")
        self._recorded = {key: row for key, row in recorded.items() if self.holds(key)}
        self._space = study.space_of(cell.variant)
        self._optuna = _new_study()
        self._asked: dict[str, optuna.trial.Trial] = {}
        self._of_record: dict[str, Point] = {}
        self._grid: Iterator[Point] = iter(())
        if study.search == "grid":
            self._of_record, self._grid = self._split(list(grid_points(study, cell)))
        # All that the record holds, also of points that are yet to be asked for again: no draw may repeat one.
        self._taken = {(row["params"], row["seed"]) for row in self._recorded.values()}
        for prior in _prior_trials(study, cell.cell):
            params = dict(prior.params)
            known = {name: distribution(self._space[name]) for name in params}
            self._optuna.add_trial(optuna.trial.create_trial(params=params, distributions=known, value=prior.error))

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
        return self._study.points_of(self._cell.variant) - len(self._asked)

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
        seed: int | None = None
        if self._study.search == "grid":
            params, seed = self._of_record[trial_id] if trial_id in self._of_record else next(self._grid)
            self._optuna.enqueue_trial(params)
        elif known is not None:
            seed = known["seed"]
            self._optuna.enqueue_trial(dict(read_params(known["params"])))
        trial = self._optuna.ask()
        drawn = draw(trial, self._space)
        self._asked[trial_id] = trial
        if known is not None and self._study.search == SEQUENCE and trial.number:
            # Optuna draws lazily, and not at all for a point that is enqueued: the next one drawn would be a point that
            # the record has. The study's first point is none of the sequence.
            _ = trial.relative_params
        config = with_values(self._cell, drawn)
        text = write_params(params_of(config, self._space))
        if seed is None:
            seed = next(seed for seed in itertools.count(config.seed) if (text, seed) not in self._taken)
        self._taken.add((text, seed))
        return trial_id, replace(config, seed=seed)

    def _split(self, points: list[Point]) -> tuple[dict[str, Point], Iterator[Point]]:
        """Return the points of a grid that the record has, by trial_id, and the others in the grid's order.

        A grid that became larger is in another order: what is recorded keeps its number, and the rest fill the others.
        """
        recorded = {(row["params"], row["seed"]): trial_id for trial_id, row in self._recorded.items()}
        keys = [
            (write_params(params_of(with_values(self._cell, params), self._space)), seed) for params, seed in points
        ]
        of_record = {recorded[key]: point for key, point in zip(keys, points, strict=True) if key in recorded}
        return of_record, iter([point for key, point in zip(keys, points, strict=True) if key not in recorded])

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


class TrialSearcher(Searcher):  # type: ignore[misc]
    """What the searchers of both phases share: which trials run, and how often each was begun."""

    phase: Phase

    def __init__(self, recorded: Mapping[str, TrialRow], fits: Callable[[str], bool]) -> None:
        super().__init__(metric=METRIC, mode="min")
        self._fits = fits
        self._running: dict[str, str] = {}
        self._lost: set[str] = set()
        self._alone = isolated_trials(recorded)
        self._attempts: Counter[str] = Counter()

    def lost(self, name: str, *, alone: bool = False) -> None:
        """Suggest a trial once more, in isolation where `alone`; called before Ray Tune says that it ended."""
        self._lost.add(name)
        if alone:
            self._alone.add(name)

    def failed(self, name: str, signature: str) -> None:
        """Learn how a trial failed permanently; called before Ray Tune says that it ended."""

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Ray Tune wants the search's state: a run is resumed from its record alone."""
        Path(checkpoint_path).touch()

    def _start(self, trial_id: str, name: str, config: TrialConfig) -> dict[str, Any]:
        """Return what `run_trial` takes for Ray's trial `trial_id`."""
        self._running[trial_id] = name
        self._attempts[name] += 1
        return {
            "trial_id": name,
            "attempt": self._attempts[name] - 1,
            "alone": name in self._alone,
            "phase": self.phase,
            "cell": config.cell,
            "config": config.to_dict(),
        }

    def _ended(self, trial_id: str) -> tuple[str, bool]:
        """Return the name of Ray's trial `trial_id`, which has ended, and whether it is suggested once more."""
        name = self._running.pop(trial_id)
        is_lost = name in self._lost
        self._lost.discard(name)
        return name, is_lost


@final
class StudySearcher(TrialSearcher):
    """Deals trials over the cells in turn, so that each gets the same number, whatever order they end in.

    A trial that early stopping puts aside has ended for Ray Tune; it is suggested once more when it may go on. So is
    one that lost its node, at once.
    """

    phase = "search"

    def __init__(
        self,
        study: Study,
        recorded: Mapping[str, TrialRow] | None = None,
        skip: Callable[[str, Phase, TrialConfig, str], object] = lambda *_: None,
        only: Container[str] | None = None,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Begin a search.

        Args:
            study: what to search.
            recorded: rows of `trials` by trial_id, of a run that goes on; those in a final state are not run again.
            skip: called with trial_id, phase, configuration and reason of each trial that is not run, since others of
                its cell have failed in the same way.
            only: variants whose trials are dealt; None deals all.
            fits: asked whether a cell's trials have the time for an epoch; those of other cells are dealt then.
        """
        super().__init__(recorded or {}, fits)
        self._recorded = dict(recorded or {})
        self._cells = [CellSearch(study, cell, self._recorded) for cell in study.cells()]
        self._is_dealt = [only is None or cell.variant in only for cell in study.cells()]
        self._is_out_of_time = False
        self._turn = 0
        self._known: dict[str, tuple[int, TrialConfig]] = {}
        self._aside: dict[str, float] = {}
        self._may_go_on: list[str] = []
        self._skip = skip
        self._failures: dict[int, list[str]] = {}
        self._have_trained = {self._cell_of(name) for name, row in self._recorded.items() if row["epochs_run"]}

    def suggest(self, trial_id: str) -> dict[str, Any] | Literal["FINISHED"] | None:
        """Return the next trial's configuration for Ray's trial `trial_id`; None where one must be waited for."""
        for name in self._may_go_on:
            if self._has_time(self._known[name][0]):
                self._may_go_on.remove(name)
                return self._start(trial_id, name, self._known[name][1])
        while (number := self._next_cell()) is not None:
            cell = self._cells[number]
            name, config = cell.ask()
            done = self._recorded.get(name)
            if done is not None and done["state"] in FINAL_STATES:
                error = done["val_error"] if done["val_error"] is not None else done["test_error"]
                cell.tell(name, done["state"], error)
                continue
            self._known[name] = (number, config)
            if self._is_hopeless(number):
                self._skip(
                    name, "search", config, f"not run: {SAME_FAILURES} trials of the cell failed alike before it"
                )
                cell.tell(name, "failed", None)
                continue
            return self._start(trial_id, name, config)
        # Those aside wait for one that runs, and one that runs may lose its node and come again.
        waits = self._running or (self._aside and not self._is_out_of_time)
        return None if waits else Searcher.FINISHED

    def decided(self, decision: Decision) -> None:
        """Hear what early stopping decided about a trial, before Ray Tune hears of it or after."""
        name = decision.trial_id
        if decision.verdict == "pause":
            self._aside[name] = decision.error
        elif name in self._aside:
            error = self._aside.pop(name)
            if decision.verdict == "continue":
                self._may_go_on.append(name)
            else:
                self._tell(name, "stopped", error)

    def failed(self, name: str, signature: str) -> None:
        """Learn how a trial failed permanently; called before Ray Tune says that it ended."""
        self._failures.setdefault(self._known[name][0], []).append(signature)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Note that a trial of the cell has trained an epoch."""
        self._have_trained.add(self._known[self._running[trial_id]][0])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the trial's cell how it ended."""
        name, is_lost = self._ended(trial_id)
        if is_lost:
            self._may_go_on.append(name)
            return
        if error or not result:
            self._tell(name, "failed", None)
            return
        if name in self._aside:
            self._aside[name] = result[METRIC]
        else:
            stopped = result["state"] == "running" and result["epoch"] < self._known[name][1].epochs
            self._tell(name, "stopped" if stopped else "completed", result[METRIC])

    def _is_hopeless(self, number: int) -> bool:
        """Return whether the last trials of a cell have failed alike, and none of it has ever trained an epoch."""
        last = self._failures.get(number, [])[-SAME_FAILURES:]
        return number not in self._have_trained and len(last) == SAME_FAILURES and len(set(last)) == 1

    def _cell_of(self, name: str) -> int | None:
        return next((number for number, cell in enumerate(self._cells) if cell.holds(name)), None)

    def _tell(self, name: str, state: str, error: float | None) -> None:
        number, _ = self._known[name]
        self._cells[number].tell(name, state, error)

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


def isolated_trials(recorded: Mapping[str, TrialRow]) -> set[str]:
    """Return the ids of a resumed run's trials that run on devices which they share with no other."""
    return {name for name, row in recorded.items() if row["isolated"]}


def rehearse(study: Study) -> None:
    """Walk each cell's search on made-up errors, so that a space or a sampler that cannot do it is refused.

    Samplers of Optuna load what they need, and look at the space, only once they draw their first points.

    Raises:
        ValueError: there is no such search, a package is missing, the sampler cannot search this space, or two values
            of it do not fit each other.
    """
    check_search(study.search)
    for cell in {cell.variant: cell for cell in study.cells()}.values():
        _rehearse_cell(study, cell)


def _rehearse_cell(study: Study, of_cell: TrialConfig) -> None:
    space = study.space_of(of_cell.variant)
    if study.search == "grid":
        for params in space.points():
            _check_fit(of_cell, params)
        return
    if study.search == "CmaEsSampler" and all(isinstance(each, Choice) for each in space.values()):
        raise ValueError(
            f"CmaEsSampler must have a range LOW..HIGH to search, since it draws listed values at random, got {space}."
        )
    for params in _corners(space):
        _check_fit(of_cell, params)
    cell = CellSearch(study, of_cell, {})
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
        reason = one_line(error)
        raise ValueError(f"search must be a sampler that takes this space, got {study.search!r} ({reason}).") from error


def _corners(space: Space) -> Iterable[dict[str, Scalar]]:
    """Return the points of a space whose ranges are at their ends: most that no draw may hit fails there too."""
    ends = {name: replace(Choice(each.ends), condition=each.condition) for name, each in space.items()}
    return Space(ends).points() if math.prod(len(each.values) for each in ends.values()) <= MOST_CORNERS else ()


def _check_fit(cell: TrialConfig, params: Mapping[str, Scalar]) -> None:
    try:
        with_values(cell, params)
    except ValueError as error:
        point = ", ".join(f"{name} {in_words(value)}" for name, value in params.items())
        raise ValueError(
            f"The space of {cell.variant} must hold values that fit each other, got {point}: {error}"
        ) from error


def sampler_seed(study: Study, cell: str, number: int) -> int:
    """Return the seed of the sampler that draws a cell's point of this number; one for all points of a grid."""
    number = 0 if study.search == "grid" else number
    prior = _prior_trials(study, cell)
    # With the earlier run's own seeds a sampler would begin with the very points that it began with there.
    text = f"{study.base.seed} {cell} {number}" + (f" after {prior}" if prior else "")
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _prior_trials(study: Study, cell: str) -> list[PriorTrial]:
    return [trial for trial in study.warm_start.points if trial.cell == cell] if study.warm_start is not None else []


def _sampler(study: Study, cell: TrialConfig, number: int) -> optuna.samplers.BaseSampler:
    if study.search == "grid":
        return optuna.samplers.RandomSampler(seed=0)  # which is asked nothing: each point is given whole
    return make_sampler(study.search, sampler_seed(study, cell.cell, number), sampler_seed(study, cell.cell, 0))


def grid_points(study: Study, cell: TrialConfig) -> Iterator[Point]:
    """Yield a grid's points in the order of Optuna's shuffle of it, each with the seed of its trial."""
    space, seed = study.space_of(cell.variant), sampler_seed(study, cell.cell, 0)
    if any(dimension.condition for dimension in space.values()):
        # Optuna's grid walks every combination, also of what does not exist together.
        points = [(point, cell.seed + number) for point in space.points() for number in range(study.search_seeds)]
        random.Random(seed).shuffle(points)  # noqa: S311 - an order, no secret
        yield from points
        return
    listed: dict[str, Sequence[Any]] = {name: each.listed() or () for name, each in space.items()}
    listed[_REPLICATE] = range(study.search_seeds)
    names = sorted(listed)
    shuffled = list(itertools.product(*(listed[name] for name in names)))
    # As Optuna's GridSampler shuffles, whose trials each take longer the more there are: 2,000 points took it 4.9 s.
    np.random.RandomState(seed).shuffle(shuffled)
    for values in shuffled:
        params = dict(zip(names, values, strict=True))
        yield {name: params[name] for name in space}, cell.seed + params[_REPLICATE]


def _new_study() -> optuna.Study:
    """Return an empty study of Optuna's that prints nothing."""
    # Below ERROR it says that it is new, and at each point that some of it is drawn by another sampler, as it must.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study()


def draw(trial: optuna.trial.Trial, space: Space) -> dict[str, Scalar]:
    """Return what a trial of Optuna's draws of a space, one dimension after the other."""
    drawn: dict[str, Scalar] = {}
    for name, dimension in space.items():
        if space.is_active(name, drawn):
            drawn[name] = _suggest(trial, name, dimension)
    return drawn


def _suggest(trial: optuna.trial.Trial, name: str, dimension: Dimension) -> Scalar:
    match of_kind := distribution(dimension):
        case optuna.distributions.CategoricalDistribution():
            return trial.suggest_categorical(name, of_kind.choices)  # type: ignore[no-any-return]
        case optuna.distributions.FloatDistribution():
            return trial.suggest_float(name, of_kind.low, of_kind.high, step=of_kind.step, log=of_kind.log)  # type: ignore[no-any-return]
    return trial.suggest_int(name, of_kind.low, of_kind.high, step=of_kind.step)  # type: ignore[no-any-return]


def distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """Return a dimension in Optuna's terms."""
    match dimension:
        case Choice():
            return optuna.distributions.CategoricalDistribution(list(dimension.values))
        case LogUniform():
            return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=True)
        case Uniform():
            # Optuna warns of an end that no step leads to.
            listed = dimension.listed()
            high = listed[-1] if listed else dimension.high
            return optuna.distributions.FloatDistribution(dimension.low, high, step=dimension.step)
        case IntUniform():
            high = range(dimension.low, dimension.high + 1, dimension.step)[-1]
            return optuna.distributions.IntDistribution(dimension.low, high, step=dimension.step)
    raise AssertionError(f"a dimension of a kind of its own: {dimension}")
