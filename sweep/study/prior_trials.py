"""What an earlier run may tell a search, as a study keeps it."""

from collections.abc import Mapping
from typing import Annotated, final

from annotated_types import Ge, Le

from trainables.common.validation import Scalar, configuration


@final
@configuration
class PriorTrial:
    """A completed trial of an earlier run, as far as a search may know it."""

    cell: str
    """As `TrialConfig.cell`."""
    params: Mapping[str, Scalar]
    """What the search would have drawn, by name."""
    error: Annotated[float, Ge(0), Le(1)]
    """What the search minimises, a fraction."""


@final
@configuration
class WarmStart:
    """What an earlier run tells the search before its first point; kept with the study."""

    run: str
    """The earlier run's folder or URI."""
    points: tuple[PriorTrial, ...]
    """Its completed trials that lie in the study's cells and space."""
    skipped: int
    """Its completed trials that do not."""
