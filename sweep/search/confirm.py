"""The second phase of the protocol `holdout`: what is trained again, and the searcher that deals it."""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, final

from ray.tune.search import Searcher

from sweep.record.params import read_params
from sweep.record.schema import FINAL_STATES, TrialRow, cell_of, reopened
from sweep.record.selection import candidates, rank_configurations
from sweep.search.searcher import TrialSearcher
from sweep.study.study import FIRST_FRESH_SEED, Study
from trainables.config import TrialConfig
from trainables.hyperparameters import with_values


def confirmations(study: Study, trials: Iterable[TrialRow]) -> dict[str, TrialConfig]:
    """Return the trials of the second phase by their ids: of each cell the best configurations, with fresh seeds.

    They train on all training images and read the test error once. Seeds come first, so that every cell has its first
    result before one has its last. A cell of which no trial was completed has none.

    An id holds the configuration's rank when it was first confirmed. One that the record has confirmed keeps its ids,
    also where the choice, made again among more trials, ranks it otherwise; another one gets a rank that is free.
    """
    of_cell: dict[str, list[TrialRow]] = {cell.cell: [] for cell in study.cells()}
    for row in trials:
        of_cell[cell_of(row)].append(row)
    found = {}
    chosen = {
        cell.cell: rank_configurations(candidates(of_cell[cell.cell], study.protocol), seeds=study.search_seeds)[
            : study.confirm_top
        ]
        for cell in study.cells()
    }
    ranks = {cell: _ranks([group[0].params for group in groups], of_cell[cell]) for cell, groups in chosen.items()}
    for number in range(study.confirm_seeds):
        for cell in study.cells():
            for params, rank in ranks[cell.cell].items():
                found[f"{cell.cell.replace('/', '_')}_confirm_{rank}_{number}"] = replace(
                    with_values(cell, read_params(params)),
                    seed=study.base.seed + FIRST_FRESH_SEED + number,
                    held_out=0.0,
                    evaluate_every=None,
                    averaged_at=(),
                )
    return found


def _ranks(selected: Iterable[str], trials: Iterable[TrialRow]) -> dict[str, int]:
    """Return the rank in the ids of each selected configuration, in their order.

    Args:
        selected: configurations of a cell, the best first.
        trials: rows of `trials` of the same cell.
    """
    taken = {
        row["params"]: int(match[1])
        for row in trials
        if row["phase"] == "confirm" and (match := re.search(r"_confirm_(\d+)_\d+$", row["trial_id"]))
    }
    free = (rank for rank in itertools.count() if rank not in set(taken.values()))
    return {params: taken[params] if params in taken else next(free) for params in selected}


def is_done(study: Study, trials: Sequence[TrialRow]) -> bool:
    """Return whether all trials of a study have ended, those of the second phase too, by rows of `trials`."""
    now = reopened({row["trial_id"]: row for row in trials}, study.epochs)
    if len(search_ended(now.values())) < study.search_trials:
        return False
    ended = {trial_id for trial_id, row in now.items() if row["state"] in FINAL_STATES}
    return not study.confirm_seeds or confirmations(study, trials).keys() <= ended


def search_ended(trials: Iterable[TrialRow]) -> set[str]:
    """Return the ids of the trials of the search that have ended."""
    return {row["trial_id"] for row in trials if row["phase"] == "search" and row["state"] in FINAL_STATES}


def planned_trials(study: Study, trials: Sequence[TrialRow], wanted: Collection[str] | None = None) -> int:
    """Return how many trials the run will hold in a final state, as far as that is known.

    Beside those that the study plans these are the ones that confirmed what, after an extension, is no longer chosen.
    """
    searched = study.search_trials
    confirmed = {row["trial_id"] for row in trials if row["phase"] == "confirm" and row["state"] in FINAL_STATES}
    if wanted is None:
        return searched + max(len(confirmed), study.confirm_trials)
    return searched + len(confirmed | set(wanted))


@final
class ConfirmSearcher(TrialSearcher):
    """Deals given trials in order, without those that the record holds in a final state."""

    phase = "confirm"

    def __init__(
        self,
        trials: Mapping[str, TrialConfig],
        recorded: Mapping[str, TrialRow],
        fits: Callable[[str], bool] = lambda _: True,
    ) -> None:
        super().__init__(recorded, fits)
        self._trials = trials
        self._left = [name for name in trials if not (name in recorded and recorded[name]["state"] in FINAL_STATES)]

    def suggest(self, trial_id: str) -> dict[str, Any] | Literal["FINISHED"] | None:
        """Return the next trial's configuration; None where one that runs may yet come again."""
        name = next((name for name in self._left if self._fits(self._trials[name].cell)), None)
        if name is None:
            return None if self._running else Searcher.FINISHED
        self._left.remove(name)
        return self._start(trial_id, name, self._trials[name])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Learn nothing, but whether the trial comes again, first: all else was decided before."""
        name, is_lost = self._ended(trial_id)
        if is_lost:
            self._left.insert(0, name)
