"""The paper's two larger networks: Large ALL-CNN for CIFAR-10, and an upscaled ALL-CNN-B for ImageNet.

Source: arXiv 1412.6806v3; the lists of layers through transcriptions, the padding for ImageNet from one of them.
"""

from trainables.config import ArchitectureConfig
from trainables.layers import Conv, Dropout, Layer, scaled

GROUP_CHANNELS = (320, 640, 960, 1280, 1600)
"""Channels of the five groups of three convolutions at width 1."""

HEAD_CHANNELS = 1920
"""Channels of the two layers before the class layer at width 1."""

GROUP_DROPOUT = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Dropout after the first two layers of each group, as a part of the head's: 0, 10, 20, 30 and 40 % where that is the
paper's 50 %. So one option, `dropout`, makes all of it weaker or stronger."""


def large_layers(options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    """Return the Large ALL-CNN's layer list, for CIFAR-10 images placed into a square of 126x126 px or a little more.

    Without padding, each group of two 2x2 convolutions and one of stride 2 takes the map's side from s to s - 2 and
    then to half of that: 126 -> 124 -> 62 -> 60 -> 30 -> 28 -> 14 -> 12 -> 6 -> 4 -> 2, and the last 2x2 convolution to
    1. 77,455,690 parameters at width 1 with ten classes.

    What the paper leaves open: the leaky ReLU's slope (`leaky_slope`), whether the class layer has one (`class_relu`),
    and whether dropout at a layer is on its input or on its output: here it is on the output, after the ReLU.

    Raises:
        ValueError: the width leaves a layer without channels.
    """
    layers: list[Layer] = [Dropout(probability=options.input_dropout)]
    for channels, part in zip(GROUP_CHANNELS, GROUP_DROPOUT, strict=True):
        drop = [Dropout(probability=part * options.dropout)] if part else []
        layers += [_conv(options, channels), *drop, _conv(options, channels), *drop, _conv(options, channels, stride=2)]
    drop = [Dropout(probability=options.dropout)]
    return [
        *layers,
        _conv(options, HEAD_CHANNELS),
        *drop,
        _conv(options, HEAD_CHANNELS, kernel=1),
        *drop,
        Conv(channels=num_classes, kernel=1, relu=options.class_relu, slope=options.leaky_slope),
    ]


def _conv(options: ArchitectureConfig, channels: int, kernel: int = 2, stride: int = 1) -> Conv:
    narrowed = scaled(channels, options.width, min(GROUP_CHANNELS))
    return Conv(channels=narrowed, kernel=kernel, stride=stride, slope=options.leaky_slope)


def imagenet_layers(options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    """Return the upscaled ALL-CNN-B's layer list of twelve convolutions, for crops of 224x224 px.

    Maps have 54, 54, 27, 23, 23, 12, 12, 12, 6, 6, 6 and 6 px.

    Raises:
        ValueError: the width leaves a layer without channels.
    """

    def conv(channels: int, kernel: int, stride: int = 1, padding: int = 0) -> Conv:
        return Conv(channels=scaled(channels, options.width, 96), kernel=kernel, stride=stride, padding=padding)

    return [
        conv(96, 11, stride=4, padding=1),
        conv(96, 1),
        conv(96, 3, stride=2, padding=1),
        conv(256, 5),
        conv(256, 1),
        conv(256, 3, stride=2, padding=1),
        conv(384, 3, padding=1),
        conv(384, 1),
        conv(384, 3, stride=2, padding=1),
        Dropout(probability=options.dropout),
        conv(1024, 3, padding=1),
        conv(1024, 1),
        Conv(channels=num_classes, kernel=1, relu=options.class_relu),
    ]
