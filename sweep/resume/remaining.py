"""What of a run is left to run, in words: what `--dry-run` shows of one that goes on."""

from collections.abc import Container, Mapping
from dataclasses import replace

from sweep.record.params import describe, read_params, write_params
from sweep.record.schema import FINAL_STATES, TrialRow, reopened
from sweep.search.searcher import CellSearch
from sweep.study.study import Study, params_of
from trainables.config import TrialConfig
from trainables.hyperparameters import with_values

SHOWN = 6
"""Trials of a cell that are named; the others are counted."""


def left_to_run(
    study: Study,
    recorded: Mapping[str, TrialRow],
    wanted: Mapping[str, TrialConfig] | None,
    only: Container[str] | None = None,
) -> list[str]:
    """Return a line for each cell with trials left, and one for the second phase while `wanted`, its own, is None."""
    recorded = reopened(recorded, study.epochs)
    lines = []
    cells = [cell for cell in study.cells() if only is None or cell.variant in only]
    for cell in cells:
        begun, undrawn = _left_in_search(study, cell, recorded)
        words = [_words(study, config, recorded.get(trial_id)) for trial_id, config in begun]
        named = words[:SHOWN] + ([f"{len(words) - SHOWN:,} more"] if len(words) > SHOWN else [])
        if undrawn:
            named.append(f"{undrawn:,} that {study.search} has yet to draw")
        if named:
            lines.append(f"{cell.cell}: {'; '.join(named)}")
    if wanted is None:
        others = [cell for cell in study.cells() if cell not in cells]
        # No second phase begins before every cell's search has ended.
        if study.confirm_seeds and not any(any(_left_in_search(study, cell, recorded)) for cell in others):
            count = sum(study.confirmed_of(cell.variant) for cell in cells)
            lines.append(f"then, of {count:,} that confirm what is chosen, those that are not in the record")
        return lines
    for trial_id, config in wanted.items():
        if only is not None and config.variant not in only:
            continue
        row = recorded.get(trial_id)
        if row is None or row["state"] not in FINAL_STATES:
            lines.append(f"{config.cell} confirm: {_words(study, config, row)}")
    return lines


def _left_in_search(
    study: Study, cell: TrialConfig, recorded: Mapping[str, TrialRow]
) -> tuple[list[tuple[str, TrialConfig]], int]:
    """Return a cell's trials that have not ended and whose points are known, and how many others there are."""
    count = study.points_of(cell.variant)
    if study.search == "grid":
        search = CellSearch(study, cell, recorded)
        known = [search.ask() for _ in range(count)]
    else:
        # To draw a point takes the errors of all before it.
        ids = (f"{cell.cell.replace('/', '_')}_{number:04d}" for number in range(count))
        known = [(each, _as_recorded(cell, recorded[each])) for each in ids if each in recorded]
    left = [each for each in known if each[0] not in recorded or recorded[each[0]]["state"] not in FINAL_STATES]
    return left, count - len(known)


def _as_recorded(cell: TrialConfig, row: TrialRow) -> TrialConfig:
    return replace(with_values(cell, read_params(row["params"])), seed=row["seed"])


def _words(study: Study, config: TrialConfig, row: TrialRow | None) -> str:
    values = describe(write_params(params_of(config, study.space_of(config.variant))))
    begun = f" from epoch {row['epochs_run']}" if row is not None and row["epochs_run"] else ""
    return f"{values} seed {config.seed}{begun}"
