"""What may vary in a study: dimensions of hyperparameters, and the values that the paper searched.

Standard library only, so that anything may import it.
"""

from search_spaces.space import Choice, Dimension, LogUniform

__all__ = ["Choice", "Dimension", "LogUniform"]
