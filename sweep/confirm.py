"""The second phase of the protocol `holdout`: what is trained again, and the searcher that deals it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

from ray.tune.search import Searcher

from sweep.records import FINAL_STATES
from sweep.search import METRIC, tried_again_alone
from sweep.selection import candidates, rank_configurations, visible_columns
from sweep.studies import FIRST_FRESH_SEED, Study
from trainables.config import TrialConfig


def confirmations(
    study: Study, trials: Iterable[Mapping[str, Any]], best_epochs: Mapping[str, float] | None = None
) -> dict[str, TrialConfig]:
    """Return the trials of the second phase by their ids: of each cell the best configurations, with fresh seeds.

    They train on all training images and read the test error once. Seeds come first, so that every cell has its first
    result before one has its last. A cell of which no trial was completed has none.

    Args:
        study: of the protocol `holdout`.
        trials: rows of `trials`.
        best_epochs: lowest error of any epoch by trial_id, where the study's criterion is `best-epoch`.
    """
    of_cell: dict[str, list[Mapping[str, Any]]] = {cell.cell: [] for cell in study.cells()}
    for row in trials:
        # Cut here: what chooses is handed nothing that it must not see.
        of_cell[f"{row['dataset']}/{row['augmentation']}/{row['variant']}"].append(
            {name: row[name] for name in visible_columns(study.protocol)}
        )
    found = {}
    chosen = {
        cell.cell: rank_configurations(
            candidates(of_cell[cell.cell], study.protocol, best_epochs), seeds=study.search_seeds
        )[: study.confirm_top]
        for cell in study.cells()
    }
    for number in range(study.confirm_seeds):
        for cell in study.cells():
            for rank, group in enumerate(chosen[cell.cell]):
                lr, weight_decay, batch_size = group[0].configuration
                found[f"{cell.cell.replace('/', '_')}_confirm_{rank}_{number}"] = replace(
                    cell,
                    lr=lr,
                    weight_decay=weight_decay,
                    batch_size=int(batch_size),
                    seed=study.base.seed + FIRST_FRESH_SEED + number,
                    held_out=0.0,
                    test_at_end=True,
                    averaged_at=(),
                )
    return found


@final
class ConfirmSearcher(Searcher):  # type: ignore[misc]
    """Deals given trials in order, without those that the record holds in a final state."""

    def __init__(self, trials: Mapping[str, TrialConfig], recorded: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(metric=METRIC, mode="min")
        self._left = [
            (name, config) for name, config in trials.items() if recorded.get(name, {}).get("state") not in FINAL_STATES
        ]
        self._running: dict[str, tuple[str, TrialConfig]] = {}
        self._lost: set[str] = set()
        self._alone = tried_again_alone(recorded)
        self._attempts: Counter[str] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | Literal["FINISHED"] | None:
        """Return the next trial's configuration; None where one that runs may yet come again."""
        if not self._left:
            return None if self._running else Searcher.FINISHED
        name, config = self._running[trial_id] = self._left.pop(0)
        attempt = self._attempts[name]
        self._attempts[name] += 1
        return {
            "trial_id": name,
            "attempt": attempt,
            "alone": name in self._alone,
            "phase": "confirm",
            "cell": config.cell,
            "config": config.to_dict(),
        }

    def lost(self, name: str, *, alone: bool = False) -> None:
        """Hear that a trial is begun again, before Ray Tune says that it ended: it is suggested once more, first."""
        self._lost.add(name)
        if alone:
            self._alone.add(name)

    def failed(self, name: str, signature: str) -> None:
        """Learn nothing: the seeds of a configuration that has completed a trial are worth a try each."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Learn nothing, but whether the trial comes again: all else was decided before."""
        name, config = self._running.pop(trial_id)
        if name in self._lost:
            self._lost.discard(name)
            self._left.insert(0, (name, config))

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file where Ray Tune wants the search's state: a run goes on from its record alone."""
        Path(checkpoint_path).touch()
