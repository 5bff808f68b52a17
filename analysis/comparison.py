"""Is a variant's error significantly different from a reference's, given the spread over seeds?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from analysis.inference import CONFIDENCE, holm, welch
from analysis.results import VariantResult


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant beside the reference of the same data set and augmentation. Errors are fractions."""

    result: VariantResult
    reference: VariantResult
    difference: float | None
    """The variant's mean less the reference's; None where one of them has none."""
    half_width: float | None
    """Half of the 95 % interval of the difference; None where it is not known."""
    p: float | None
    """Of Welch's t-test."""
    p_holm: float | None
    """Corrected for the number of comparisons that have a p value."""

    @property
    def is_clear(self) -> bool | None:
        """Whether the difference is statistically significant at 5 %, corrected; None where that is not known."""
        return None if self.p_holm is None else self.p_holm < 1 - CONFIDENCE

    @property
    def verdict(self) -> str:
        """What a reader may make of the difference."""
        if min(self.result.num_seeds, self.reference.num_seeds) < 2:
            return "not known: fewer than 2 seeds"
        if self.p_holm is None:
            return "not known: the seeds do not differ"
        return f"{'' if self.is_clear else 'not '}significant"


def compare(results: Sequence[VariantResult], reference: str) -> list[Comparison]:
    """Return every other variant beside the reference, in the order of the results.

    All comparisons are one family to Holm's correction: a reader looks through the whole table for the one that stands
    out.

    Args:
        results: one per cell.
        reference: a variant among them.

    Raises:
        ValueError: there is no such variant, or no other.
    """
    known = list(dict.fromkeys(result.variant for result in results))
    if reference not in known:
        raise ValueError(f"compare must be one of the run's variants, {', '.join(known)}, got {reference!r}.")
    references = {r.cell[:2]: r for r in results if r.variant == reference}
    pairs = [
        (result, references[result.cell[:2]])
        for result in results
        if result.variant != reference and result.cell[:2] in references
    ]
    if not pairs:
        raise ValueError(f"compare must leave a variant to compare with it, got {reference!r}, which stands alone.")
    tests = [welch(result.errors, other.errors) for result, other in pairs]
    corrected = iter(holm([test.p for test in tests if test]))
    return [
        Comparison(
            result=result,
            reference=other,
            difference=None if result.error is None or other.error is None else result.error - other.error,
            half_width=test.half_width if test else None,
            p=test.p if test else None,
            p_holm=next(corrected) if test else None,
        )
        for (result, other), test in zip(pairs, tests, strict=True)
    ]
