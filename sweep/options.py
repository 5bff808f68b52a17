"""The command line's options, from one typed configuration class."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, final

import cyclopts
from cyclopts import Parameter

from search_spaces import Choice
from search_spaces import paper as paper_space
from sweep.studies import EarlyStopping, Protocol, Search, Study
from trainables.config import (
    ArchitectureConfig,
    Augmentation,
    Initialisation,
    MemoryFormat,
    Precision,
    Preprocessing,
    TrialConfig,
)


def _whole_number(kind: type, tokens: Sequence[cyclopts.Token]) -> int:  # noqa: ARG001 - cyclopts' signature
    # cyclopts rounds 1.5 to 2 where an int is wanted: a researcher who types 1.5 epochs should hear of it.
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"it must be a whole number, got {tokens[0].value!r}.") from None


def _auto_or_whole_number(kind: type, tokens: Sequence[cyclopts.Token]) -> int | None:
    return None if tokens[0].value == "auto" else _whole_number(kind, tokens)


Whole = Annotated[int | None, Parameter(converter=_whole_number)]
Several = Parameter(consume_multiple=True, negative=())

_ARCHITECTURE_FIELDS = {item.name for item in fields(ArchitectureConfig)}
_TRIAL_FIELDS = {item.name for item in fields(TrialConfig)} - {"dataset", "augmentation", "variant", "lr"}
_STUDY_FIELDS = {item.name for item in fields(Study)} - {"name", "base", "learning_rates"}


@final
@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user may set. An option left out is as the study says."""

    data: str | None = None
    """Folder or URI with NAME/train-*.parquet and NAME/test-*.parquet of each data set, or torchvision's folders;
    default: SWEEP_DATA, else a download."""
    output: str = "runs"
    """Folder or URI that holds runs."""
    name: str | None = None
    """Name of the run's folder; default: the study's name and the time."""
    resume: Annotated[bool, Parameter(negative=())] = False
    """Go on with the run NAME: trials that ended stay, the others run again."""
    dry_run: Annotated[bool, Parameter(negative=())] = False
    """Print the plan and stop."""

    datasets: Annotated[tuple[str, ...] | None, Several] = None
    """Data sets to train on."""
    augmentations: Annotated[tuple[Augmentation, ...] | None, Several] = None
    """Augmentations to train with."""
    variants: Annotated[tuple[str, ...] | None, Several] = None
    """Architecture variants to compare."""
    learning_rates: Annotated[tuple[float, ...] | None, Several] = None
    """Learning rates that each variant tries."""
    epochs: Whole = None
    """Epochs of each trial; the schedule's drops scale with it."""
    train_size: Whole = None
    """Number of training images, the same ones for all trials."""
    batch_size: Whole = None
    """Images per step, over all workers of a trial."""
    weight_decay: float | None = None
    """Coefficient of the weights in the gradient."""
    warmup_epochs: float | None = None
    """Epochs over which the learning rate rises from 0."""
    preprocessing: Preprocessing | None = None
    """How images are normalised."""
    precision: Precision | None = None
    """Arithmetic of the forward pass."""
    memory_format: MemoryFormat | None = None
    """Memory layout of images and weights."""
    seed: Whole = None
    """First seed of the trials, and the search's seed."""
    seeds: Whole = None
    """Trials per point of the grid, with seeds counted up."""

    width: float | None = None
    """Factor on every layer's channels."""
    input_dropout: float | None = None
    """Dropout probability on the input."""
    dropout: float | None = None
    """Dropout probability after each downsampling layer."""
    strided_dropout: bool | None = None
    """Dropout after the strided layers of the Strided-CNN networks."""
    class_relu: bool | None = None
    """ReLU on the class layer."""
    head_padding: Whole = None
    """Padding of the head's 3x3 convolution: 0 or 1."""
    initialisation: Initialisation | None = None
    """How weights start."""

    search: Search | None = None
    """How each variant's learning rates are chosen."""
    trials_per_cell: Whole = None
    """Trials of each variant under tpe or random search."""
    early_stopping: EarlyStopping | None = None
    """Whether the worse trials of each variant end early."""
    protocol: Protocol | None = None
    """How the error that a table shows comes about."""

    workers_per_trial: Annotated[int | None, Parameter(converter=_auto_or_whole_number)] = None
    """Ray Train workers of each trial; auto trains in the trial's own process."""
    gpus_per_trial: float | None = None
    """GPUs of each trial; default: one per worker where there are GPUs. A fraction shares one."""
    max_concurrent: Whole = None
    """Trials at once; default: as many as fit."""
    address: str | None = None
    """Address of a running Ray cluster; default: RAY_ADDRESS, else Ray is started here."""
    plugins: Annotated[tuple[str, ...] | None, Several] = None
    """Python files that register variants, data sets or studies of your own."""

    def study_options(self) -> dict[str, Any]:
        """Return the options that were given and that change what is computed, by name."""
        known = _STUDY_FIELDS | _TRIAL_FIELDS | _ARCHITECTURE_FIELDS | {"learning_rates"}
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name in known}
        if self.data is not None and "://" not in self.data:
            given["data"] = str(Path(self.data).resolve())
        if self.plugins is not None:
            given["plugins"] = tuple(str(Path(plugin).resolve()) for plugin in self.plugins)
        return {name: value for name, value in given.items() if value is not None}

    def apply(self, study: Study) -> Study:
        """Return the study with these options in place of its own settings.

        Raises:
            ValueError: a value does not hold.
        """
        given = self.study_options()
        architecture = replace(study.base.architecture, **_only(given, _ARCHITECTURE_FIELDS))
        base = replace(study.base, architecture=architecture, **_only(given, _TRIAL_FIELDS))
        changed = _only(given, _STUDY_FIELDS)
        search = given.get("search", study.search)
        if "learning_rates" in given:
            changed["learning_rates"] = Choice(given["learning_rates"])
        elif search != "grid" and study.search == "grid":
            changed["learning_rates"] = paper_space.LEARNING_RATE_RANGE
        if search != "grid" and "trials_per_cell" not in given and study.trials_per_cell is None:
            changed["trials_per_cell"] = study.points_per_cell
        return replace(study, base=base, **changed)

    @staticmethod
    def describe(study: Study) -> dict[str, Any]:
        """Return each of the study's settings under the name of the option that changes it."""
        values = {name: getattr(study, name) for name in (*_STUDY_FIELDS, "learning_rates")}
        values |= {name: getattr(study.base, name) for name in _TRIAL_FIELDS - {"architecture"}}
        return values | {name: getattr(study.base.architecture, name) for name in _ARCHITECTURE_FIELDS}


def parse(arguments: Sequence[str]) -> tuple[str | None, RunOptions] | None:
    """Return the study's name and the options, or None where help was asked for and printed.

    Raises:
        ValueError: the arguments cannot be understood.
    """
    app = cyclopts.App(
        name="python -m sweep.run",
        help="Train every architecture variant of a study at every learning rate and keep the record.",
        version_flags=(),
        result_action="return_value",
    )

    @app.default
    def collect(study: str | None = None, /, options: RunOptions = RunOptions()) -> tuple[str | None, RunOptions]:
        """Run a study.

        Args:
            study: quickstart, cifar10, cifar10-augmented, cifar100, or one of your own; default: cifar10 where there
                is a GPU, else quickstart.
            options: what differs from the study.
        """
        return study, options

    try:
        result = app(list(arguments), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return result  # type: ignore[no-any-return]


def _only(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
