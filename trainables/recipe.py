"""A recipe: settings of training and of the network under a name, which replace those of a trial.

A study that compares recipes names its variants `NETWORK.RECIPE`, such as `model-c.glorot`. Each is a cell of its own:
it is searched, stopped early and shown like any other variant.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import field
from typing import Self, final

from trainables.common.registry import check_name
from trainables.common.validation import Scalar, configuration, from_plain, quote
from trainables.config import TrialConfig
from trainables.hyperparameters import PATHS, near, with_values

SEPARATOR = "."

OF_THE_STUDY = (
    *("epochs", "iterations", "train_size", "evaluate_every", "seed", "preprocessing", "canvas"),
    *("precision", "memory_format", "compiled"),
)
"""Values that a study decides for all of its trials alike; a recipe may set all others."""


@final
@configuration
class Recipe:
    """Settings under a name.

    Raises:
        ValueError: the name is none, or there is no such setting.
    """

    name: str
    """Lower-case letters, digits and hyphens."""

    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """Values by the names in `trainables.hyperparameters.PATHS`, without those `OF_THE_STUDY`."""

    def __post_init__(self) -> None:
        check_name("recipe", self.name)
        known = [name for name in PATHS if name not in OF_THE_STUDY]
        unknown = [name for name in self.settings if name not in known]
        if unknown:
            raise ValueError(
                f"settings of the recipe {self.name} must be values of one trial, got {quote(unknown[0])}"
                f"{near(unknown[0], known)}"
            )

    def applied_to(self, config: TrialConfig) -> TrialConfig:
        """Return a trial's configuration with these settings in place of its own.

        Raises:
            ValueError: a value does not hold.
        """
        try:
            return with_values(config, self.settings)
        except ValueError as error:
            raise ValueError(f"In the recipe {self.name}: {error}") from error

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Return the recipe that `dataclasses.asdict` made plain values of.

        Raises:
            ValueError: a name is unknown or missing, or a value does not hold.
        """
        return from_plain(cls, values, "A recipe")


def network_of(variant: str) -> str:
    """Return the network's part of a variant's name: `model-c` of `model-c.glorot`."""
    return variant.partition(SEPARATOR)[0]


def recipe_of(variant: str) -> str | None:
    """Return the recipe's part of a variant's name: `glorot` of `model-c.glorot`; None where it has none."""
    _, separator, name = variant.partition(SEPARATOR)
    return name if separator else None


def with_recipe(config: TrialConfig, recipes: Sequence[Recipe]) -> TrialConfig:
    """Return a trial's configuration with the settings of the recipe that its variant names, if it names one.

    Raises:
        ValueError: there is no recipe of that name, or one of its values does not hold.
    """
    name = recipe_of(config.variant)
    if name is None:
        return config
    for recipe in recipes:
        if recipe.name == name:
            return recipe.applied_to(config)
    known = ", ".join(recipe.name for recipe in recipes)
    raise ValueError(
        f"The variant {quote(config.variant)[1:-1]} must name one of the study's recipes, "
        + (f"{known}." if recipes else "got it in a study that has none; leave the part after the dot out.")
    )


def check_recipes(recipes: Sequence[Recipe], *, searched: Container[str]) -> None:
    """Refuse what are no recipes of a study.

    Args:
        recipes: the study's.
        searched: fields of `TrialConfig` that the study searches.

    Raises:
        ValueError: two have the same name, or one sets what is searched.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < len(names):
        raise ValueError(f"recipes must have different names, got {', '.join(names)}.")
    for recipe in recipes:
        for name in recipe.settings:
            if name in searched:
                raise ValueError(f"The recipe {recipe.name} must not set {name}, which the study searches.")
