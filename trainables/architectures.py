"""The paper's twelve CIFAR networks: three layer lists and three rewriting rules; and the registry of variants.

Source: arXiv 1412.6806v3, Tables 1 and 2. A network is a list of layer descriptions until it is built, so that a rule
is a function from list to list and sizes and counts can be worked out by hand.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from torch import nn

from trainables.common.registry import Registry
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.initialisation import initialise
from trainables.large import imagenet_layers, large_layers
from trainables.layers import Conv, Dropout, Layer, MaxPool, PNormPool, network, scaled
from trainables.options import make_options, register_options
from trainables.recipe import network_of

STAGE_KERNELS = {"a": (5,), "b": (5, 1), "c": (3, 3)}
"""Sides of the convolutions in each of the two stages of the paper's three base networks."""

STAGE_CHANNELS = (96, 192)
"""Channels of the paper's two stages at width 1; the head has as many as the second stage."""


def base_layers(base: str, options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    """Return the layer list of the paper's model A, B or C, with max-pooling.

    Raises:
        ValueError: the width leaves a layer without channels.
    """
    layers: list[Layer] = [Dropout(probability=options.input_dropout)]
    for wanted in STAGE_CHANNELS:
        channels = scaled(wanted, options.width, min(STAGE_CHANNELS))
        layers += [Conv(channels=channels, kernel=side, padding=side // 2) for side in STAGE_KERNELS[base]]
        layers += [MaxPool(), Dropout(probability=options.dropout)]
    return [
        *layers,
        Conv(channels=channels, kernel=3, padding=options.head_padding),
        Conv(channels=channels, kernel=1),
        Conv(channels=num_classes, kernel=1, relu=options.class_relu),
    ]


def strided(layers: list[Layer], options: ArchitectureConfig) -> list[Layer]:
    """Drop each pool and give the convolution before it the pool's stride: the Strided-CNN rule."""
    rewritten: list[Layer] = []
    after_stride = False
    for layer in layers:
        if isinstance(layer, MaxPool):
            before = rewritten.pop()
            if not isinstance(before, Conv):
                raise ValueError(f"A pool must follow a convolution for the strided rule, got {before}.")
            rewritten.append(replace(before, stride=layer.stride))
            after_stride = True
        elif isinstance(layer, Dropout) and after_stride:
            if options.strided_dropout:
                rewritten.append(layer)
            after_stride = False
        else:
            rewritten.append(layer)
    return rewritten


def convpool(layers: list[Layer], options: ArchitectureConfig) -> list[Layer]:  # noqa: ARG001 - a rule's signature
    """Put one more 3x3 convolution before each pool: the ConvPool-CNN rule, the control for ALL-CNN's parameters."""
    return _before_each_pool(layers, lambda channels, pool: [Conv(channels=channels, kernel=3, padding=1), pool])


def all_convolutional(layers: list[Layer], options: ArchitectureConfig) -> list[Layer]:  # noqa: ARG001 - as above
    """Put a 3x3 convolution with the pool's stride in its place: the ALL-CNN rule."""
    return _before_each_pool(
        layers,
        lambda channels, pool: [Conv(channels=channels, kernel=pool.kernel, stride=pool.stride, padding=1)],
    )


def pool_by_norm(layers: list[Layer], p: float | None) -> list[Layer]:
    """Put pooling by a p-norm in each max-pool's place, p learned per layer where it is None."""
    return [
        PNormPool(kernel=layer.kernel, stride=layer.stride, p=p) if isinstance(layer, MaxPool) else layer
        for layer in layers
    ]


Rule = Callable[[list[Layer], ArchitectureConfig], list[Layer]]

RULES: dict[str, Rule] = {
    "model": lambda layers, _options: layers,
    "strided-cnn": strided,
    "convpool-cnn": convpool,
    "all-cnn": all_convolutional,
}
"""The paper's four rows of Table 3, by the first part of a variant's name."""


Builder = Callable[[Any, int], nn.Module]
"""What is registered: (`ArchitectureConfig` or own options, number of classes) -> a module from images `(N, 3, H, W)`
to logits `(N, classes)`.

Images are 32x32 px, or as large as the trial's `canvas`."""

VARIANTS: Registry[Builder] = Registry("variant")
"""Every variant by name, the paper's twelve first and in its order."""


def register_variant(name: str, options: type | None = None) -> Callable[[Builder], Builder]:
    """Return a decorator that makes a builder known as `name` to the command line, the sweep and the tables.

    Args:
        name: the variant's.
        options: a dataclass of the variant's own, whose fields have defaults: the builder gets one in place of
            `ArchitectureConfig`, and each field is a hyperparameter `options.FIELD` that can be set and searched.

    Raises:
        ValueError: the name is taken by another builder, or is not made of lower-case letters, digits and hyphens.
    """
    decorate = VARIANTS.register(name)
    if options is not None:
        register_options(name, options)
    return decorate


def build_network(config: TrialConfig, num_classes: int) -> nn.Module:
    """Return the network of a trial, built with its variant's own options where it has some.

    Raises:
        ValueError: as `build`, or an option does not hold.
    """
    own = make_options(network_of(config.variant), config.options)
    return build(config.variant, config.architecture, num_classes, own)


def build(variant: str, options: ArchitectureConfig, num_classes: int, own: Any = None) -> nn.Module:
    """Return the network of a registered variant, its weights initialised as `options` says.

    The caller seeds torch: the same seed gives the same weights. A recipe in the variant's name, as in
    `model-c.glorot`, is not looked at: its settings are in `options` already.

    Args:
        variant: its name.
        options: those of the paper's networks, and how weights are initialised.
        num_classes: logits of an image.
        own: the variant's own options, for a builder that takes these.

    Raises:
        ValueError: the variant is unknown, or the width leaves a layer without channels.
    """
    model = VARIANTS[network_of(variant)](options if own is None else own, num_classes)
    initialise(model, options.initialisation, options.initialisation_std)
    return model


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values, biases included."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _before_each_pool(layers: list[Layer], rewrite: Callable[[int, MaxPool], list[Layer]]) -> list[Layer]:
    rewritten: list[Layer] = []
    channels = 0
    for layer in layers:
        if isinstance(layer, Conv):
            channels = layer.channels
        rewritten += rewrite(channels, layer) if isinstance(layer, MaxPool) else [layer]
    return rewritten


def _paper_layers(base: str, prefix: str, options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    return RULES[prefix](base_layers(base, options, num_classes), options)


def _pooled_layers(prefix: str, p: float | None, options: ArchitectureConfig, num_classes: int) -> list[Layer]:
    return pool_by_norm(_paper_layers("c", prefix, options, num_classes), p)


def _register_layers(name: str, layers: Callable[[ArchitectureConfig, int], list[Layer]]) -> None:
    register_variant(name)(lambda options, num_classes: network(layers(options, num_classes)))


for _base, _prefix in product(STAGE_KERNELS, RULES):
    _register_layers(f"{_prefix}-{_base}", partial(_paper_layers, _base, _prefix))
_register_layers("large-all-cnn", large_layers)
_register_layers("imagenet-all-cnn-b", imagenet_layers)
# The two networks of base C that pool, by a p-norm instead of the maximum, such as `model-c-p2`.
for _prefix, _p in product(("model", "convpool-cnn"), (1.0, 2.0, 3.0, None)):
    _register_layers(f"{_prefix}-c-p{'learned' if _p is None else f'{_p:g}'}", partial(_pooled_layers, _prefix, _p))
