"""Weights averaged over the latest steps: what they reach says more of a learning rate than the weights as they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import nn
from typing_extensions import TypedDict  # what pydantic asks for before Python 3.12


class AverageState(TypedDict):
    """What `WeightAverage.restore` takes."""

    averages: Sequence[torch.Tensor]
    steps: int


@final
class WeightAverage:
    """Exponential moving average (EMA) of a network's weights, which looks back one epoch's steps.

    While the learning rate is high, weights jump about the place where a lower rate would lead them; their average is
    near it. How well it ranks learning rates is measured by benchmarks/early_stopping.py.
    """

    def __init__(self, model: nn.Module, steps_per_epoch: int) -> None:
        """Begin with no step seen.

        Args:
            model: whose parameters are averaged; buffers are not.
            steps_per_epoch: how far the average looks back; 1 is the weights as they are.
        """
        self._weights = [weight.detach() for weight in model.parameters()]
        self._averages = [torch.zeros_like(weight) for weight in self._weights]
        self._decay = 1 - 1 / steps_per_epoch
        self._steps = 0

    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        # The factors of all weights seen add up to one from the first step on: no zero stays in the average.
        share = (1 - self._decay) / (1 - self._decay**self._steps)
        torch._foreach_lerp_(self._averages, self._weights, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the weights' place until the context ends."""
        kept = [weight.clone() for weight in self._weights]
        _copy(self._averages, self._weights)
        try:
            yield
        finally:
            _copy(kept, self._weights)

    def state(self) -> AverageState:
        """Return a copy of what `restore` needs."""
        return {"averages": [average.cpu().clone() for average in self._averages], "steps": self._steps}

    def restore(self, averages: Sequence[torch.Tensor], steps: int) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: the averages are those of another network.
        """
        if [average.shape for average in averages] != [average.shape for average in self._averages]:
            raise ValueError("Averaged weights must have the shapes of the network's, got others.")
        _copy(averages, self._averages)
        self._steps = steps


def _copy(sources: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
