"""Pictures as PNG: curves over a shift, and pages of small pictures. Plain numbers and arrays in, bytes out."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Array = np.ndarray[Any, Any]

_DPI = 100
_TILE_INCHES = 0.54
"""54 px, twice the 27 px that the last layers of the paper's networks see, so that a pixel of theirs is a whole one."""
_MARGIN, _LEFT, _TOP = 0.3, 1.0, 1.2
"""Around a page of tiles, in tiles; labels stand to the left, a title of two lines above."""


@final
@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a chart, its first value at a shift of 0 px."""

    name: str
    values: Sequence[float]
    marked: Sequence[int]
    """Shifts that carry a marker."""


@final
@dataclass(frozen=True, kw_only=True)
class Tile:
    """A small picture on a page. Places are in tiles from the page's upper left corner."""

    x: float
    y: float
    picture: Array
    """`(H, W, 3)`, from 0 to 1."""


@final
@dataclass(frozen=True, kw_only=True)
class Label:
    """A line of text on a page, its middle at `y`."""

    x: float
    y: float
    text: str
    align: Literal["left", "center", "right"] = "center"
    size: float = 6.5


def draw_curves(title: str, panels: Sequence[tuple[str, Sequence[Curve]]]) -> bytes:
    """Return a chart with a panel for each heading and its curves, side by side, over the shift in px."""
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for index, (heading, curves) in enumerate(panels):
        _draw_panel(figure.add_subplot(1, len(panels), index + 1), heading, curves)
    figure.axes[0].legend(fontsize=8, loc="lower left")
    return _png(figure)


def draw_page(title: str, tiles: Sequence[Tile], labels: Sequence[Label]) -> bytes:
    """Return a page of tiles of one size, with its labels, as large as they need."""
    right = max(tile.x for tile in tiles) + 1 + _MARGIN
    bottom = max(tile.y for tile in tiles) + 1 + _MARGIN
    left, top = -_LEFT, -_TOP
    figure = Figure(figsize=((right - left) * _TILE_INCHES, (bottom - top) * _TILE_INCHES))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for tile in tiles:
        extent = (tile.x, tile.x + 1, tile.y + 1, tile.y)
        axes.imshow(tile.picture, extent=extent, interpolation="nearest", vmin=0, vmax=1)
    for label in labels:
        axes.text(label.x, label.y, label.text, ha=label.align, va="center", fontsize=label.size)
    axes.text(left + _MARGIN / 2, top + _MARGIN / 2, title, ha="left", va="top", fontsize=8)
    # After the pictures, each of which would narrow the axes to itself.
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    return _png(figure)


def _draw_panel(axes: Axes, heading: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        (line,) = axes.plot(range(len(curve.values)), curve.values, linewidth=1.3, label=curve.name)
        heights = [curve.values[shift] for shift in curve.marked]
        axes.plot(list(curve.marked), heights, "o", color=line.get_color(), markersize=6)
    axes.set_title(heading, fontsize=9)
    axes.set_xlabel("shift, px (dots: multiples of the total stride)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # Without the name of matplotlib's version in it, the same numbers give the same file for longer.
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return out.getvalue()
