"""Pictures as PNG: figures, and pages of small pictures."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

_DPI = 100
_TILE_INCHES = 0.54
"""54 px, twice the 27 px that the last layers of the paper's networks see, so that a pixel of theirs is a whole one."""
_MARGIN, _LEFT, _TOP = 0.3, 1.0, 1.2
"""Around a page of tiles, in tiles; labels stand to the left, a title of two lines above."""


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
    return png(figure)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    out = io.BytesIO()
    # Without the name of matplotlib's version in it, the same numbers give the same file for longer.
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return out.getvalue()
