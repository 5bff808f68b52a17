"""Pages that show what the filters of a run's networks respond to, after the paper's section on visualisation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import nn

from analysis.networks.backprop import (
    METHODS,
    Method,
    pass_down,
    strongest_of_all,
    strongest_units,
    with_rule,
    without_image,
)
from analysis.networks.geometry import POOLS, ConvLayer, chain, conv_layers
from analysis.networks.opened import Images, Subject, load_images
from analysis.networks.pictures import Label, Tile, draw_page
from trainables.data.source import IMAGE_SHAPE

Array = np.ndarray[Any, Any]

GREY = 0.5
"""Where a picture has nothing: the zero of a reconstruction, and about the mean image."""

WITHOUT_IMAGE_LAYERS = 3
"""The paper shows conv1 to conv3 by a deconvnet without an image."""

COMPARED_IMAGES = 6

_GAP = 0.08


FILTERS, FILTERS_WITHOUT_IMAGE = 8, 24
"""How many filters of a layer are shown by default."""


@final
@dataclass(frozen=True, kw_only=True)
class Looked:
    """A network opened for looking into."""

    subject: Subject
    layers: Sequence[nn.Module]
    convs: Mapping[str, ConvLayer]
    """By name, in order."""

    def part(self, layer: ConvLayer, method: Method) -> nn.Sequential:
        """Return the network from the image to the activations of a layer, with a rule for its ReLUs."""
        return with_rule(self.layers[: layer.stop], method)

    @property
    def is_pooling(self) -> bool:
        """Whether it has pools."""
        return any(isinstance(layer, POOLS) for layer in self.layers)

    @property
    def has_only_relus(self) -> bool:
        """Whether all three rules can be asked of it."""
        return not any(isinstance(layer, nn.LeakyReLU) for layer in self.layers)


def draw_features(
    subjects: Sequence[Subject],
    *,
    layers: Sequence[str] = (),
    method: Method = "guided",
    without_image: bool = False,
    filters: int | None = None,
    patches: int = 10,
    images: int = 2000,
    data: str | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield the name of a file and its PNG for each page: of each network, and one that compares networks and rules.

    Args:
        subjects: the networks.
        layers: names; none takes those that `chosen_layers` or `layers_without_image` choose.
        method: the rule for ReLUs.
        without_image: deconvnet from a lone unit instead of patches, whatever the method.
        filters: the first ones of each layer; None takes `FILTERS`, or `FILTERS_WITHOUT_IMAGE`.
        patches: images per filter.
        images: test images to search.
        data: folder or URI of the images, if not the run's.

    Raises:
        ValueError: a layer does not exist, a rule does not fit a network, or the images cannot be had.
    """
    looked = [look_into(subject) for subject in subjects]
    # Every name is checked before the first page is drawn.
    chosen = [(one, (layers_without_image if without_image else chosen_layers)(one, layers)) for one in looked]
    for one, shown in chosen:
        name = one.subject.label.replace("/", "-")
        if without_image:
            if shown:
                yield f"{name}-without-image.png", page_without_image(one, shown, filters or FILTERS_WITHOUT_IMAGE)
            continue
        searched = load_images(one.subject, data, images)
        for layer in shown:
            page = patch_page(one, layer, searched, method, filters or FILTERS, patches)
            yield f"{name}-{layer.name}-{method}.png", page
    pair = [] if without_image else compared(looked)
    if pair:
        yield "compare.png", comparison_page(pair, load_images(pair[0].subject, data, images))


def look_into(subject: Subject) -> Looked:
    """Return a subject's network opened.

    Raises:
        ValueError: it is no chain of known layers, or has no convolution.
    """
    try:
        layers = chain(subject.network)
        convs = conv_layers(layers)
    except ValueError as error:
        raise ValueError(f"{error} This is {subject.label}; leave it out with --variant.") from error
    if not convs:
        raise ValueError(f"A network must have a convolution to be looked into, got {subject.label}, which has none.")
    return Looked(subject=subject, layers=layers, convs=convs)


