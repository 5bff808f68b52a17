"""Where a unit of a convolution looks: the layers of a network that is a chain, their strides and receptive fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import final

from torch import nn

from trainables.pooling import PNormPool2d

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, PNormPool2d)
_PER_PIXEL = (nn.Dropout, nn.Dropout2d, nn.BatchNorm2d, nn.Identity)
_CLOSING = (nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear)
_KNOWN = (nn.Conv2d, *POOLS, *ACTIVATIONS, *_PER_PIXEL, *_CLOSING)


@final
@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A convolution of a chain and what its units see. Pixels are the image's, the same on both axes.

    The unit in row r of its map sees `field` rows from `start + r * stride` on, and columns likewise; those below 0 or
    beyond the image are padding.
    """

    name: str
    """`conv1` is the convolution next to the image."""
    stop: int
    """How many layers of the chain give its activations: up to its ReLU, where it has one."""
    field: int
    """Side of the receptive field, px."""
    stride: int
    """Distance between the fields of neighbouring units, px."""
    start: int
    """First row and column of the field of the unit in row 0 and column 0, px."""
    is_above_pool: bool
    """Whether a pool lies between it and the image."""


def chain(network: nn.Module) -> list[nn.Module]:
    """Return a network's layers in order, nested `nn.Sequential` opened.

    Raises:
        ValueError: it holds a module that is no `nn.Sequential` and none of the known layers.
    """
    if isinstance(network, nn.Sequential):
        return [layer for part in network for layer in chain(part)]
    if not isinstance(network, _KNOWN):
        raise ValueError(
            "A network must be an nn.Sequential of "
            f"{', '.join(kind.__name__ for kind in _KNOWN)} for its layers to be told apart, "
            f"got a {type(network).__name__} in it."
        )
    return [network]


def total_stride(network: nn.Module) -> int | None:
    """Return the product of the strides of all convolutions and pools, or None for what is no chain of them.

    Raises:
        ValueError: a stride differs between rows and columns.
    """
    try:
        layers = chain(network)
    except ValueError:
        # With branches or unknown layers in it, a product over all modules would be a number without a meaning.
        return None
    windows = [window for layer in layers if (window := _window(layer)) is not None]
    return prod(window.stride for window in windows) if windows else None


def conv_layers(layers: Sequence[nn.Module]) -> dict[str, ConvLayer]:
    """Return the convolutions of a chain by their names `conv1`, `conv2` and so on.

    Raises:
        ValueError: a window is not square.
    """
    found: dict[str, ConvLayer] = {}
    field, stride, start, is_above_pool = 1, 1, 0, False
    for index, layer in enumerate(layers):
        window = _window(layer)
        if window is None:
            continue
        field += (window.reach - 1) * stride
        start -= window.padding * stride
        stride *= window.stride
        is_above_pool |= isinstance(layer, POOLS)
        if isinstance(layer, nn.Conv2d):
            name = f"conv{len(found) + 1}"
            found[name] = ConvLayer(
                name=name,
                stop=_after_activation(layers, index + 1),
                field=field,
                stride=stride,
                start=start,
                is_above_pool=is_above_pool,
            )
    return found


@final
@dataclass(frozen=True, kw_only=True)
class _Window:
    reach: int
    """Values along one axis from the first to the last that it takes."""
    stride: int
    padding: int


def _window(layer: nn.Module) -> _Window | None:
    match layer:
        case nn.Conv2d():
            dilation = _square("dilation", layer.dilation)
            reach = (_square("kernel_size", layer.kernel_size) - 1) * dilation + 1
        case nn.MaxPool2d():
            reach = (_square("kernel_size", layer.kernel_size) - 1) * _square("dilation", layer.dilation) + 1
        case nn.AvgPool2d():
            reach = _square("kernel_size", layer.kernel_size)
        case PNormPool2d():
            return _Window(reach=layer.kernel, stride=layer.stride, padding=0)
        case _:
            return None
    return _Window(reach=reach, stride=_square("stride", layer.stride), padding=_square("padding", layer.padding))


def _square(name: str, value: object) -> int:
    """Return what holds for both axes."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(set(pair)) != 1 or not isinstance(pair[0], int):
        raise ValueError(f"{name} of a layer must be one number for rows and columns, got {value!r}.")
    return pair[0]


def _after_activation(layers: Sequence[nn.Module], stop: int) -> int:
    """Return where a convolution's activation ends, if one follows with nothing but per-pixel layers between."""
    end = stop
    while end < len(layers) and isinstance(layers[end], _PER_PIXEL):
        end += 1
    return end + 1 if end < len(layers) and isinstance(layers[end], ACTIVATIONS) else stop
