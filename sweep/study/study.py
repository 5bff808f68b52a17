"""A study: the cells, the space of hyperparameters, the protocol and the budget."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from itertools import product
from typing import Annotated, Any, Literal, Self, final

from annotated_types import Ge, Gt, Le

from search_spaces import Dimension, LogUniform, Scalar, Space, Uniform
from sweep.study.prior_trials import WarmStart
from sweep.study.rungs import HALVING_FACTOR, REDUCTION_FACTOR, halving_rungs, rungs_of
from trainables.common.validation import check_names, check_value, configuration, from_plain, quote
from trainables.config import SEED_LIMIT, Augmentation, TrialConfig
from trainables.hyperparameters import NOT_SEARCHED, OWN, PATHS, is_whole, kind_of, resolve, value_of, with_values
from trainables.options import OPTIONS, complete_options
from trainables.recipe import Recipe, check_recipes, network_of, with_recipe

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

SETTINGS = ("validation", "confirm_top", "first_rung", "reduction_factor")
"""Settings of a study that `--set` gives besides those of its trials."""

FIRST_FRESH_SEED = MAX_TRIALS
"""Seeds from this one on, counted from `base.seed`, confirm: no trial of a search can have them."""


@final
@configuration
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

    space: Space = field(default_factory=Space)
    """What each cell searches; nothing tries `base`'s values alone."""

    spaces: Mapping[str, Space] = field(default_factory=dict)
    """What a variant searches instead of, or besides, the dimensions of `space`, by its name."""

    base: TrialConfig
    """What all trials share: its data set, augmentation, variant and what is searched are placeholders."""

    seeds: Annotated[int, Ge(0), Le(MAX_TRIALS)] | None = None
    """Under `holdout`, trials that confirm each selected configuration, 3 by default, 0 for a run that never reads a
    test error; under `paper`, trials per point of a grid, 1 by default, seeded `base.seed`, `base.seed` + 1, and so on.
    """

    search: str = "grid"
    """How a cell's points are chosen: `grid`, `tpe`, `random`, or the name of a class of `optuna.samplers`."""

    trials_per_cell: Annotated[int, Ge(1), Le(MAX_TRIALS)] | None = None
    """Number of points that another search than the grid tries in a cell; a grid tries all of its own."""

    warm_start: WarmStart | None = None
    """What an earlier run tells the search."""

    early_stopping: EarlyStopping = "none"
    """How the worse trials of each cell are stopped: with `asha` once the learning rate has first dropped, with
    `halving` half of them halfway there already."""

    first_rung: Annotated[int, Ge(1)] | None = None
    """Epoch after which trials are first judged, and then after `reduction_factor` times as many. None: with `asha` one
    epoch after each drop of the learning rate, before which small rates look better than they end; with `halving`
    halfway to the first drop, and one epoch after it."""

    reduction_factor: Annotated[int, Ge(2), Le(MAX_TRIALS)] | None = None
    """One trial in this many goes on each time that trials are judged; None: 4 with `asha`, 2 with `halving`."""

    protocol: Protocol = "holdout"
    """How the error that a table shows comes about."""

    validation: Annotated[float, Gt(0), Le(0.5)] = 0.1
    """Share of each class's training images that `holdout` holds out in its search."""

    confirm_top: Annotated[int, Ge(1), Le(MAX_TRIALS)] = 1
    """How many configurations of each cell `holdout` confirms, the best ones on the held-out images."""

    recipes: tuple[Recipe, ...] = ()
    """What variants such as `model-c.NAME` are trained by instead of `base`'s settings."""

    def __post_init__(self) -> None:
        for name in ("datasets", "augmentations", "variants"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must hold at least one name, got none.")
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must differ from each other, got {quote(', '.join(values))[1:-1]}.")
        self._check_spaces()
        for variant in self.variants:
            space = self.space_of(variant)
            check_recipes(self.recipes, searched=space)
            with_recipe(replace(self.base, variant=variant), self.recipes)
            self._check_search(variant, space)
        self._check_rungs()
        if self.protocol == "paper" and self.seeds == 0:
            raise ValueError("seeds must be at least 1 under the protocol paper, got 0.")
        # A sampler may propose the same point each time: its trials differ in their seeds then.
        seeds = self.search_seeds if self.search == "grid" else self.trials_per_cell or 0
        if self.protocol == "holdout":
            seeds = FIRST_FRESH_SEED + self.confirm_seeds
        if self.base.seed + seeds > SEED_LIMIT:
            raise ValueError(f"seed must leave all seeds below {SEED_LIMIT}, got {self.base.seed} as the first.")

    def _check_spaces(self) -> None:
        """Name every dimension by its canonical name, and refuse those that are none of a trial's values."""
        object.__setattr__(self, "space", self._named(self.space, self.variants))
        spaces = {}
        for variant, space in self.spaces.items():
            meant = [each for each in self.variants if variant in (each, network_of(each))]
            if not meant:
                raise ValueError(
                    f"spaces must name variants that are compared, {', '.join(self.variants)}, "
                    f"got {quote(variant)[1:-1]}."
                )
            spaces[variant] = self._named(space, meant)
        object.__setattr__(self, "spaces", spaces)

    def _named(self, space: Space, variants: Sequence[str]) -> Space:
        own = {variant: own_names(variant) for variant in variants}
        known = dict.fromkeys([*PATHS, *(name for names in own.values() for name in names)])
        resolved: dict[str, Dimension] = {}
        for name, dimension in space.items():
            # Of a run that is read where its variants are not registered, the names are canonical already.
            plain = name if name.startswith(OWN) and not any(own.values()) else resolve(name, known)
            if plain in resolved:
                raise ValueError(
                    f"A space must name each hyperparameter once, got two names for {plain}, one of them {name}."
                )
            condition = dimension.condition
            if condition is not None and not condition.name.startswith(OWN):
                dimension = dimension.when(resolve(condition.name, known), *condition.values)
            is_own = plain.startswith(OWN) and any(own.values())
            having = [variant for variant, names in own.items() if plain in names]
            without = [variant for variant in own if is_own and variant not in having]
            if without:
                raise ValueError(
                    f"{plain} must be an option of every variant that searches it, got {without[0]}, which has none of "
                    f"that name; search it for {having[0]} alone, in spaces or by --vary {having[0]}:{plain}=VALUES."
                )
            kinds = [kind_of(plain, OPTIONS[network_of(variant)]) for variant in having] if is_own else []
            self._check_dimension(plain, dimension, kinds if plain.startswith(OWN) else [kind_of(plain)])
            resolved[plain] = dimension
        return Space(resolved)

    def _check_dimension(self, name: str, dimension: Dimension, kinds: Sequence[object]) -> None:
        if name in NOT_SEARCHED:
            raise ValueError(f"{name} must not be searched, got {dimension}; give it with --set {name}=VALUE.")
        if name in ("epochs", "iterations") and self.early_stopping != "none":
            raise ValueError(
                f"{name} must not be searched with early stopping, which compares trials after equal epochs, "
                f"got {dimension}."
            )
        for kind in kinds:
            if isinstance(dimension, Uniform | LogUniform) and is_whole(kind):
                raise ValueError(
                    f"{name} must be searched as IntUniform or Choice, since it is a whole number, got {dimension}."
                )
            # A variant's own options are checked by their class, when its cells are made.
            for value in () if name.startswith(OWN) else dimension.ends:
                check_value(name, value, kind)

    def _check_search(self, variant: str, space: Space) -> None:
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
            if (points := space.count_points() * self.search_seeds) > MAX_TRIALS:
                raise ValueError(
                    f"The grid must hold at most {MAX_TRIALS} trials of a cell, got {points} for {variant}; "
                    "list fewer values or seeds."
                )
            return
        if self.trials_per_cell is None:
            raise ValueError(f"trials_per_cell must be given for the search {quote(self.search)[1:-1]}, got none.")
        if self.search_seeds != 1:
            raise ValueError(
                f"seeds must be 1 for the search {quote(self.search)[1:-1]}, got {self.seeds}; a grid repeats points."
            )

    def space_of(self, variant: str) -> Space:
        """Return what a variant's cells search: the study's dimensions, and the variant's own in their place."""
        own = self.spaces.get(variant) or self.spaces.get(network_of(variant))
        return self.space.with_dimensions(own) if own else self.space

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of all hyperparameters that any cell searches, in order."""
        return tuple(dict.fromkeys(name for variant in self.variants for name in self.space_of(variant)))

    def tried(self, name: str) -> set[Scalar]:
        """Return the values that trials can have of a hyperparameter; of a range its ends."""
        values: set[Scalar] = set()
        for cell in self.cells():
            dimension = self.space_of(cell.variant).get(name)
            if dimension is None or dimension.condition:
                values.add(value_of(cell, name))
            if dimension is not None:
                values.update(dimension.listed() or dimension.ends)
        return values

    @property
    def most_epochs(self) -> int:
        """Epochs of a trial, the most that any can have."""
        return max(each for each in self.tried("epochs") if isinstance(each, int))

    @property
    def search_seeds(self) -> int:
        """Trials per point of a grid."""
        return 1 if self.protocol == "holdout" else self.seeds or 1

    @property
    def confirm_seeds(self) -> int:
        """Trials that confirm each selected configuration; 0 where there is no such phase."""
        return (CONFIRM_SEEDS if self.seeds is None else self.seeds) if self.protocol == "holdout" else 0

    def points_of(self, variant: str) -> int:
        """Return the number of trials in the search of each of a variant's cells."""
        if self.search == "grid":
            return self.space_of(variant).count_points() * self.search_seeds
        assert self.trials_per_cell is not None, "checked when the study was made"
        return self.trials_per_cell

    def confirmed_of(self, variant: str) -> int:
        """Return the number of trials in the second phase of each of a variant's cells, at most."""
        return min(self.confirm_top, self.points_of(variant)) * self.confirm_seeds

    @property
    def search_trials(self) -> int:
        """Number of trials in the searches of all cells."""
        return self._cells_per_variant * sum(map(self.points_of, self.variants))

    @property
    def confirm_trials(self) -> int:
        """Number of trials in the second phase of all cells, at most."""
        return self._cells_per_variant * sum(map(self.confirmed_of, self.variants))

    @property
    def epochs(self) -> int | None:
        """Epochs of every trial; None where a cell searches them."""
        return None if "epochs" in self.searched else self.base.epochs

    @property
    def reads_test_errors(self) -> bool:
        """Whether a test error is measured at all: not under `holdout` where nothing is confirmed."""
        return self.protocol != "holdout" or bool(self.confirm_seeds)

    @property
    def _cells_per_variant(self) -> int:
        return len(self.datasets) * len(self.augmentations)

    def _check_rungs(self) -> None:
        last = self.base.epochs - 1
        if self.first_rung is not None and self.early_stopping == "none":
            raise ValueError(
                f"first_rung must be left out where no trial is stopped early, got {self.first_rung}; "
                "add --early-stopping halving or asha."
            )
        if self.first_rung is not None and self.first_rung > last:
            raise ValueError(f"first_rung must be at most {last}, the last epoch but one, got {self.first_rung}.")
        if self.base.evaluate_every != 1 and self.early_stopping != "none":
            raise ValueError(
                f"evaluate_every must be 1 with early stopping, which compares the errors of epochs, got "
                f"{self.base.evaluate_every}."
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

    def cells(self) -> list[TrialConfig]:
        """Return a configuration per cell for the search, what it searches still `base`'s placeholders."""
        held_out = self.validation if self.protocol == "holdout" else 0.0
        averaged_at = self.rungs if self.early_stopping == "halving" else ()
        shared = replace(self.base, held_out=held_out, averaged_at=averaged_at)
        return [
            self._with_options(
                with_recipe(replace(shared, dataset=dataset, augmentation=augmentation, variant=variant), self.recipes)
            )
            for dataset, augmentation, variant in product(self.datasets, self.augmentations, self.variants)
        ]

    def _with_options(self, cell: TrialConfig) -> TrialConfig:
        """Return a cell's configuration with the variant's own options complete, its space's bounds checked by them."""
        network = network_of(cell.variant)
        given = self.base.options if network in OPTIONS or not any(map(own_names, self.variants)) else {}
        cell = replace(cell, options=complete_options(network, given))
        own = {name: each for name, each in self.space_of(cell.variant).items() if name.startswith(OWN)}
        for name, dimension in own.items():
            for value in dimension.ends:
                complete_options(network, with_values(cell, {name: value}).options)
        return cell

    def settings(self) -> dict[str, Any]:
        """Return what the study is, by the names under which a command line changes it.

        What is searched stands there as its dimension, what one variant searches by itself under `VARIANT:NAME`.
        """
        held = ("name", "base", "space", "spaces", "warm_start")
        settings = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name not in held}
        settings |= {name: value_of(self.base, name) for name in PATHS}
        settings |= {name: getattr(self.base, name) for name in ("data", "plugins", "drops")}
        settings |= {f"{OWN}{name}": value for name, value in self.base.options.items()}
        settings |= self.space
        for variant, space in self.spaces.items():
            settings |= {f"{variant}:{name}": dimension for name, dimension in space.items()}
        return settings

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `from_dict` reads them back."""
        spaces = {variant: space.to_dict() for variant, space in self.spaces.items()}
        return asdict(self) | {"space": self.space.to_dict(), "spaces": spaces}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the study that `to_dict` wrote, also after it went through JSON.

        Raises:
            ValueError: a name is unknown or missing, or a value does not hold.
        """
        plain = dict(check_names(cls, values, "A study"))
        plain["space"] = Space.from_dict(plain.get("space"))
        spaces = plain.get("spaces")
        if not isinstance(spaces, Mapping):
            raise ValueError(f"spaces must be spaces by variant, got {quote(spaces)}.")
        plain["spaces"] = {variant: Space.from_dict(space) for variant, space in spaces.items()}
        return from_plain(cls, plain, "A study")


def own_names(variant: str) -> list[str]:
    """Return the names of the options that a variant registered as its own."""
    kind = OPTIONS.get(network_of(variant))
    return [f"{OWN}{item.name}" for item in dataclasses.fields(kind)] if kind is not None else []


def params_of(config: TrialConfig, space: Space) -> dict[str, Scalar]:
    """Return the values that a trial has of what its cell searches, by name; without dimensions that do not exist."""
    params: dict[str, Scalar] = {}
    for name in space:
        if space.is_active(name, params):
            params[name] = value_of(config, name)
    return params
