"""The command line's options, one typed configuration class; `sweep.cli.parse` reads them."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar, final

import cyclopts
from cyclopts import Parameter

from search_spaces import Choice, Dimension, LogUniform, Scalar, Space
from search_spaces import paper as paper_space
from sweep.study.study import SETTINGS, EarlyStopping, Protocol, Study
from sweep.study.vary import name_in, parse_dimension, parse_setting
from trainables.config import Precision, TrialConfig
from trainables.hyperparameters import with_values

T = TypeVar("T")

YEAR_S = 365 * 86_400.0
"""Most that a time limit may be: the end of one must be a date."""


def _converter(parse: Callable[[str], T], kind: str) -> Callable[[type, Sequence[cyclopts.Token]], T]:
    """Return a converter for cyclopts, which would round 1.5 to 2 and read "none" as no value at all."""

    def convert(_: type, tokens: Sequence[cyclopts.Token]) -> T:
        try:
            return parse(tokens[0].value)
        except ValueError:
            raise ValueError(f"it must be {kind}, got {tokens[0].value[:40]!r}.") from None

    return convert


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not 0 < seconds <= YEAR_S:
        raise ValueError
    return seconds


_whole_number = _converter(int, "a whole number")
_auto_or_whole_number = _converter(lambda text: None if text == "auto" else int(text), "auto or a whole number")
_number = _converter(float, "a number")
_duration = _converter(_seconds, "a number of seconds, minutes or hours such as 90s, 11m or 2h, and at most a year")


@final
class Range(tuple[float, ...]):
    """The two ends of LOW..HIGH. A tuple, since that is how cyclopts knows what takes several words."""

    __slots__ = ()


def _values(kind: type, tokens: Sequence[cyclopts.Token]) -> tuple[float, ...]:  # noqa: ARG001
    low, dots, high = tokens[0].value.partition("..") if len(tokens) == 1 else ("", "", "")
    if not dots:
        try:
            return tuple(_number(float, [token]) for token in tokens)
        except ValueError as error:
            if len(tokens) == 1:  # cyclopts names the option itself then
                raise
            raise ValueError(f"{tokens[0].keyword}: {error}") from None
    try:
        return Range((float(low), float(high)))
    except ValueError:
        raise ValueError(f"it must be numbers, or a range LOW..HIGH, got {tokens[0].value[:40]!r}.") from None


def _words(kind: type, tokens: Sequence[cyclopts.Token]) -> tuple[str, ...]:  # noqa: ARG001
    return tuple(token.value for token in tokens)


Whole = Annotated[int | None, Parameter(converter=_whole_number)]
Number = Annotated[float | None, Parameter(converter=_number)]
Words = Annotated[tuple[str, ...] | None, Parameter(converter=_words, consume_multiple=True, negative=())]
# A word that begins with [ is no JSON: cyclopts would end in JSON's own words where it is none.
_NUMBERS = Parameter(consume_multiple=True, negative=(), json_list=False)
Values = Annotated[tuple[float, ...] | None, _NUMBERS, Parameter(converter=_values)]

_OF_THE_STUDY = (
    *("datasets", "augmentations", "variants", "seeds", "search", "trials_per_cell", "early_stopping", "protocol"),
)
_OF_A_TRIAL = ("epochs", "iterations", "train_size", "batch_size", "width", "precision", "seed")
"""Short forms of `--set`."""


RUN, COMPARED, SEARCH, ERROR, TRAINING, PLACE = (
    Parameter(group=cyclopts.Group.create_ordered(title))
    for title in ("The run", "What is compared", "Search", "Which errors are reported", "Training", "Where it runs")
)
"""Topics of the options, in the order in which the help lists them."""


@final
@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user may set. An option left out is as the study says."""

    data: Annotated[str | None, RUN] = None
    """Folder or URI of the data: a folder cifar10 or cifar100 of Parquet files in it, or torchvision's; default: the
    variable SWEEP_DATA, else torchvision's download. The data set shapes is generated and needs none."""
    output: Annotated[str, Parameter(env_var="SWEEP_OUTPUT", show_env_var=False), RUN] = "runs"
    """Folder or URI that holds runs; default: the variable SWEEP_OUTPUT, else runs."""
    name: Annotated[str | None, RUN] = None
    """Name of the run's folder in output; default: the study's name and the time."""
    resume: Annotated[bool, Parameter(negative=()), RUN] = False
    """Go on with the run that output and name say: trials that ended stay, the others go on from their last epoch."""
    extend: Annotated[bool, Parameter(negative=()), RUN] = False
    """With resume: also run what the study given here has more of than the recorded one: variants, listed values of a
    hyperparameter, trials_per_cell, seeds, confirm_top or epochs; all that was done stays."""
    dry_run: Annotated[bool, Parameter(negative=()), RUN] = False
    """Read the data, print the plan and stop."""
    plain: Annotated[bool, Parameter(negative=()), RUN] = False
    """Print lines in a terminal too, instead of the live grid."""

    datasets: Annotated[Words, COMPARED] = None
    """Data sets to train on, separated by spaces: cifar10, cifar100, shapes, imagenet, or your own."""
    augmentations: Annotated[Words, COMPARED] = None
    """Augmentations to train with, separated by spaces: none, flip-shift, heavy; none, crop-flip for imagenet."""
    variants: Annotated[Words, COMPARED] = None
    """Architecture variants to compare, separated by spaces: model-, strided-cnn-, convpool-cnn- or all-cnn- with the
    letter a, b or c, such as all-cnn-c; large-all-cnn; or your own."""
    learning_rates: Annotated[Values, SEARCH] = None
    """Learning rates that each variant tries, separated by spaces, or a range LOW..HIGH for a search other than the
    grid; short for --vary lr=...; the default of such a search: 0.001..0.25."""
    vary: Annotated[Words, SEARCH] = None
    """Search any hyperparameter: NAME=VALUE,VALUE,... or NAME=LOW..HIGH, such as lr=1e-3..0.1, dropout=0,0.1,
    'momentum=0.8..0.99 if momentum_form=caffe', or model-c:lr=0.01,0.005 for one variant; --help-all has the names."""
    set: Annotated[Words, SEARCH] = None
    """Give a hyperparameter or a setting one value: NAME=VALUE, such as momentum=0.8, initialisation=he,
    validation=0.2 or confirm_top=2; --help-all lists the names."""
    epochs: Annotated[Whole, TRAINING] = None
    """Epochs of each trial; the schedule's drops scale with it."""
    iterations: Annotated[Whole, TRAINING] = None
    """Steps of each trial on a streamed data set, cut into epochs; default: each epoch is one pass over the images."""
    train_size: Annotated[Whole, TRAINING] = None
    """Number of training images, the same ones for all trials."""
    batch_size: Annotated[Whole, TRAINING] = None
    """Images per step, over all workers of a trial."""
    precision: Annotated[Precision | None, TRAINING] = None
    """Arithmetic of the forward pass."""
    seed: Annotated[Whole, ERROR] = None
    """First seed of the trials, and the search's seed."""
    seeds: Annotated[Whole, ERROR] = None
    """Trials that confirm each selected configuration: under holdout, 3 by default, 0 to read no test error; under
    paper, trials per point of the grid, 1 by default."""

    width: Annotated[Number, TRAINING] = None
    """Factor on every layer's channels."""

    search: Annotated[str | None, SEARCH] = None
    """How each variant's hyperparameters are chosen: grid, tpe, random, or a sampler of Optuna's by its class name,
    such as CmaEsSampler."""
    trials_per_cell: Annotated[Whole, SEARCH] = None
    """Trials per variant, for any search but the grid; default: as many as the study's grid has."""
    rates_from: Annotated[str | None, SEARCH] = None
    """Folder or URI of an earlier run: train at the learning rate that it selected for the same variant, and search
    none. The paper trained on CIFAR-100 at CIFAR-10's rate."""
    warm_start: Annotated[str | None, SEARCH] = None
    """Folder or URI of an earlier run, whose completed trials the search is told of before its first one."""
    early_stopping: Annotated[EarlyStopping | None, SEARCH] = None
    """How the worse trials of each variant end early. none: all run to their end; halving: trials wait for each other,
    and the better half by averaged weights goes on; asha: each is judged when it comes."""
    protocol: Annotated[Protocol | None, ERROR] = None
    """holdout: choose on held-out training images, then train the choice again on all with fresh seeds and read each
    test error once; paper: the lowest test error of all trials."""

    only: Annotated[Words, RUN] = None
    """With --resume: run only the trials of these variants now."""
    retry_failed: Annotated[bool, Parameter(negative=()), RUN] = False
    """With --resume: begin failed trials again, after their cause was mended."""

    workers_per_trial: Annotated[int | None, Parameter(converter=_auto_or_whole_number), PLACE] = None
    """Ray Train workers of each trial; default: auto, which trains in the trial's own process where that is enough."""
    gpus_per_trial: Annotated[Number, PLACE] = None
    """GPUs of each trial; default: one per worker where there are GPUs. A fraction shares one."""
    max_concurrent: Annotated[Whole, PLACE] = None
    """Trials at once; default: as many as fit."""
    address: Annotated[str | None, PLACE] = None
    """HOST:PORT of a running Ray cluster's head, auto for the one that Ray finds, or local to start Ray here; default:
    the variable RAY_ADDRESS, else the cluster whose head ray up has made of this machine, else Ray is started here."""
    time_limit: Annotated[float | None, Parameter(converter=_duration), PLACE] = None
    """Time that this command may take, such as 90s, 11m or 2h: before it is over trials stop after their epoch, and the
    command ends with status 75; --resume does what is left."""
    plugins: Annotated[Words, RUN] = None
    """Python files that register variants, data sets or studies of your own."""
    log: Annotated[Words, RUN] = None
    """Other tools that are told of each epoch, separated by spaces: tensorboard, mlflow, wandb."""

    @property
    def typed(self) -> tuple[str, ...]:
        """Names of the settings that were given, as `Study.settings` has them."""
        given = [name for name in (*_OF_THE_STUDY, *_OF_A_TRIAL) if getattr(self, name) is not None]
        given += ["lr"] if self.learning_rates is not None else []
        return (*given, *map(name_in, (*(self.vary or ()), *(self.set or ()))))

    def apply(self, study: Study) -> Study:
        """Return the study with these options in place of its own settings.

        Raises:
            ValueError: a value does not hold, or two options set the same.
        """
        changed = {name: getattr(self, name) for name in _OF_THE_STUDY if getattr(self, name) is not None}
        values: dict[str, Scalar] = {
            name: getattr(self, name) for name in _OF_A_TRIAL if getattr(self, name) is not None
        }
        variants = changed.get("variants", study.variants)
        for text in self.set or ():
            name, value = parse_setting(text, variants)
            if name in values or name in changed:
                raise ValueError(f"set must give each setting once, got {name} twice.")
            (changed if name in SETTINGS else values)[name] = value
        dimensions = self._dimensions(variants)
        for name in values:
            if (None, name) in dimensions:
                raise ValueError(f"{name} must be either searched or set, got both.")
        base = self._moved(with_values(study.base, values))
        space = study.space.without(list(values))
        spaces = {
            variant: space.without(list(values)) for variant, space in study.spaces.items() if variant in variants
        }
        search = changed.get("search", study.search)
        if (None, "lr") not in dimensions and "lr" in space and search != "grid" and study.search == "grid":
            dimensions = {(None, "lr"): paper_space.LEARNING_RATE_RANGE, **dimensions}
        for (variant, name), dimension in dimensions.items():
            if variant is None:
                space = space.with_dimensions({name: dimension})
            else:
                spaces[variant] = spaces.get(variant, Space()).with_dimensions({name: dimension})
        if search != "grid" and "trials_per_cell" not in changed and study.trials_per_cell is None:
            changed["trials_per_cell"] = max(map(study.points_of, study.variants))
        spaces = {variant: space for variant, space in spaces.items() if space}
        return replace(study, base=base, space=space, spaces=spaces, **changed)

    def _dimensions(self, variants: Sequence[str]) -> dict[tuple[str | None, str], Dimension]:
        """Return what is to be searched, by the variant that is meant, None for all, and the hyperparameter."""
        dimensions: dict[tuple[str | None, str], Dimension] = {}
        if self.learning_rates is not None:
            dimensions[None, "lr"] = _rates(self.learning_rates)
        for name in ("vary", "set"):
            if getattr(self, name) == ():
                raise ValueError(f"{name} must be followed by NAME=..., got nothing.")
        for text in self.vary or ():
            variant, name, dimension = parse_dimension(text, variants)
            if (variant, name) in dimensions:
                raise ValueError(f"vary must name each hyperparameter once, got {name} twice.")
            dimensions[variant, name] = dimension
        return dimensions

    def _moved(self, base: TrialConfig) -> TrialConfig:
        """Return a configuration whose data and plugins lie where these options say."""
        if self.data is not None:
            if not self.data.strip():
                raise ValueError(f"data must be a folder or a URI, got {self.data!r}.")
            base = replace(base, data=self.data if "://" in self.data else _absolute("data", self.data))
        if self.plugins is not None:
            base = replace(base, plugins=tuple(_absolute("plugins", each) for each in self.plugins))
        return base


def _absolute(what: str, path: str) -> str:
    from trainables.common.files import check_path  # it loads pyarrow, for which --help need not wait

    check_path(what, path)  # which of the characters of others no file system takes, Path says in its own words
    return str(Path(os.path.expanduser(path)).resolve())  # noqa: PTH111 - Path.expanduser raises for ~nobody


def _rates(values: tuple[float, ...]) -> Dimension:
    try:
        return LogUniform(*values) if isinstance(values, Range) else Choice(values)
    except ValueError as error:
        raise ValueError(f"learning_rates: {error}") from error
