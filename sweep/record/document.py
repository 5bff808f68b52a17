"""study.json: what a run was asked to do, on what data, by which code and hardware."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, final

from annotated_types import Ge, Le

from sweep.record.schema import SCHEMA_VERSION
from sweep.study.diff import Plugin
from sweep.study.study import Study
from trainables.common.validation import configuration, from_plain, one_line, quote

Count = Annotated[int, Ge(0), Le(2**53)]
Positive = Annotated[int, Ge(1), Le(2**53)]


@final
@configuration
class Data:
    """A data set as the run found it."""

    checksum: str
    train_images: Count
    test_images: Positive
    num_classes: Positive
    generated: bool
    """Whether its images were made up."""


@final
@configuration
class PlacementOptions:
    """The options of a trial's place, None where none was given; a resumed run takes the same."""

    workers_per_trial: Annotated[int, Ge(1)] | None
    gpus_per_trial: Annotated[float, Ge(0)] | None
    max_concurrent: Annotated[int, Ge(1)] | None


@final
@configuration
class Code:
    """The version of this project."""

    commit: str | None
    altered: bool | None
    """Whether there were uncommitted changes."""


@final
@configuration
class Hardware:
    """What a run had."""

    cpus: Count
    gpus: Count
    gpu: str | None
    machine: str
    system: str


@final
@configuration
class Execution:
    """When, how, by which code and versions, and on what, a run was begun or resumed."""

    created: str
    """Time in UTC."""
    command: tuple[str, ...]
    code: Code
    packages: Mapping[str, str | None]
    """Versions by name."""
    hardware: Hardware
    gpu_sharing: str | None = None
    """`mps`, `time-slicing` or `mps on some nodes` where trials shared GPUs."""


@final
@configuration
class Change:
    """A setting that `--extend` changed."""

    recorded: str
    given: str


@final
@configuration
class Extension:
    """What `--extend` added."""

    created: str
    command: tuple[str, ...]
    changes: Mapping[str, Change]


@final
@configuration
class RunDocument:
    """The contents of study.json.

    Raises:
        ValueError: a field does not hold what its description says.
    """

    study: Study
    planned_trials: Count
    placement: PlacementOptions
    workers: Count
    """Workers of each trial; 0: each trains in its own process."""
    plugins: tuple[Plugin, ...]
    data: Mapping[str, Data]
    """By name of the data set."""
    executions: tuple[Execution, ...]
    """The first began the run, the others resumed it."""
    extended: tuple[Extension, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.study.datasets if name not in self.data]
        if unknown:
            raise ValueError(f"data must describe each data set, got none of {quote(unknown[0])}.")
        if not self.executions:
            raise ValueError("executions must hold at least the one that began the run, got none.")

    @property
    def created(self) -> str:
        """When the run was begun, in UTC."""
        return self.executions[0].created

    def to_bytes(self) -> bytes:
        """Return the text of study.json."""
        plain = dataclasses.asdict(self) | {"study": self.study.to_dict()}
        # In their own order, in which a space's dimensions are drawn, and depend on each other.
        return (json.dumps({"schema_version": SCHEMA_VERSION, **plain}, indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, raw: bytes, path: str) -> "RunDocument":
        """Return what `to_bytes` wrote.

        Args:
            raw: the text.
            path: names the file in messages.

        Raises:
            ValueError: it is no JSON, of another version, or not what a run writes.
        """
        try:
            plain = json.loads(raw)
            json.dumps(plain, ensure_ascii=False).encode()
        # A file of brackets alone nests deeper than Python goes.
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} must be JSON, got a broken file ({one_line(error)[:200]}).") from error
        version = plain.pop("schema_version", None) if isinstance(plain, dict) else None
        if type(version) is not int or version != SCHEMA_VERSION:  # True and 1.0 equal 1
            raise ValueError(
                f"{path} must hold a record of version {SCHEMA_VERSION}, got {quote(version)}; read it with the "
                "version of this project that wrote it."
            )
        try:
            study = Study.from_dict(plain.pop("study", None))
            return from_plain(cls, plain | {"study": study}, "A run")
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must hold what a run writes, got something else ({one_line(error)}).") from error
