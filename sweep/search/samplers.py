"""Which searches there are: the grid, and Optuna's samplers by name."""

import inspect
import warnings

import optuna

from trainables.common.validation import quote

ALIASES = {"tpe": "TPESampler", "random": "RandomSampler"}
"""Short names of the two samplers that are used most."""

SEQUENCE = "QMCSampler"
"""The sampler whose points follow each other in one sequence; it keeps in the study how many it has drawn."""


def _takes_a_seed_alone(sampler: type[optuna.samplers.BaseSampler]) -> bool:
    if inspect.isabstract(sampler):
        return False
    parameters = inspect.signature(sampler).parameters
    return "seed" in parameters and all(
        parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in parameters.values()
    )


# Gathered once from what Optuna exports: a name that a user types is looked up here and reaches nothing else.
_SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    name: thing
    for name in sorted(optuna.samplers.__all__)
    if isinstance(thing := getattr(optuna.samplers, name), type)
    and issubclass(thing, optuna.samplers.BaseSampler)
    and _takes_a_seed_alone(thing)
}

SEARCHES: tuple[str, ...] = ("grid", *ALIASES, *_SAMPLERS)
"""Every name that a study's `search` may have."""


def check_search(search: str) -> None:
    """Check that there is a search of this name.

    Raises:
        ValueError: there is none.
    """
    if search not in SEARCHES:
        raise ValueError(f"search must be one of {', '.join(SEARCHES)}, got {quote(search)}.")


def make_sampler(search: str, seed: int, first_seed: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a search other than the grid, for one point of a cell.

    Args:
        search: one of `SEARCHES`.
        seed: of the sampler's own draws; another one for each point.
        first_seed: that of the cell's first point, which a sampler takes that walks along one sequence.
    """
    with warnings.catch_warnings():
        # That a sampler's interface may change matters where it is called by more than its seed.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search == SEQUENCE:
            # Unscrambled, the sequence has no seed: every cell and every run would walk along the same points. The
            # scrambling is one for the whole cell, without which its points would not fill the space evenly; the first
            # point is none of the sequence.
            first = optuna.samplers.RandomSampler(seed=seed)
            return optuna.samplers.QMCSampler(scramble=True, seed=first_seed, independent_sampler=first)
        return _SAMPLERS[ALIASES.get(search, search)](seed=seed)
