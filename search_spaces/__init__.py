"""What may vary in a study: dimensions of hyperparameters, spaces of them, and the values that the paper searched.

Standard library only, so that anything may import it.
"""

from search_spaces.dimensions import Choice, Condition, Dimension, IntUniform, LogUniform, Scalar, Uniform
from search_spaces.space import Space

__all__ = ["Choice", "Condition", "Dimension", "IntUniform", "LogUniform", "Scalar", "Space", "Uniform"]
