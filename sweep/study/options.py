"""The command line's options, one typed configuration class; `sweep.cli.parse` reads them."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, final

import cyclopts
from cyclopts import Parameter

from search_spaces import Choice, Dimension, LogUniform
from search_spaces import paper as paper_space
from sweep.study.study import DIMENSIONS, Criterion, EarlyStopping, Protocol, Study
from trainables.config import (
    ArchitectureConfig,
    Compiled,
    HeavyConfig,
    Initialisation,
    MemoryFormat,
    MomentumForm,
    Precision,
    Preprocessing,
    TrialConfig,
)

T = TypeVar("T")

YEAR_S = 365 * 86_400.0
"""Most that a time limit may be: the end of one must be a date."""


# cyclopts would round 1.5 to 2 where an int is wanted, and read "none" as no value at all: a researcher who types
# one of them should hear of it.
def _whole_number(kind: type, tokens: Sequence[cyclopts.Token]) -> int:  # noqa: ARG001 - cyclopts' signature
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"it must be a whole number, got {tokens[0].value[:40]!r}.") from None


def _auto_or_whole_number(kind: type, tokens: Sequence[cyclopts.Token]) -> int | None:
    try:
        return None if tokens[0].value == "auto" else _whole_number(kind, tokens)
    except ValueError:
        raise ValueError(f"it must be auto or a whole number, got {tokens[0].value[:40]!r}.") from None


def _each(convert: Callable[[type, Sequence[cyclopts.Token]], T], tokens: Sequence[cyclopts.Token]) -> list[T]:
    try:
        return [convert(float, [token]) for token in tokens]
    except ValueError as error:
        if len(tokens) == 1:  # cyclopts names the option itself then
            raise
        raise ValueError(f"{tokens[0].keyword}: {error}") from None


@final
class Range(tuple[float, ...]):
    """The two ends of LOW..HIGH. A tuple, since that is how cyclopts knows what takes several words."""

    __slots__ = ()


def _values(kind: type, tokens: Sequence[cyclopts.Token]) -> tuple[float, ...]:  # noqa: ARG001
    low, dots, high = tokens[0].value.partition("..") if len(tokens) == 1 else ("", "", "")
    if not dots:
        return tuple(_each(_number, tokens))
    try:
        return Range((float(low), float(high)))
    except ValueError:
        raise ValueError(f"it must be numbers, or a range LOW..HIGH, got {tokens[0].value[:40]!r}.") from None


def _whole_numbers(kind: type, tokens: Sequence[cyclopts.Token]) -> tuple[int, ...]:  # noqa: ARG001
    return tuple(_each(_whole_number, tokens))


def _number(kind: type, tokens: Sequence[cyclopts.Token]) -> float:  # noqa: ARG001
    try:
        return float(tokens[0].value)
    except ValueError:
        raise ValueError(f"it must be a number, got {tokens[0].value[:40]!r}.") from None


def _duration(kind: type, tokens: Sequence[cyclopts.Token]) -> float:  # noqa: ARG001
    text = tokens[0].value
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds <= YEAR_S:
        raise ValueError(
            f"it must be a number of seconds, minutes or hours such as 90s, 11m or 2h, and at most a year, got "
            f"{text[:40]!r}."
        )
    return seconds


def _words(kind: type, tokens: Sequence[cyclopts.Token]) -> tuple[str, ...]:  # noqa: ARG001
    return tuple(token.value for token in tokens)


Whole = Annotated[int | None, Parameter(converter=_whole_number)]
Number = Annotated[float | None, Parameter(converter=_number)]
Words = Annotated[tuple[str, ...] | None, Parameter(converter=_words, consume_multiple=True, negative=())]
# A word that begins with [ is no JSON: cyclopts would end in JSON's own words where it is none.
_NUMBERS = Parameter(consume_multiple=True, negative=(), json_list=False)
Wholes = Annotated[tuple[int, ...] | None, _NUMBERS, Parameter(converter=_whole_numbers)]
Values = Annotated[tuple[float, ...] | None, _NUMBERS, Parameter(converter=_values)]

_ARCHITECTURE_FIELDS = {item.name for item in fields(ArchitectureConfig)}
_HEAVY_FIELDS = {item.name for item in fields(HeavyConfig)}
_TRIAL_FIELDS = {item.name for item in fields(TrialConfig)} - {"dataset", "augmentation", "variant", "lr"}
_DIMENSIONS = set(DIMENSIONS.values())
_STUDY_FIELDS = {item.name for item in fields(Study)} - {"name", "base", "warm_start"} - _DIMENSIONS


@final
@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user may set. An option left out is as the study says."""

    data: str | None = None
    """Folder or URI that holds a folder cifar10 or cifar100 of Parquet files, or torchvision's folders; default: the
    variable SWEEP_DATA, else torchvision's download. The data set shapes is generated and needs none."""
    output: Annotated[str, Parameter(env_var="SWEEP_OUTPUT", show_env_var=False)] = "runs"
    """Folder or URI that holds runs; default: the variable SWEEP_OUTPUT, else runs."""
    name: str | None = None
    """Name of the run's folder in output; default: the study's name and the time."""
    resume: Annotated[bool, Parameter(negative=())] = False
    """Go on with the run that output and name say: trials that ended stay, the others go on from their last epoch."""
    extend: Annotated[bool, Parameter(negative=())] = False
    """With resume: also run what the study given here has more of than the recorded one: variants, learning-rates,
    weight-decays, batch-sizes, trials-per-cell, seeds, confirm-top, or epochs; all that was done stays."""
    dry_run: Annotated[bool, Parameter(negative=())] = False
    """Read the data, print the plan and stop."""
    plain: Annotated[bool, Parameter(negative=())] = False
    """Print lines in a terminal too, instead of the live grid."""

    datasets: Words = None
    """Data sets to train on, separated by spaces: cifar10, cifar100, shapes, imagenet, or your own."""
    augmentations: Words = None
    """Augmentations to train with, separated by spaces: none, flip-shift, heavy; none, crop-flip for imagenet."""
    variants: Words = None
    """Architecture variants to compare, separated by spaces: model-, strided-cnn-, convpool-cnn- or all-cnn- with the
    letter a, b or c, such as all-cnn-c; large-all-cnn; or your own."""
    learning_rates: Values = None
    """Learning rates that each variant tries, separated by spaces, or a range LOW..HIGH for a search other than the
    grid; such a search's default: 0.001..0.25."""
    weight_decays: Values = None
    """Weight decays that each variant tries with each learning rate, written like them, 0 among the listed ones too;
    default: weight-decay alone."""
    batch_sizes: Wholes = None
    """Batch sizes that each variant tries with each of those, separated by spaces; default: batch-size alone."""
    epochs: Whole = None
    """Epochs of each trial; the schedule's drops scale with it."""
    iterations: Whole = None
    """Steps of each trial on a streamed data set, cut into epochs; default: each epoch is one pass over the images."""
    train_size: Whole = None
    """Number of training images, the same ones for all trials."""
    batch_size: Whole = None
    """Images per step, over all workers of a trial."""
    weight_decay: Number = None
    """Coefficient of the weights in the gradient."""
    momentum: Number = None
    """Momentum of SGD."""
    momentum_form: MomentumForm | None = None
    """Where the learning rate stands in SGD: pytorch outside the velocity, caffe inside it."""
    bias_lr_factor: Number = None
    """Factor on the learning rate of biases."""
    bias_weight_decay: bool | None = None
    """Weight decay on biases too."""
    max_grad_norm: Number = None
    """Largest norm of the gradient over all parameters, to which a longer one is scaled down."""
    warmup_epochs: Number = None
    """Epochs over which the learning rate rises from 0."""
    preprocessing: Preprocessing | None = None
    """How images are normalised."""
    canvas: Whole = None
    """Side in px of the square of zeros that images are placed into the middle of; large-all-cnn needs 126."""
    rotation: Number = None
    """Largest rotation by the augmentation heavy, in degrees, either way."""
    min_scale: Number = None
    """Smallest factor on an image's size by the augmentation heavy."""
    max_scale: Number = None
    """Largest factor on an image's size by the augmentation heavy."""
    translation: Number = None
    """Largest shift by the augmentation heavy, either way, as a fraction of the side of the image with its canvas."""
    brightness: Number = None
    """Largest value that the augmentation heavy adds to pixels in [0, 1], either way."""
    contrast: Number = None
    """Largest change, by the augmentation heavy, of the factor on pixels, either way."""
    saturation: Number = None
    """Largest change, by the augmentation heavy, of the factor on the saturation, either way."""
    hue: Number = None
    """Largest change of hue by the augmentation heavy, either way, as a fraction of the colour circle."""
    precision: Precision | None = None
    """Arithmetic of the forward pass."""
    memory_format: MemoryFormat | None = None
    """Memory layout of images and weights."""
    compiled: Compiled | None = None
    """Whether torch.compile fuses the kernels of the network's training steps; auto does so on GPUs, for trials of
    80,000 steps or more."""
    seed: Whole = None
    """First seed of the trials, and the search's seed."""
    seeds: Whole = None
    """Trials that confirm each selected configuration under holdout: 3 by default, 0 to read no test error; under
    paper, trials per point of the grid, 1 by default."""

    width: Number = None
    """Factor on every layer's channels."""
    input_dropout: Number = None
    """Dropout probability on the input."""
    dropout: Number = None
    """Dropout probability after each downsampling layer."""
    strided_dropout: bool | None = None
    """Dropout after the strided layers of the Strided-CNN networks."""
    class_relu: bool | None = None
    """ReLU on the class layer."""
    head_padding: Whole = None
    """Padding of the head's 3x3 convolution: 0 or 1."""
    leaky_slope: Number = None
    """Slope below zero of large-all-cnn's ReLUs."""
    initialisation: Initialisation | None = None
    """How weights are initialised."""
    initialisation_std: Number = None
    """Standard deviation of the weights with the initialisation normal."""

    search: str | None = None
    """How each variant's hyperparameters are chosen: grid, tpe, random, or a sampler of Optuna's by its class name,
    such as CmaEsSampler."""
    trials_per_cell: Whole = None
    """Trials of each variant under another search than the grid; default: as many as the study's grid has."""
    rates_from: str | None = None
    """Folder or URI of an earlier run: train at the learning rate that it selected for the same variant, and search
    none. The paper trained on CIFAR-100 at CIFAR-10's rate."""
    warm_start: str | None = None
    """Folder or URI of an earlier run, whose completed trials the search is told of before its first one."""
    early_stopping: EarlyStopping | None = None
    """How the worse trials of each variant end early. none: all run to their end; halving: trials wait for each other,
    and the better half by averaged weights goes on; asha: each is judged when it comes."""
    first_rung: Whole = None
    """Epoch after which early stopping first compares trials, and then after reduction-factor times as many; default:
    halfway to the first drop of the learning rate and one epoch after it with halving; one epoch after each drop with
    asha, by which small learning rates look better before than they end."""
    reduction_factor: Whole = None
    """One trial in this many goes on each time that early stopping compares them; default: 2 with halving, 4 with
    asha."""
    protocol: Protocol | None = None
    """holdout: choose on held-out training images, then train the choice again on all with fresh seeds and read each
    test error once; paper: the lowest test error of all trials."""
    validation: Number = None
    """Share of each class's training images that holdout holds out in its search."""
    evaluate_every: Whole = None
    """Epochs from one measurement of the errors to the next; those of the last epoch are always measured."""
    criterion: Criterion | None = None
    """Which epoch decides in the search of holdout: last, or best-epoch, which is optimistic."""
    confirm_top: Whole = None
    """Configurations of each cell that holdout confirms."""

    only: Words = None
    """With --resume: run only the trials of these variants now."""
    retry_failed: Annotated[bool, Parameter(negative=())] = False
    """With --resume: begin failed trials again, after their cause was mended."""

    workers_per_trial: Annotated[int | None, Parameter(converter=_auto_or_whole_number)] = None
    """Ray Train workers of each trial; default: auto, which trains in the trial's own process where that is enough."""
    gpus_per_trial: Number = None
    """GPUs of each trial; default: one per worker where there are GPUs. A fraction shares one."""
    max_concurrent: Whole = None
    """Trials at once; default: as many as fit."""
    address: str | None = None
    """HOST:PORT of a running Ray cluster's head, auto for the one that Ray finds, or local to start Ray here; default:
    the variable RAY_ADDRESS, else the cluster whose head ray up has made of this machine, else Ray is started here."""
    time_limit: Annotated[float | None, Parameter(converter=_duration)] = None
    """Time that this command may take, such as 90s, 11m or 2h: before it is over trials stop after their epoch, and the
    command ends with status 75; --resume does what is left."""
    plugins: Words = None
    """Python files that register variants, data sets or studies of your own."""
    log: Words = None
    """Other tools that are told of each epoch, separated by spaces: tensorboard, mlflow, wandb."""

    def study_options(self) -> dict[str, Any]:
        """Return the options that were given and that change what is computed, by name."""
        known = _STUDY_FIELDS | _TRIAL_FIELDS | _ARCHITECTURE_FIELDS | _HEAVY_FIELDS | _DIMENSIONS
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name in known}
        if self.data is not None and "://" not in self.data:
            if not self.data.strip():
                raise ValueError(f"data must be a folder or a URI, got {self.data!r}.")
            given["data"] = _absolute("data", self.data)
        if self.plugins is not None:
            given["plugins"] = tuple(_absolute("plugins", each) for each in self.plugins)
        return {name: value for name, value in given.items() if value is not None}

    def apply(self, study: Study) -> Study:
        """Return the study with these options in place of its own settings.

        Raises:
            ValueError: a value does not hold.
        """
        given = self.study_options()
        architecture = replace(study.base.architecture, **_only(given, _ARCHITECTURE_FIELDS))
        heavy = replace(study.base.heavy, **_only(given, _HEAVY_FIELDS))
        base = replace(study.base, architecture=architecture, heavy=heavy, **_only(given, _TRIAL_FIELDS))
        changed = _only(given, _STUDY_FIELDS)
        search = given.get("search", study.search)
        for one, several in (("weight_decay", "weight_decays"), ("batch_size", "batch_sizes")):
            if one in given and several in given:
                raise ValueError(f"{one} must be left out where {several} says what is tried, got {given[one]:g}.")
            if one in given:
                changed[several] = None
        changed |= {name: _dimension(name, values) for name, values in _only(given, _DIMENSIONS).items()}
        if "learning_rates" not in given and search != "grid" and study.search == "grid":
            changed["learning_rates"] = paper_space.LEARNING_RATE_RANGE
        if search != "grid" and "trials_per_cell" not in given and study.trials_per_cell is None:
            changed["trials_per_cell"] = study.points_per_cell
        return replace(study, base=base, **changed)

    @staticmethod
    def describe(study: Study) -> dict[str, Any]:
        """Return each of the study's settings under the name of the option that changes it."""
        values = {name: getattr(study, name) for name in _STUDY_FIELDS | _DIMENSIONS}
        values |= {name: getattr(study.base, name) for name in _TRIAL_FIELDS - {"architecture", "heavy"}}
        values |= {name: getattr(study.base.heavy, name) for name in _HEAVY_FIELDS}
        return values | {name: getattr(study.base.architecture, name) for name in _ARCHITECTURE_FIELDS}


def _absolute(what: str, path: str) -> str:
    from trainables.common.files import check_path  # it loads pyarrow, for which --help need not wait

    check_path(what, path)  # which of the characters of others no file system takes, Path says in its own words
    return str(Path(os.path.expanduser(path)).resolve())  # noqa: PTH111 - Path.expanduser raises for ~nobody


def _dimension(name: str, values: tuple[float, ...]) -> Dimension:
    try:
        if isinstance(values, Range):
            return LogUniform(*values)
        # No weight decay is a value like any other; no learning rate is none.
        return Choice(values) if name == "weight_decays" else Choice.above_zero(values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _only(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
