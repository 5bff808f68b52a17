"""What `--extend` may add to a run that has begun, so that all that it has done stays as it is and stays its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces import Choice, Dimension
from sweep.study.diff import Difference, StudyDiffers, seeds_of
from sweep.study.study import DIMENSIONS, Study
from trainables.config import is_prefix_of

EXTENDABLE = (
    *("variants", "learning_rates", "weight_decays", "batch_sizes", "trials_per_cell", "seeds", "confirm_top"),
    "epochs",
)
"""Settings of which `--extend` takes more."""

ADVICE = "Leave these options out, or begin a new run under another --name"


def extended(recorded: Study, given: Study, differences: Sequence[Difference]) -> Study:
    """Return the recorded study with what the given one has more of.

    What is recorded comes first, in its order: the numbers of a grid's points go by the record, and the rest follow.

    Args:
        recorded: what the run has recorded.
        given: what the command line says.
        differences: where they differ.

    Raises:
        StudyDiffers: the given study does not hold all of the recorded one, or differs where it may not.
    """
    names = [difference.setting for difference in differences]
    reasons = {name: _why_not(name, recorded, given) for name in names}
    refused = [replace(each, why=reasons[each.setting]) for each in differences if reasons[each.setting]]
    if refused:
        must = f"With --extend the study given must be the recorded one or hold more {_listed(EXTENDABLE)}"
        raise StudyDiffers(must, refused, f"{ADVICE}.")
    changed: dict[str, Any] = {}
    for name in names:
        if name == "variants":
            changed[name] = (*recorded.variants, *(new for new in given.variants if new not in recorded.variants))
        elif name in DIMENSIONS.values():
            before = _values(recorded, name)
            changed[name] = Choice((*before, *(value for value in _values(given, name) if value not in before)))
        elif name == "epochs":
            changed["base"] = replace(recorded.base, epochs=given.base.epochs)
        else:
            changed[name] = getattr(given, name)
    return replace(recorded, **changed)


def reopened(rows: Mapping[str, Mapping[str, Any]], epochs: int) -> dict[str, dict[str, Any]]:
    """Return rows of `trials` with those as pending that were completed with fewer epochs than the study has now.

    They go on from their checkpoints. Trials that were stopped, diverged or failed stay what they are.

    Args:
        rows: by trial_id.
        epochs: the study's.
    """
    return {
        trial_id: dict(row)
        | (
            {
                "state": "pending",
                "epochs_budget": epochs,
                "reason": f"goes on from epoch {row['epochs_run']} of {row['epochs_budget']} to {epochs}",
            }
            if row["state"] == "completed" and row["epochs_budget"] < epochs
            else {}
        )
        for trial_id, row in rows.items()
    }


def _why_not(setting: str, recorded: Study, given: Study) -> str:
    """Return why a setting cannot become what is given, in words, or an empty string where it can."""
    if setting not in EXTENDABLE:
        return "it decides what the trials that are done have computed"
    check: Callable[[Study, Study], str] | None = {
        "variants": lambda was, now: _lacks(was.variants, now.variants),
        "epochs": _why_not_epochs,
        "trials_per_cell": lambda was, now: _fewer(was.trials_per_cell, now.trials_per_cell) or _blocks(was, now),
        "seeds": lambda was, now: _fewer(seeds_of(was), seeds_of(now)) or _blocks(was, now),
        "confirm_top": lambda was, now: _fewer(was.confirm_top, now.confirm_top),
    }.get(setting)
    return check(recorded, given) if check else _why_not_values(setting, recorded, given)


def _why_not_values(setting: str, recorded: Study, given: Study) -> str:
    if given.search != recorded.search:
        return "it goes with the search"
    if recorded.search != "grid":
        return (
            f"the search {recorded.search} has drawn from what is recorded; "
            "--extend takes more --trials-per-cell, a new run with --warm-start other values"
        )
    return _lacks(_values(recorded, setting), _values(given, setting)) or _blocks(recorded, given)


def _why_not_epochs(recorded: Study, given: Study) -> str:
    was, now = recorded.base, given.base
    if fewer := _fewer(was.epochs, now.epochs):
        return fewer
    if recorded.early_stopping != "none":
        return f"the epochs at which {recorded.early_stopping} has judged trials are shares of them"
    if now.iterations is not None:
        return "a streamed trial's steps are cut into them, so that each would become shorter"
    if not is_prefix_of(was, now):
        before, after = (_listed(tuple(map(str, config.drop_epochs))) for config in (was, now))
        return (
            f"the learning rate falls at shares of them, after {before} of {was.epochs} and after {after} of "
            f"{now.epochs}, so that trials that are done are no beginnings of longer ones"
        )
    return ""


def _blocks(recorded: Study, given: Study) -> str:
    """Return why trials cannot join those of a cell that have waited for each other, in words."""
    if recorded.early_stopping != "halving" or recorded.points_per_cell == given.points_per_cell:
        return ""
    size = recorded.eta ** len(recorded.rungs)
    if recorded.points_per_cell % size == 0:
        return ""
    return (
        f"halving judges a cell's trials in blocks of {size}, and the last block of the recorded "
        f"{recorded.points_per_cell} is not whole: it was judged without those that would join it"
    )


def _values(study: Study, setting: str) -> tuple[float, ...]:
    """Return what a grid tries of a setting, the study's own value where it lists none."""
    (field,) = (name for name, where in DIMENSIONS.items() if where == setting)
    dimension: Dimension | None = getattr(study, setting)
    return dimension.values if isinstance(dimension, Choice) else (getattr(study.base, field),)


def _lacks(recorded: tuple[Any, ...], given: tuple[Any, ...]) -> str:
    lost = [value for value in recorded if value not in given]
    return f"it must hold all that is recorded, and lacks {_listed(tuple(map(str, lost)))}" if lost else ""


def _fewer(recorded: int | None, given: int | None) -> str:
    return "it must not become less" if (given or 0) < (recorded or 0) else ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
