"""What a network is made of: descriptions of layers, and the one function that builds a list of them."""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from trainables.pooling import PNormPool2d

_LEVELS = 2**16
"""Values of the 16 random bits that decide over an element; four of them are cut from each random word."""


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A square convolution with bias, then ReLU unless `relu` is False. `(N, C, H, W)` to `(N, channels, H', W')`."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    relu: bool = True
    slope: float = 0.0
    """What the ReLU multiplies negative values by: 0 is the plain one, more a leaky one."""


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Max-pooling that rounds sizes up, as Caffe does: 32 -> 16 -> 8 with a 3x3 window and stride 2."""

    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Elementwise dropout, in training only."""

    probability: float


@dataclass(frozen=True, kw_only=True)
class PNormPool:
    """Pooling by a p-norm, in a max-pool's place; `p` is None where it is learned."""

    kernel: int
    stride: int
    p: float | None


Layer = Conv | MaxPool | PNormPool | Dropout


def network(layers: list[Layer], in_channels: int = 3) -> nn.Sequential:
    """Build a layer list, closed by the average over the map: `(N, in_channels, H, W)` to logits `(N, classes)`."""
    modules: list[nn.Module] = []
    channels = in_channels
    for layer in layers:
        match layer:
            case Conv():
                modules.append(nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding))
                channels = layer.channels
                if layer.relu:
                    leaky = nn.LeakyReLU(layer.slope, inplace=True)
                    modules.append(leaky if layer.slope else nn.ReLU(inplace=True))
            case MaxPool():
                modules.append(nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=True))
            case PNormPool():
                modules.append(PNormPool2d(layer.kernel, layer.stride, layer.p))
            case Dropout():
                modules.append(WordDropout(layer.probability))
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def scaled(channels: int, width: float, fewest: int) -> int:
    """Return a layer's channels at a width.

    Args:
        channels: at width 1.
        width: factor on them.
        fewest: channels, at width 1, of the network's narrowest layer, which decides what width it can have.

    Raises:
        ValueError: none would be left.
    """
    left = round(channels * width)
    if left < 1:
        raise ValueError(
            f"width must leave every layer at least one channel, got {width:g}, which leaves {channels} channels none; "
            f"use at least {1 / fewest:.3f}."
        )
    return left


@final
class WordDropout(nn.Dropout):
    """`torch.nn.Dropout`, on a CPU from random words of 64 bits; everywhere else, and compiled, it is that very module.

    `torch.nn.Dropout` draws a random number for each element there, on one core, which takes a tenth of the time of an
    ALL-CNN-C's step. A quarter of a word is enough: the probability is rounded to a multiple of 2**-16, and what is
    kept is scaled by the rounded one, so that the mean stays that of the input.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return `input`, of any shape; in training each element is either 0 or scaled up."""
        dropped = round(self.p * _LEVELS)
        # torch.compile cannot trace draws into a buffer.
        is_plain = not self.training or self.inplace or torch.compiler.is_compiling() or input.device.type != "cpu"
        if is_plain or not 0 < dropped < _LEVELS:
            return super().forward(input)
        # Multiplied by a mask of the input's own type, the fastest of the ways that were timed.
        mask = (_random_bits(input) >= dropped - _LEVELS // 2).to(input.dtype)
        return input * mask.mul_(_LEVELS / (_LEVELS - dropped))


def _random_bits(like: torch.Tensor) -> torch.Tensor:
    """Return int16 numbers, each as likely as the others, in the shape of a tensor and as it lies in memory."""
    count = like.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    dense = torch.empty_like(like, dtype=torch.int16)
    return words.view(torch.int16)[:count].as_strided(dense.size(), dense.stride())
