"""The paper's ImageNet network: an upscaled ALL-CNN-B of twelve convolutions.

Source: arXiv 1412.6806v3, section 3.3, through transcriptions; the padding is known from one of them.
"""

from trainables.config import ArchitectureConfig
from trainables.layers import Conv, Dropout, Layer, scaled

NARROWEST = 96
"""Channels of the narrowest layer that the width scales."""


def imagenet_layers(options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    """Return the layer list: maps of 54, 54, 27, 23, 23, 12, 12, 12, 6, 6, 6 and 6 px from crops of 224.

    Raises:
        ValueError: the width leaves a layer without channels.
    """

    def conv(channels: int, kernel: int, stride: int = 1, padding: int = 0) -> Conv:
        return Conv(channels=scaled(channels, options.width, NARROWEST), kernel=kernel, stride=stride, padding=padding)

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
