"""What an earlier run may tell a search, as a study keeps it."""

from dataclasses import dataclass
from typing import final

from trainables.common.validation import check_types


@final
@dataclass(frozen=True, kw_only=True)
class EarlierPoint:
    """A completed trial of an earlier run, as far as a search may know it."""

    cell: str
    """As `TrialConfig.cell`."""
    lr: float
    weight_decay: float
    batch_size: int
    error: float
    """What the search minimises, a fraction in [0, 1]."""

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.error <= 1:
            raise ValueError(f"error must be a fraction in [0, 1], got {self.error!r}.")


@final
@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What an earlier run tells the search before its first point; kept with the study."""

    run: str
    """The earlier run's folder or URI."""
    points: tuple[EarlierPoint, ...]
    """Its completed trials that lie in the study's cells and space."""
    skipped: int
    """Its completed trials that do not."""

    def __post_init__(self) -> None:
        check_types(self)
