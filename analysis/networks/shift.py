"""What a shift of the image does to a network's answers.

A convolution or pool of stride s moves with its input only where the input moves by a multiple of s. Through a whole
network that is a multiple of the total stride, the product of all strides: by any other shift the last map holds other
numbers, not the same ones elsewhere.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import nn
from torch.nn import functional

from analysis.formats import Row, as_cell
from analysis.networks.geometry import total_stride
from analysis.networks.opened import Images, Subject
from analysis.networks.pictures import png
from trainables.data.source import IMAGE_SHAPE

DIRECTIONS = {"left": (-1, 1, 0, 0), "right": (1, -1, 0, 0), "up": (0, 0, -1, 1), "down": (0, 0, 1, -1)}
"""Columns added at the left and right, rows added at the top and bottom, for a shift of one pixel."""

REMARKS = (
    "Shares are means over the four directions. Exact invariance to a shift needs a multiple of the total stride, the "
    "product of the strides of all convolutions and pools; even there the answer may change by what leaves the image "
    "and the zeros that come in.",
    "Numbers from a small run, with one seed and few epochs, rank no architecture.",
)
"""What a reader must know of the table."""

_MEASURES = (("unchanged %", "unchanged"), ("error %", "wrong"))
"""Heading, and which of a row's counts."""

_BATCH = 250


@final
@dataclass(frozen=True, kw_only=True)
class ShiftRow:
    """What one shift did to the answers of one network, in float32 on the CPU."""

    variant: str
    total_stride: int | None
    """None where it is not known, see `analysis.networks.geometry.total_stride`."""
    direction: str
    """`none` for the images as they are."""
    shift: int
    """px."""
    images: int
    unchanged: int
    """Images given the same class as without a shift."""
    wrong: int
    """Images given a class that is not their own."""


def shift_images(images: torch.Tensor, direction: str, pixels: int) -> torch.Tensor:
    """Return images `(N, C, H, W)` moved by some pixels over zeros, the padding of training too."""
    return functional.pad(images, [pixels * side for side in DIRECTIONS[direction]])


def check_max_shift(max_shift: int) -> None:
    """Refuse a largest shift that is negative or leaves nothing of an image.

    Raises:
        ValueError: it is not at least 0 and below the images' side, px.
    """
    side = min(IMAGE_SHAPE[1:])
    if not 0 <= max_shift < side:
        raise ValueError(f"max_shift must be at least 0 and below the images' {side} px, got {max_shift}.")


def measure(subject: Subject, images: Images, max_shift: int) -> list[ShiftRow]:
    """Return a row for the images as they are and one for each direction and shift of 1 to `max_shift` px.

    Raises:
        ValueError: `max_shift` is out of range, or a stride differs between rows and columns.
    """
    check_max_shift(max_shift)
    stride = total_stride(subject.network)
    before = predictions(subject.network, images.normalised)

    def row(direction: str, pixels: int, given: torch.Tensor) -> ShiftRow:
        return ShiftRow(
            variant=subject.label,
            total_stride=stride,
            direction=direction,
            shift=pixels,
            images=len(given),
            unchanged=int((given == before).sum()),
            wrong=int((given != images.labels).sum()),
        )

    rows = [row("none", 0, before)]
    for direction in DIRECTIONS:
        for pixels in range(1, max_shift + 1):
            moved = shift_images(images.normalised, direction, pixels)
            rows.append(row(direction, pixels, predictions(subject.network, moved)))
    return rows


def predictions(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the class that a network gives each image, int64 `(N,)`."""
    with torch.inference_mode():
        # A copy of each batch: a network may begin with a layer that works in place.
        return torch.cat([network(batch.clone()).argmax(1) for batch in torch.split(images, _BATCH)])


def curve(rows: Sequence[ShiftRow], count: str) -> list[float]:
    """Return `unchanged` or `wrong` in percent for each shift from 0 on, the mean over its directions.

    Args:
        rows: those of one variant.
        count: which of the two.
    """
    shifts = sorted({row.shift for row in rows})
    at_shift = [[row for row in rows if row.shift == shift] for shift in shifts]
    return [100 * sum(getattr(row, count) for row in same) / sum(row.images for row in same) for same in at_shift]


def by_variant(rows: Sequence[ShiftRow]) -> dict[str, list[ShiftRow]]:
    """Return the rows of each variant, in order."""
    return {name: [row for row in rows if row.variant == name] for name in dict.fromkeys(row.variant for row in rows)}


def shift_table(rows: Sequence[ShiftRow]) -> list[Row]:
    """Return a row of text per measure and variant, with a column per shift in px, the mean over its directions."""
    return [
        {
            "measure": measure,
            "variant": variant,
            "total stride": as_cell(own[0].total_stride),
            **{f"{pixels} px": f"{value:.2f}" for pixels, value in enumerate(curve(own, count))},
        }
        for measure, count in _MEASURES
        for variant, own in by_variant(rows).items()
    ]


def draw_shift(rows: Sequence[ShiftRow]) -> bytes:
    """Return a chart as PNG: unchanged answers and errors over the shift, a line per variant."""
    figure = Figure(figsize=(5.2 * len(_MEASURES), 4.2), layout="constrained")
    figure.suptitle(f"Images shifted over zeros, mean of four directions, {rows[0].images:,} test images", fontsize=10)
    for axes, (heading, count) in zip(figure.subplots(1, len(_MEASURES)), _MEASURES, strict=True):
        for variant, own in by_variant(rows).items():
            values, stride = curve(own, count), own[0].total_stride
            label = f"{variant}, total stride {as_cell(stride)}"
            (line,) = axes.plot(values, linewidth=1.3, label=label)
            marked = range(0, len(values), stride) if stride else ()
            axes.plot(marked, [values[shift] for shift in marked], "o", color=line.get_color(), markersize=6)
        axes.set_title(heading, fontsize=9)
        axes.set_xlabel("shift, px (dots: multiples of the total stride)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8, loc="lower left")
    return png(figure)


def shift_csv(rows: Sequence[ShiftRow]) -> bytes:
    """Return all rows, shares as fractions in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["variant", "total_stride", "direction", "shift_px", "images", "unchanged", "error"])
    for row in rows:
        stride = "" if row.total_stride is None else row.total_stride
        shares = (row.unchanged / row.images, row.wrong / row.images)
        writer.writerow([row.variant, stride, row.direction, row.shift, row.images, *shares])
    return out.getvalue().encode()
