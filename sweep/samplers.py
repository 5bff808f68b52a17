"""Which searches there are: the grid, and Optuna's samplers by name."""

import inspect
import warnings

import optuna

ALIASES = {"tpe": "TPESampler", "random": "RandomSampler"}
"""Short names of the two samplers that are used most."""


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


def make_sampler(search: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a search other than the grid.

    Args:
        search: one of `SEARCHES`.
        seed: of the sampler's own draws.
    """
    with warnings.catch_warnings():
        # That a sampler's interface may change matters where it is called by more than its seed.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _SAMPLERS[ALIASES.get(search, search)](seed=seed)
