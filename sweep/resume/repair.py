"""Before a run goes on: what is damaged in its record is put back from the trials' checkpoints, or the run is refused.

A checkpoint holds the reports of all epochs so far, so that rows of `epochs` which are damaged or gone come back as
they were, of trials that have ended too. Nothing is deleted: damaged files move to the folder `damaged`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from sweep.record.damage import missing_epochs, read_rows
from sweep.record.params import read_params
from sweep.record.schema import EPOCHS, FINAL_STATES, EpochRow, TrialRow
from sweep.record.store import Store, each_once
from trainables.checkpoint import Checkpoint
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of


def mend(store: Store) -> list[str]:
    """Put back rows of `epochs` that a run's record has lost; return in words what was done and what is gone for good.

    Args:
        store: locked by this process.

    Raises:
        ValueError: the table of trials or that of decisions is damaged, or damaged parts of the epochs hold rows that
            no checkpoint has. The record is as it was then.
    """
    trials = _whole(store, "trials", _TRIALS_ADVICE)
    _whole(store, "decisions", _DECISIONS_ADVICE)
    parts = store.each_part(lambda name: (name, *read_rows(store, name, "epochs")))
    damaged = {name: faults[0] for name, _, faults in parts if faults}
    good = [table for _, table, faults in parts if not faults]
    epochs = each_once(pa.concat_tables([*good, EPOCHS.empty_table()]))
    missing = missing_epochs(trials, epochs)
    if not missing and not damaged:
        return []
    rows: dict[str, TrialRow] = {row["trial_id"]: row for row in trials.to_pylist()}
    there = set(zip(epochs["trial_id"].to_pylist(), epochs["epoch"].to_pylist(), strict=True))
    found: list[EpochRow] = []
    lost: dict[str, int] = {}
    for trial_id, count in missing.items():
        reported = [row for row in _reports(store, rows[trial_id]) if (trial_id, row["epoch"]) not in there]
        found += reported
        # A trial that goes on without a checkpoint begins anew, and reports all of its epochs.
        if rows[trial_id]["state"] in FINAL_STATES and len(reported) < count:
            lost[trial_id] = count - len(reported)
    gone = f"of {_ended(lost)}"
    if lost and damaged:
        name, why = next(iter(damaged.items()))
        count = sum(lost.values())
        raise ValueError(
            f"{why} {_count(count, 'row')} {gone} {'is' if count == 1 else 'are'} in no checkpoint either; put back "
            f"{name} from a copy, or move it elsewhere to go on without what it holds."
        )
    store.append_epochs(found)
    said = [f"{store.folder(name)} is damaged and was moved to {store.put_aside(name)}." for name in damaged]
    if found:
        trials_of = len({row["trial_id"] for row in found})
        said.append(
            f"{_count(len(found), 'lost row')} of epochs came back from the checkpoints of "
            f"{_count(trials_of, 'trial')}."
        )
    if lost:
        count = sum(lost.values())
        said.append(f"{_count(count, 'row')} of epochs {'is' if count == 1 else 'are'} lost, {gone}.")
    return said


_TRIALS_ADVICE = (
    "put it back from a copy, or move it elsewhere: trials are then dealt anew, and those that have a checkpoint "
    "report from it what they had done"
)
_DECISIONS_ADVICE = "put it back from a copy, or move it elsewhere: early stopping then forgets what it decided"


def _whole(store: Store, kind: str, advice: str) -> pa.Table:
    table, faults = read_rows(store, f"{kind}.parquet", kind)
    if faults:
        raise ValueError(f"{faults[0]} A run goes on from a whole one only; {advice}.")
    return table


def _reports(store: Store, trial: TrialRow) -> list[EpochRow]:
    """Return the rows of `epochs` that a trial's checkpoint holds, as far as its row counts them."""
    try:
        checkpoint = Checkpoint.load(store.checkpoint(trial["trial_id"]))
    except ValueError:  # none, or a damaged one
        return []
    if not _is_of(trial, checkpoint.config):
        return []
    reports = [asdict(report) for report in checkpoint.training.reports if report.epoch <= trial["epochs_run"]]
    rows: Any = [{name: each.get(name) for name in EPOCHS.names} | {"trial_id": trial["trial_id"]} for each in reports]
    return rows  # type: ignore[no-any-return]


def _is_of(trial: TrialRow, config: TrialConfig) -> bool:
    """Return whether a checkpoint's configuration is that of a trial."""
    searched = read_params(trial["params"])
    same = all(getattr(config, name) == trial[name] for name in ("dataset", "augmentation", "variant", "lr", "seed"))
    try:
        return same and all(value_of(config, name) == value for name, value in searched.items())
    except KeyError:  # a name that this version does not know
        return False


def _ended(lost: Mapping[str, int]) -> str:
    first = next(iter(lost), "")
    if len(lost) == 1:
        return f"1 trial that has ended: {first}"
    return f"{len(lost)} trials that have ended, {first} among them"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
