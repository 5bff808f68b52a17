"""The epochs after which early stopping judges trials."""

from trainables.config import TrialConfig

REDUCTION_FACTOR = 4
"""One trial in this many goes on from each of ASHA's rungs, unless the user says otherwise: its eta."""

HALVING_FACTOR = 2
"""The same for trials that wait for each other."""


def rungs_of(config: TrialConfig, first_rung: int | None = None, keep_one_in: int = REDUCTION_FACTOR) -> list[int]:
    """Return the epochs after which trials are judged, in order; the last epoch is none of them.

    Args:
        config: a trial of the study.
        first_rung: the first of them; the next ones are `keep_one_in` times as late each. None judges one epoch
            after each drop of the learning rate: before the first, small rates look better than they end.
        keep_one_in: one trial in this many goes on from each, ASHA's eta.
    """
    if first_rung is None:
        return sorted({drop + 1 for drop in config.drop_epochs if drop + 1 < config.epochs})
    rungs = []
    while first_rung < config.epochs:
        rungs.append(first_rung)
        first_rung *= keep_one_in
    return rungs


def halving_rungs(
    config: TrialConfig, first_rung: int | None = None, keep_one_in: int = HALVING_FACTOR
) -> tuple[int, ...]:
    """Return the epochs after which trials wait for each other, as `rungs_of` does where the first one is given.

    Else there are two: halfway to the first drop of the learning rate, and one epoch after it.
    """
    if first_rung is not None:
        return tuple(rungs_of(config, first_rung, keep_one_in))
    first_drop = min(config.drop_epochs, default=config.epochs)
    return tuple(sorted(rung for rung in {first_drop // 2, first_drop + 1} if 1 <= rung < config.epochs))
