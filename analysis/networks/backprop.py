"""From one unit of a network down to the pixels: plain backpropagation, deconvnet and guided backpropagation.

With f the input of a ReLU and R the signal that comes down to it, what goes on is
    plain      R where f > 0
    deconvnet  R where R > 0
    guided     R where f > 0 and R > 0
and 0 elsewhere. The forward pass is the network's own; pools and convolutions pass down their ordinary gradient, so
that a max-pool sends the signal to the place that was its maximum, its switch. Source: arXiv 1412.6806v3, section on
visualisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, Literal, final, get_args

import torch
from torch import nn

Method = Literal["guided", "deconvnet", "plain"]
METHODS: tuple[Method, ...] = get_args(Method)

_BATCH = 250


@final
@dataclass(frozen=True, kw_only=True)
class Unit:
    """One number of a layer's activations for one image."""

    image: int
    filter: int
    row: int
    column: int
    activation: float


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, method: Method) -> torch.Tensor:
        ctx.method = method
        ctx.save_for_backward(features)
        return features.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *signals: Any) -> Any:
        (features,), (signal,) = ctx.saved_tensors, signals
        passes = {
            "plain": lambda: features > 0,
            "deconvnet": lambda: signal > 0,
            "guided": lambda: (features > 0) & (signal > 0),
        }
        # A product would turn an infinite signal into NaN where it stops.
        return torch.where(passes[ctx.method](), signal, 0.0), None


@final
class RuledReLU(nn.Module):
    """A ReLU, out of place, that passes the signal down by one of the three rules."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return max(features, 0)."""
        return _ReLU.apply(features, self.method)  # type: ignore[no-any-return]


def with_rule(layers: Sequence[nn.Module], method: Method) -> nn.Sequential:
    """Return the chain of the same layers, its ReLUs replaced; the weights are shared.

    Raises:
        ValueError: an activation is no ReLU, and the rule is not `plain`, the only one that means anything there.
    """
    return nn.Sequential(*(_with_rule(layer, method) for layer in layers))


def strongest_units(part: nn.Module, images: torch.Tensor, filters: int, patches: int) -> list[list[Unit]]:
    """Return for each of the first filters its strongest unit in each of the images that excite it most.

    Args:
        part: from images to the activations of a layer.
        images: `(N, 3, H, W)`.
        filters: how many, at least 1; all where the layer has fewer.
        patches: how many images per filter, at least 1; all where there are fewer.
    """
    peaks = _peaks(part, images, filters)
    return [nlargest(patches, units, key=lambda unit: unit.activation) for units in zip(*peaks, strict=True)]


def strongest_of_all(part: nn.Module, images: torch.Tensor) -> list[Unit]:
    """Return for each image the strongest unit of a whole layer."""
    return [max(units, key=lambda unit: unit.activation) for units in _peaks(part, images)]


def _peaks(part: nn.Module, images: torch.Tensor, filters: int | None = None) -> list[list[Unit]]:
    """Return for each image the strongest unit of each of the first filters."""
    peaks: list[list[Unit]] = []
    with torch.inference_mode():
        for batch in torch.split(images, _BATCH):
            maps = part(batch)[:, :filters]
            strongest = maps.flatten(2).max(2)
            for values, places in zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True):
                units = []
                for index, (value, place) in enumerate(zip(values, places, strict=True)):
                    row, column = divmod(place, maps.shape[3])
                    units.append(Unit(image=len(peaks), filter=index, row=row, column=column, activation=value))
                peaks.append(units)
    return peaks


def pass_down(part: nn.Module, images: torch.Tensor, units: Sequence[Unit]) -> torch.Tensor:
    """Return what each unit passes down to the pixels of its image when all others are zero, `(units, 3, H, W)`.

    Args:
        part: from images to the activations of a layer, its ReLUs replaced by `with_rule`.
        images: `(N, 3, H, W)`, of which `unit.image` counts; the signal starts at `unit.activation`.
        units: at least one.
    """
    pixels = images[[unit.image for unit in units]].clone().requires_grad_()
    maps = part(pixels)
    signal = torch.zeros_like(maps)
    for index, unit in enumerate(units):
        signal[index, unit.filter, unit.row, unit.column] = unit.activation
    (passed,) = torch.autograd.grad(maps, pixels, signal)
    return passed.detach()


def without_image(part: nn.Module, filters: int, side: int) -> tuple[torch.Tensor, list[Unit]]:
    """Return what a unit of 1 in the middle of each of the first maps passes down, `(filters, 3, side, side)`.

    Args:
        part: from images to a layer with no pool below, its ReLUs by the deconvnet's rule, which reads no forward pass:
            the image of zeros stands for any.
        filters: how many, at least 1; all where the layer has fewer.
        side: of the images, px.
    """
    nothing = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        _, channels, height, width = part(nothing).shape
    units = [
        Unit(image=0, filter=index, row=height // 2, column=width // 2, activation=1.0)
        for index in range(min(filters, channels))
    ]
    return pass_down(part, nothing, units), units


def _with_rule(layer: nn.Module, method: Method) -> nn.Module:
    if isinstance(layer, nn.ReLU):
        return RuledReLU(method)
    if isinstance(layer, nn.LeakyReLU):
        if method != "plain":
            raise ValueError(
                f"method must be plain for a network with LeakyReLU, got {method}, whose rule is one for ReLU."
            )
        return nn.LeakyReLU(layer.negative_slope)
    return layer
