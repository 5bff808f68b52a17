"""What `--extend` may add to a run that has begun, so that all that it has done stays as it is and stays its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from search_spaces import Choice, Dimension, Scalar, Space
from search_spaces.dimensions import in_words
from sweep.study.diff import Difference, StudyMismatchError, join_words, seeds_of
from sweep.study.study import Study
from trainables.config import is_prefix_of
from trainables.hyperparameters import value_of
from trainables.recipe import network_of

EXTENDABLE = ("variants", "trials_per_cell", "seeds", "confirm_top", "epochs")
"""Settings of which `--extend` takes more, besides the values of hyperparameters."""

ADVICE = "Leave these options out, or begin a new run under another --name"


def extended(recorded: Study, given: Study, differences: Sequence[Difference]) -> Study:
    """Return the recorded study with what the given one has more of.

    What is recorded comes first, in its order: the numbers of a grid's points go by the record, and the rest follow.

    Raises:
        StudyMismatchError: the given study does not hold all of the recorded one, or differs where it may not.
    """
    names = [difference.setting for difference in differences]
    reasons = {name: _why_not(name, recorded, given) for name in names}
    refused = [replace(each, why=reasons[each.setting]) for each in differences if reasons[each.setting]]
    if refused:
        must = "With --extend the study given must be the recorded one or hold more "
        must += join_words(("values of hyperparameters", *EXTENDABLE))
        raise StudyMismatchError(must, refused, f"{ADVICE}.")
    changed: dict[str, Any] = {}
    for name in (name for name in names if name not in _dimensions(given)):
        if name == "variants":
            changed[name] = (*recorded.variants, *(new for new in given.variants if new not in recorded.variants))
        elif name == "epochs":
            changed["base"] = replace(recorded.base, epochs=given.base.epochs)
        else:
            changed[name] = getattr(given, name)
    return replace(recorded, **changed, **_merged_spaces(recorded, given, names))


def _merged_spaces(recorded: Study, given: Study, names: Sequence[str]) -> dict[str, Any]:
    space, spaces = recorded.space, dict(recorded.spaces)
    # In the given order: a dimension stands behind the one that it depends on.
    for setting in (setting for setting in _dimensions(given) if setting in names):
        variant, _, name = setting.rpartition(":")
        merged = {name: _merged(recorded, given, setting)}
        if variant:
            spaces[variant] = spaces.get(variant, Space()).with_dimensions(merged)
        else:
            space = space.with_dimensions(merged)
    return {"space": space, "spaces": spaces}


def _why_not(setting: str, recorded: Study, given: Study) -> str:
    """Return why a setting cannot become what is given, in words, or an empty string where it can."""
    if setting in _dimensions(given):
        return _why_not_values(setting, recorded, given)
    if setting in _dimensions(recorded):
        return "it is searched; --vary takes more values of it"
    if setting not in EXTENDABLE:
        return "it decides what the trials that are done have computed"
    checks: dict[str, Callable[[Study, Study], str]] = {
        "variants": lambda was, now: _lacks(was.variants, now.variants),
        "epochs": _why_not_epochs,
        "trials_per_cell": lambda was, now: _fewer(was.trials_per_cell, now.trials_per_cell) or _blocks(was, now),
        "seeds": lambda was, now: _fewer(seeds_of(was), seeds_of(now)) or _blocks(was, now),
        "confirm_top": lambda was, now: _fewer(was.confirm_top, now.confirm_top),
    }
    return checks[setting](recorded, given)


def _why_not_values(setting: str, recorded: Study, given: Study) -> str:
    if given.search != recorded.search:
        return "it goes with the search"
    if _is_of_a_new_variant(setting, recorded):
        return ""
    if recorded.search != "grid":
        return (
            f"the search {recorded.search} has drawn from what is recorded; "
            "--extend takes more --trials-per-cell, a new run with --warm-start other values"
        )
    was = _dimensions(recorded).get(setting)
    if was is not None and _dimensions(given)[setting].condition != was.condition:
        return "it was recorded under another condition"
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
        before, after = (join_words([*map(str, config.drop_epochs)]) for config in (was, now))
        return (
            f"the learning rate falls at shares of them, after {before} of {was.epochs} and after {after} of "
            f"{now.epochs}, so that trials that are done are no beginnings of longer ones"
        )
    return ""


def _blocks(recorded: Study, given: Study) -> str:
    """Return why trials cannot join those of a cell that have waited for each other, in words."""
    if recorded.early_stopping != "halving":
        return ""
    size = recorded.keep_one_in ** len(recorded.rungs)
    for variant in recorded.variants:
        before = recorded.points_of(variant)
        if variant in given.variants and before != given.points_of(variant) and before % size:
            return (
                f"halving judges a cell's trials in blocks of {size}, and the last block of the recorded {before} is "
                "not whole: it was judged without those that would join it"
            )
    return ""


def _dimensions(study: Study) -> dict[str, Dimension]:
    """Return what a study searches under the names that `Study.settings` has for it."""
    own = {
        f"{variant}:{name}": dimension for variant, space in study.spaces.items() for name, dimension in space.items()
    }
    return {**study.space, **own}


def _is_of_a_new_variant(setting: str, recorded: Study) -> bool:
    variant, _, _ = setting.rpartition(":")
    return bool(variant) and not any(variant in (each, network_of(each)) for each in recorded.variants)


def _values(study: Study, setting: str) -> tuple[Scalar, ...]:
    """Return what a grid tries of a setting; its cells' own values where it does not search it."""
    variant, _, name = setting.rpartition(":")
    dimension = _dimensions(study).get(setting) or (study.space.get(name) if variant else None)
    if dimension is not None:
        return dimension.listed() or ()
    meant = [cell for cell in study.cells() if variant in ("", cell.variant, network_of(cell.variant))]
    own = (value_of(cell, name) for cell in meant if name not in study.space_of(cell.variant))
    return tuple(dict.fromkeys(own))


def _merged(recorded: Study, given: Study, setting: str) -> Dimension:
    """Return what a grid tries from now on: what is recorded comes first, in its order."""
    dimension = _dimensions(given)[setting]
    if _is_of_a_new_variant(setting, recorded):
        return dimension
    before = _values(recorded, setting)
    new = tuple(value for value in _values(given, setting) if value not in before)
    return replace(Choice((*before, *new)), condition=dimension.condition)


def _lacks(recorded: tuple[Any, ...], given: tuple[Any, ...]) -> str:
    lost = [value for value in recorded if value not in given]
    return f"it must hold all that is recorded, and lacks {join_words([*map(in_words, lost)])}" if lost else ""


def _fewer(recorded: int | None, given: int | None) -> str:
    return "it must not become less" if (given or 0) < (recorded or 0) else ""
