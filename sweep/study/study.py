"""A study: the cells, the space of hyperparameters, the protocol and the budget; and the studies by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal, Self, final, get_args

from search_spaces import Choice, Dimension, LogUniform
from search_spaces import paper as paper_space
from sweep.search.halving import HALVING_FACTOR, REDUCTION_FACTOR, halving_rungs, rungs_of
from sweep.study.prior_trials import EarlierPoint, WarmStart
from sweep.study.samplers import SEARCHES
from trainables.common.registry import Registry
from trainables.common.validation import check_names, check_types, listed, shown
from trainables.config import SEED_LIMIT, ArchitectureConfig, Augmentation, TrialConfig
from trainables.recipe import Recipe, check_recipes, with_recipe

Protocol = Literal["holdout", "paper"]
"""`holdout`: choose on held-out training images, then train the choice again on all of them with several seeds and read
each test error once; `paper`: read the test error of each full-length trial and take the lowest, as the paper seems to
have done."""

EarlyStopping = Literal["none", "asha", "halving"]
"""`asha`: each trial is judged when it comes to a rung; `halving`: trials wait at rungs for each other, and are judged
by the error of averaged weights."""

MAX_TRIALS = 10_000
"""Trials of a cell: a guard against a slip of the finger."""

CONFIRM_SEEDS = 3
"""Seeds that confirm a configuration: the fewest that say anything of a spread."""

FIRST_FRESH_SEED = MAX_TRIALS
"""Seeds from this one on, counted from `base.seed`, confirm: no trial of a search can have them."""
DIMENSIONS = {"lr": "learning_rates", "weight_decay": "weight_decays", "batch_size": "batch_sizes"}
"""Fields of a trial's configuration that a cell may search, each with the study's field that says where."""


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """What a run is asked to find out.

    Raises:
        ValueError: a field does not hold what its description says.
    """

    name: str
    """Name of the registered study that this one came from."""

    datasets: tuple[str, ...]
    """Names of data sets; with `augmentations` and `variants` they span the cells."""
    augmentations: tuple[Augmentation, ...] = ("none",)
    """Augmentations to train with."""

    variants: tuple[str, ...]
    """Names of architecture variants."""

    learning_rates: Dimension
    """What learning rates each cell may try."""

    base: TrialConfig
    """What all trials share: its data set, augmentation, variant and learning rate are placeholders."""

    seeds: int | None = None
    """Under `holdout`, trials that confirm each selected configuration, 3 by default, 0 for a run that never reads a
    test error; under `paper`, trials per point of a grid, 1 by default, seeded `base.seed`, `base.seed` + 1, and so on.
    """

    weight_decays: Dimension | None = None
    """What weight decays each cell may try; None is `base`'s alone."""

    batch_sizes: Choice | None = None
    """What batch sizes each cell may try; None is `base`'s alone."""

    search: str = "grid"
    """How a cell's points are chosen: `grid`, `tpe`, `random`, or the name of a class of `optuna.samplers`."""

    trials_per_cell: int | None = None
    """Number of points that another search than the grid tries in a cell; a grid tries all of its own."""

    warm_start: WarmStart | None = None
    """What an earlier run tells the search."""

    early_stopping: EarlyStopping = "none"
    """How the worse trials of each cell are stopped: with `asha` once the learning rate has first dropped, with
    `halving` half of them halfway there already."""

    first_rung: int | None = None
    """Epoch after which trials are first judged, and then after `reduction_factor` times as many. None: with `asha` one
    epoch after each drop of the learning rate, before which small rates look better than they end; with `halving`
    halfway to the first drop, and one epoch after it."""

    reduction_factor: int | None = None
    """One trial in this many goes on each time that trials are judged; None: 4 with `asha`, 2 with `halving`."""

    protocol: Protocol = "holdout"
    """How the error that a table shows comes about."""

    validation: float = 0.1
    """Share of each class's training images that `holdout` holds out in its search."""

    confirm_top: int = 1
    """How many configurations of each cell `holdout` confirms, the best ones on the held-out images."""

    recipes: tuple[Recipe, ...] = ()
    """What variants such as `model-c.NAME` are trained by instead of `base`'s settings."""

    def __post_init__(self) -> None:
        check_types(self)
        # What a slip in a file of a user's own makes of them: a string is a sequence of names of one letter each.
        if not isinstance(self.base, TrialConfig):
            raise ValueError(f"base must be a TrialConfig, got {self.base!r}.")
        for name in DIMENSIONS.values():
            value = getattr(self, name)
            if not isinstance(value, Choice | LogUniform) and (value is not None or name == "learning_rates"):
                raise ValueError(f"{name} must be a Choice or a LogUniform, got {value!r}.")
        for name in ("datasets", "augmentations", "variants"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
                raise ValueError(f"{name} must be a tuple of names, got {values!r}; write one as ('name',).")
            if not values:
                raise ValueError(f"{name} must hold at least one name, got none.")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ from each other, got {shown(', '.join(values))[1:-1]}.")
        for name, choices in (
            ("search", SEARCHES),
            ("early_stopping", get_args(EarlyStopping)),
            ("protocol", get_args(Protocol)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(getattr(self, name))}.")
        check_recipes(self.recipes, searched=self.dimensions)
        for variant in self.variants:
            with_recipe(replace(self.base, variant=variant), self.recipes)
        self._check_rungs()
        fewest = 0 if self.protocol == "holdout" else 1
        if self.seeds is not None and not fewest <= self.seeds <= MAX_TRIALS:
            raise ValueError(f"seeds must be at least {fewest} and at most {MAX_TRIALS}, got {self.seeds}.")
        self._check_protocol()
        self._check_dimensions()
        if self.search == "grid":
            if self.warm_start is not None:
                raise ValueError(
                    "warm_start must be left out for the grid search, which learns nothing from earlier trials, "
                    f"got {self.warm_start.run}; add --search tpe."
                )
            if self.trials_per_cell is not None:
                raise ValueError(
                    "trials_per_cell must be left out for the grid search, which tries each of its points, "
                    f"got {self.trials_per_cell}."
                )
        else:
            if self.trials_per_cell is None or not 1 <= self.trials_per_cell <= MAX_TRIALS:
                raise ValueError(
                    f"trials_per_cell must be at least 1 and at most {MAX_TRIALS} for the search {self.search}, "
                    f"got {self.trials_per_cell}."
                )
            if self.search_seeds != 1:
                raise ValueError(
                    f"seeds must be 1 for the search {self.search}, got {self.seeds}; a grid repeats points."
                )
        if self.points_per_cell > MAX_TRIALS:
            raise ValueError(
                f"The grid must hold at most {MAX_TRIALS} trials of a cell, got {self.points_per_cell}; "
                "list fewer values or seeds."
            )
        # A sampler may propose the same point each time: its trials differ in their seeds then.
        seeds = self.search_seeds if self.search == "grid" else self.points_per_cell
        if self.protocol == "holdout":
            seeds = FIRST_FRESH_SEED + self.confirm_seeds
        if self.base.seed + seeds > SEED_LIMIT:
            raise ValueError(f"seed must leave all seeds below {SEED_LIMIT}, got {self.base.seed} as the first.")

    def _check_dimensions(self) -> None:
        if self.batch_sizes is not None and any(value != int(value) for value in self.batch_sizes.values):
            raise ValueError(f"batch_sizes must be whole numbers, got {self.batch_sizes}.")
        for name, dimension in self.dimensions.items():
            if self.search == "grid" and not isinstance(dimension, Choice):
                words = DIMENSIONS[name].replace("_", " ")
                raise ValueError(f"The grid search must have listed {words}, got {dimension}.")
            ends = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
            for value in ends:
                field: dict[str, Any] = {name: int(value) if name == "batch_size" else value}
                replace(self.base, **field)

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """What a cell searches, by the field of a trial's configuration."""
        return {name: getattr(self, where) for name, where in DIMENSIONS.items() if getattr(self, where) is not None}

    def _check_protocol(self) -> None:
        if not 0 < self.validation <= 0.5:
            raise ValueError(f"validation must be above 0 and at most 0.5, got {self.validation:g}.")
        if not 1 <= self.confirm_top <= MAX_TRIALS:
            raise ValueError(f"confirm_top must be at least 1 and at most {MAX_TRIALS}, got {self.confirm_top}.")

    @property
    def search_seeds(self) -> int:
        """Trials per point of a grid."""
        return 1 if self.protocol == "holdout" else self.seeds or 1

    @property
    def confirm_seeds(self) -> int:
        """Trials that confirm each selected configuration; 0 where there is no such phase."""
        return (CONFIRM_SEEDS if self.seeds is None else self.seeds) if self.protocol == "holdout" else 0

    @property
    def confirmed_per_cell(self) -> int:
        """Number of trials in each cell's second phase, at most."""
        return min(self.confirm_top, self.points_per_cell) * self.confirm_seeds

    def _check_rungs(self) -> None:
        last = self.base.epochs - 1
        if self.first_rung is not None and self.early_stopping == "none":
            raise ValueError(
                f"first_rung must be left out where no trial is stopped early, got {self.first_rung}; "
                "add --early-stopping halving or asha."
            )
        if self.first_rung is not None and not 1 <= self.first_rung <= last:
            raise ValueError(f"first_rung must be at least 1 and at most {last}, got {self.first_rung}.")
        if self.base.evaluate_every != 1 and self.early_stopping != "none":
            raise ValueError(
                f"evaluate_every must be 1 with early stopping, which compares the errors of epochs, got "
                f"{self.base.evaluate_every}."
            )
        if not 2 <= self.keep_one_in <= MAX_TRIALS:
            raise ValueError(
                f"reduction_factor must be at least 2 and at most {MAX_TRIALS}, got {self.reduction_factor}."
            )

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which early stopping judges trials, in order."""
        if self.early_stopping == "halving":
            return halving_rungs(self.base, self.first_rung, self.keep_one_in)
        return tuple(rungs_of(self.base, self.first_rung, self.keep_one_in)) if self.early_stopping == "asha" else ()

    @property
    def keep_one_in(self) -> int:
        """One trial in this many goes on each time that early stopping judges trials."""
        usual = HALVING_FACTOR if self.early_stopping == "halving" else REDUCTION_FACTOR
        return usual if self.reduction_factor is None else self.reduction_factor

    @property
    def points_per_cell(self) -> int:
        """Number of trials in each cell's search."""
        if self.search == "grid":
            sizes = [len(dimension.values) for dimension in self.dimensions.values() if isinstance(dimension, Choice)]
            return math.prod(sizes) * self.search_seeds
        assert self.trials_per_cell is not None, "checked when the study was made"
        return self.trials_per_cell

    def cells(self) -> list[TrialConfig]:
        """Return a configuration per cell for the search, what it searches still `base`'s placeholders."""
        held_out = self.validation if self.protocol == "holdout" else 0.0
        averaged_at = self.rungs if self.early_stopping == "halving" else ()
        shared = replace(self.base, held_out=held_out, averaged_at=averaged_at)
        return [
            with_recipe(replace(shared, dataset=dataset, augmentation=augmentation, variant=variant), self.recipes)
            for dataset, augmentation, variant in product(self.datasets, self.augmentations, self.variants)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `from_dict` reads them back."""
        searched = {
            DIMENSIONS[name]: {
                "kind": "choice" if isinstance(dimension, Choice) else "log-uniform",
                **asdict(dimension),
            }
            for name, dimension in self.dimensions.items()
        }
        return asdict(self) | searched

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the study that `to_dict` wrote, also after it went through JSON.

        Raises:
            ValueError: a name is unknown or missing, or a value does not hold.
        """
        plain = dict(check_names(cls, values, "A study"))
        for name in DIMENSIONS.values():
            if plain[name] is not None:
                plain[name] = _dimension(name, plain[name])
        if plain["warm_start"] is not None:
            earlier = check_names(WarmStart, plain["warm_start"], "warm_start")
            points = tuple(
                EarlierPoint(**check_names(EarlierPoint, p, "A point")) for p in listed("points", earlier["points"])
            )
            plain["warm_start"] = WarmStart(**{**earlier, "points": points})
        plain["base"] = TrialConfig.from_dict(plain["base"])
        plain["recipes"] = tuple(map(Recipe.from_dict, listed("recipes", plain["recipes"])))
        for name in ("datasets", "augmentations", "variants"):
            plain[name] = listed(name, plain[name])
        return cls(**plain)


def _dimension(name: str, values: object) -> Dimension:
    if not isinstance(values, Mapping) or values.get("kind") not in ("choice", "log-uniform"):
        raise ValueError(f"{name} must be of the kind choice or log-uniform, got {shown(values)}.")
    kind: type[Choice] | type[LogUniform] = Choice if values["kind"] == "choice" else LogUniform
    given = dict(check_names(kind, {field: value for field, value in values.items() if field != "kind"}, name))
    if "values" in given:
        given["values"] = listed(name, given["values"])
    numbers = given.get("values", given.values())
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 2**1000 for n in numbers):
        raise ValueError(f"{name} must be numbers, got {shown(values)}.")
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


STUDIES: Registry[Callable[[], Study]] = Registry("study")
"""Every named study: a function that returns one."""

register_study = STUDIES.register


@register_study("quickstart")
def quickstart() -> Study:
    """Model C and its three derivations on generated shapes: some minutes on two cores, no data needed.

    Tries every part of a sweep; its errors say nothing about natural images and no paper's number stands beside them.
    """
    return Study(
        name="quickstart",
        datasets=("shapes",),
        variants=("model-c", "strided-cnn-c", "convpool-cnn-c", "all-cnn-c"),
        learning_rates=Choice((0.01, 0.005)),
        base=TrialConfig(
            dataset="shapes",
            variant="all-cnn-c",
            lr=0.05,
            preprocessing="standardise",
            train_size=4000,
            epochs=5,
            warmup_epochs=1.0,
            batch_size=32,
            # So small and so short, most networks with ReLU on their class layer are dead before they have learned.
            architecture=ArchitectureConfig(width=0.25, input_dropout=0.0, dropout=0.1, class_relu=False),
        ),
    )


@register_study("cifar10")
def cifar10() -> Study:
    """The paper's Table 3: twelve variants on CIFAR-10 without augmentation.

    Source: arXiv 1412.6806v3, section 3.1 and Table 3. 350 epochs, learning rate divided by 10 after epochs 200, 250
    and 300, GCN and ZCA. What the paper leaves open: Glorot's initialisation (docs/decisions/0025), batches of 128.
    Expected: ALL-CNN-C 9.08 % there; docs/reproduction has what was measured here. Cost: 48 trials of 350 epochs.
    """
    return Study(
        name="cifar10",
        datasets=("cifar10",),
        variants=paper_space.VARIANTS,
        learning_rates=paper_space.LEARNING_RATES,
        base=TrialConfig(
            dataset="cifar10", variant="all-cnn-c", lr=0.05, architecture=ArchitectureConfig(initialisation="glorot")
        ),
    )


@register_study("cifar10-augmented")
def cifar10_augmented() -> Study:
    """The paper's augmented run: ALL-CNN-C on CIFAR-10 with flips and shifts, 7.25 % there (Table 4)."""
    return replace(cifar10(), name="cifar10-augmented", variants=("all-cnn-c",), augmentations=("flip-shift",))


@register_study("cifar100")
def cifar100() -> Study:
    """The paper's CIFAR-100 run: ALL-CNN-C at CIFAR-10's rate, 33.71 % there (Table 4).

    The paper does not disclose it, public reproductions have 0.05, `--rates-from RUN` takes that of a run of `cifar10`.
    """
    return replace(
        cifar10(),
        name="cifar100",
        datasets=("cifar100",),
        variants=("all-cnn-c",),
        learning_rates=Choice((0.05,)),
        protocol="paper",
        base=replace(cifar10().base, dataset="cifar100"),
    )


@register_study("pooling")
def pooling() -> Study:
    """Pooling as a p-norm on CIFAR-10: Model C and ConvPool-CNN-C with p = 1, 2, 3, learned, and infinity.

    The paper writes pooling as a p-norm (its equation 1) and compares none but the maximum: there is no published
    number for the others. Cost: 40 trials of 350 epochs.
    """
    return replace(cifar10(), name="pooling", variants=paper_space.POOLING_VARIANTS)


@register_study("imagenet")
def imagenet() -> Study:
    """The paper's ImageNet run: an upscaled ALL-CNN-B with under 10 million parameters, 41.2 % top-1 error there.

    Source: arXiv 1412.6806v3, section 3.3, through transcriptions of it: 450,000 iterations of 64 images, learning rate
    0.01 divided by 10 every 200,000, weight decay 0.0005, dropout 50 % after the ninth convolution, random crops and
    flips, error on the centre crop of the validation images. With one configuration nothing is chosen: no images are
    held out. Its 45 epochs are 10,000 steps each, half a pass over the
    images. Cost: one trial, 1.8e17 floating-point operations.
    """
    return Study(
        name="imagenet",
        datasets=("imagenet",),
        augmentations=("crop-flip",),
        protocol="paper",
        variants=("imagenet-all-cnn-b",),
        learning_rates=Choice((0.01,)),
        base=TrialConfig(
            dataset="imagenet",
            augmentation="crop-flip",
            variant="imagenet-all-cnn-b",
            lr=0.01,
            preprocessing="standardise",
            batch_size=64,
            epochs=45,
            iterations=450_000,
            drops=(200 / 450, 400 / 450),
            weight_decay=0.0005,
        ),
    )


@register_study("cifar10-large")
def cifar10_large() -> Study:
    """The paper's Large ALL-CNN: CIFAR-10 images placed into 126x126 px and heavily scaled, rotated, colour-shifted.

    Source: arXiv 1412.6806v3, its section on CIFAR-10. Expected: 4.41 % there, a number known from memory only. The
    paper does not say how it trained this network, nor how strongly it augmented: the learning rates, epochs, batch
    size, weight decay, warm-up, preprocessing and `HeavyConfig`'s strengths are this project's choice, and the class
    layer has no ReLU, which could only end trials (docs/decisions/0006-when-a-start-is-dead.md). Epochs and schedule
    are those of the paper's other runs on CIFAR-10. Cost: 3 trials of 350 epochs at 26.5 billion multiplications a
    forward pass of an image, 8 times what all 48 trials of `cifar10` take together: GPUs only.
    """
    return Study(
        name="cifar10-large",
        datasets=("cifar10",),
        augmentations=("heavy",),
        variants=("large-all-cnn",),
        learning_rates=paper_space.LARGE_LEARNING_RATES,
        base=TrialConfig(
            dataset="cifar10",
            augmentation="heavy",
            variant="large-all-cnn",
            lr=0.01,
            canvas=126,
            preprocessing="standardise",
            weight_decay=0.0005,
            warmup_epochs=1.0,
            # The paper's list of layers has no dropout on this network's input.
            architecture=ArchitectureConfig(input_dropout=0.0, class_relu=False),
        ),
    )