def chosen_layers(looked: Looked, names: Sequence[str]) -> list[ConvLayer]:
    """Return the layers of these names, or by default a low one, a middle one and the last but the class layer.

    Raises:
        ValueError: there is no layer of a name.
    """
    if names:
        return [_layer(looked, name) for name in names]
    convs = list(looked.convs.values())
    last = max(1, len(convs) - 1)
    low = min(2, last)
    return [convs[number - 1] for number in sorted({low, (low + last + 1) // 2, last})]


def layers_without_image(looked: Looked, names: Sequence[str]) -> list[ConvLayer]:
    """Return the layers of these names, or by default those of the first three that no pool lies below.

    Raises:
        ValueError: there is no layer of a name, or it lies above a pool, which passes nothing down without an image.
    """
    if not names:
        return [layer for layer in list(looked.convs.values())[:WITHOUT_IMAGE_LAYERS] if not layer.is_above_pool]
    layers = [_layer(looked, name) for name in names]
    above = [layer.name for layer in layers if layer.is_above_pool]
    if above:
        raise ValueError(
            f"layer must lie below every pool to be shown without an image, got {above[0]} of {looked.subject.label}."
        )
    return layers


def patch_page(looked: Looked, layer: ConvLayer, images: Images, method: Method, filters: int, patches: int) -> bytes:
    """Return a page with two rows per filter: its strongest patches, and below each what the unit passes down.

    Raises:
        ValueError: the rule does not fit the network.
    """
    part = looked.part(layer, method)
    by_filter = strongest_units(part, images.normalised, filters, patches)
    passed = iter(pass_down(part, images.normalised, [unit for units in by_filter for unit in units]))
    tiles, labels = [], []
    for index, units in enumerate(by_filter):
        top = index * 2.45
        is_dead = all(unit.activation <= 0 for unit in units)
        labels.append(Label(x=-0.12, y=top + 1, text=f"filter {index}" + "\nnever active" * is_dead, align="right"))
        for number, unit in enumerate(units):
            x = number * (1 + _GAP)
            image = crop(pixels_picture(images.pixels[unit.image]), layer, unit.row, unit.column)
            signal = crop(signal_picture(next(passed)), layer, unit.row, unit.column)
            tiles += [Tile(x=x, y=top, picture=image), Tile(x=x, y=top + 1 + _GAP / 2, picture=signal)]
            name = images.class_name(int(images.labels[unit.image]))
            labels.append(Label(x=x + 0.5, y=top + 2.18, text=name, size=6))
    title = (
        f"{looked.subject.label}, {layer.name} ({layer.field} x {layer.field} px): image above, "
        f"{_METHOD_WORDS[method]} below,\nthe {len(by_filter[0])} strongest of {len(images.labels):,} test images"
    )
    return draw_page(title, tiles, labels)


def page_without_image(looked: Looked, layers: Sequence[ConvLayer], filters: int) -> bytes:
    """Return a page with the layers one below the other: what a lone unit of each filter passes down, by deconvnet.

    Args:
        looked: the network.
        layers: at least one, with no pool below.
        filters: of each layer.

    Raises:
        ValueError: the rule does not fit the network.
    """
    tiles, labels, top = [], [], 0.0
    for layer in layers:
        # Large enough for the middle unit to see nothing of the border.
        side = max(IMAGE_SHAPE[1], 3 * layer.field)
        passed, units = without_image(looked.part(layer, "deconvnet"), filters, side)
        labels.append(Label(x=0, y=top - 0.15, text=f"{layer.name}, {layer.field} x {layer.field} px", align="left"))
        for index, (signal, unit) in enumerate(zip(passed, units, strict=True)):
            row, column = divmod(index, 8)
            picture = crop(signal_picture(signal), layer, unit.row, unit.column)
            tiles.append(Tile(x=column * (1 + _GAP), y=top + row * (1 + _GAP), picture=picture))
        top = tiles[-1].y + 1.55
    return draw_page(f"{looked.subject.label}: deconvnet without an image,\na picture per filter", tiles, labels)


def comparison_page(looked: Sequence[Looked], images: Images) -> bytes:
    """Return a page with a row per image: it, and what the strongest unit of each last layer passes down by each rule.

    Raises:
        ValueError: a rule does not fit a network.
    """
    rows = first_of_each_class(images.labels, COMPARED_IMAGES)
    tiles, labels = [], []
    for y, index in enumerate(rows):
        top = y * 1.32
        tiles.append(Tile(x=0, y=top, picture=pixels_picture(images.pixels[index])))
        labels.append(Label(x=0.5, y=top + 1.13, text=images.class_name(int(images.labels[index]))))
    for number, one in enumerate(looked):
        left = 1.3 + number * (len(METHODS) + 0.45)
        layer = list(one.convs.values())[-1]
        labels.append(Label(x=left + 1.55, y=-0.42, text=f"{one.subject.label}, {layer.name}", size=8))
        units = strongest_of_all(one.part(layer, "plain"), images.normalised[rows])
        for column, method in enumerate(reversed(METHODS)):
            x = left + column * (1 + _GAP / 2)
            labels.append(Label(x=x + 0.5, y=-0.13, text=method))
            passed = pass_down(one.part(layer, method), images.normalised[rows], units)
            tiles += [Tile(x=x, y=y * 1.32, picture=signal_picture(signal)) for y, signal in enumerate(passed)]
        names = [f"strongest: {images.class_name(unit.filter)}" for unit in units]
        labels += [Label(x=left + 1.55, y=y * 1.32 + 1.13, text=name) for y, name in enumerate(names)]
    return draw_page("What the strongest unit of the last layer passes down to the pixels", tiles, labels)


def compared(looked: Sequence[Looked]) -> list[Looked]:
    """Return of the networks without pools and of those with the one of lowest test error, as far as there are any.

    All are of the first one's data set, whose images they are shown.
    """
    dataset = looked[0].subject.config.dataset
    able = [one for one in looked if one.has_only_relus and one.subject.config.dataset == dataset]
    kinds = ([one for one in able if one.is_pooling is pooling] for pooling in (False, True))
    return [min(kind, key=lambda one: one.subject.error) for kind in kinds if kind]


def first_of_each_class(labels: torch.Tensor, count: int) -> list[int]:
    """Return where the first `count` different classes appear first, in that order."""
    first: dict[int, int] = {}
    for index, label in enumerate(labels.tolist()):
        first.setdefault(label, index)
    return list(first.values())[:count]


def crop(picture: Array, layer: ConvLayer, row: int, column: int) -> Array:
    """Return the receptive field of a unit, `(field, field, 3)`, grey where it reaches beyond the picture.

    Args:
        picture: `(H, W, 3)`.
        layer: the unit's.
        row: of the unit in its map.
        column: likewise.
    """
    height, width, channels = picture.shape
    found = np.full((layer.field, layer.field, channels), GREY, picture.dtype)
    top, left = layer.start + row * layer.stride, layer.start + column * layer.stride
    rows, columns = _inside(top, layer.field, height), _inside(left, layer.field, width)
    found[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = picture[rows, columns]
    return found


def pixels_picture(pixels: Array) -> Array:
    """Return an image `(3, H, W)` of bytes as `(H, W, 3)` from 0 to 1."""
    return pixels.transpose(1, 2, 0).astype(np.float32) / 255


def signal_picture(signal: torch.Tensor) -> Array:
    """Return a signal `(3, H, W)` of the normalised space as `(H, W, 3)`: zero is grey, its largest size 0 or 1."""
    largest = signal.abs().max().clamp_min(torch.finfo(signal.dtype).tiny)
    picture: Array = (GREY + signal / largest * GREY).permute(1, 2, 0).numpy()
    return picture


_METHOD_WORDS: dict[Method, str] = {
    "plain": "plain backpropagation",
    "deconvnet": "deconvnet",
    "guided": "guided backpropagation",
}


def _layer(looked: Looked, name: str) -> ConvLayer:
    if name not in looked.convs:
        raise ValueError(
            f"layer must be one that every variant shown has, for {looked.subject.label} {', '.join(looked.convs)}, "
            f"got {name!r}."
        )
    return looked.convs[name]


def _inside(start: int, field: int, size: int) -> slice:
    """Return the part of a field that lies in the picture; empty where it lies wholly beside it."""
    first = min(max(start, 0), size)
    return slice(first, max(first, min(start + field, size)))
