"""Shifted images, and what is counted of the answers."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from analysis.networks.opened import Images, Subject
from analysis.networks.shift import (
    ShiftRow,
    check_max_shift,
    curve,
    draw_shift,
    measure,
    shift_csv,
    shift_images,
    shift_table,
)
from tests.looked_at import config

PNG = b"\x89PNG\r\n\x1a\n"


def subject(network: nn.Module, label: str = "model-c") -> Subject:
    return Subject(
        label=label, error=0.5, config=config("model-c"), num_classes=2, network=network.eval(), checksum=None
    )


def images_of(normalised: torch.Tensor, labels: list[int]) -> Images:
    pixels = np.zeros(normalised.shape, np.uint8)
    return Images(pixels=pixels, normalised=normalised, labels=torch.tensor(labels), class_names=("a", "b"))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("right", [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
        ("left", [[2, 3, 0], [5, 6, 0], [8, 9, 0]]),
        ("down", [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),
        ("up", [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),
    ],
)
def test_an_image_moves_over_zeros(direction: str, expected: list[list[float]]) -> None:
    image = torch.arange(1.0, 10).view(1, 1, 3, 3)
    assert shift_images(image, direction, 1)[0, 0].tolist() == expected
    assert torch.equal(shift_images(image, direction, 0), image)


def point(row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, row, column] = 1
    return image


class Parity(nn.Sequential):
    """Takes every second pixel of rows and columns: class 1 where it sees the point, 0 where it misses it."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 2, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with torch.no_grad():
            self[0].weight.copy_(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
            self[0].bias.copy_(torch.tensor([1e-4, 0.0]))


def test_a_stride_of_2_keeps_the_answer_at_even_shifts_only() -> None:
    rows = measure(subject(Parity()), images_of(torch.cat([point(16, 16), point(17, 17)]), [1, 1]), 4)
    assert len(rows) == 1 + 4 * 4
    assert {row.total_stride for row in rows} == {2}
    # The first point is seen at even shifts, the second never: one of its coordinates stays odd.
    assert curve(rows, "unchanged") == [100, 50, 100, 50, 100]
    assert curve(rows, "wrong") == [50, 100, 50, 100, 50]


def test_what_leaves_the_image_counts() -> None:
    rows = measure(subject(Parity()), images_of(point(16, 30), [1]), 2)
    (right,) = [row for row in rows if (row.direction, row.shift) == ("right", 2)]
    assert (right.unchanged, right.wrong, right.images) == (0, 1, 1)
    assert curve(rows, "unchanged") == [100, 0, 75]


def test_a_first_layer_that_works_in_place_spoils_no_image() -> None:
    images = images_of(torch.randn(3, 3, 32, 32), [0, 1, 0])
    before = images.normalised.clone()
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    measure(subject(network), images, 1)
    assert torch.equal(images.normalised, before)


@pytest.mark.parametrize("value", [-1, 32, 1000])
def test_a_largest_shift_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=rf"^max_shift must be at least 0 and below the images' 32 px, got {value}\.$"):
        check_max_shift(value)


def rows_of(variant: str, stride: int | None) -> list[ShiftRow]:
    def row(direction: str, shift: int, unchanged: int, wrong: int) -> ShiftRow:
        return ShiftRow(
            variant=variant,
            total_stride=stride,
            direction=direction,
            shift=shift,
            images=8,
            unchanged=unchanged,
            wrong=wrong,
        )

    return [row("none", 0, 8, 2), row("left", 1, 4, 4), row("right", 1, 6, 2), row("up", 1, 8, 2), row("down", 1, 8, 0)]


def test_table_chart_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [*rows_of("model-c", 4), *rows_of("branches", None)]
    first, second, third, fourth = shift_table(rows)
    assert first == {
        "measure": "unchanged %",
        "variant": "model-c",
        "total stride": "4",
        "0 px": "100.00",
        "1 px": "81.25",
    }
    assert (second["variant"], second["total stride"]) == ("branches", "-")
    assert (third["measure"], third["0 px"], third["1 px"]) == ("error %", "25.00", "25.00")
    assert fourth["variant"] == "branches"
    written = list(csv.DictReader(io.StringIO(shift_csv(rows).decode())))
    assert len(written) == 10
    assert list(written[1].values()) == ["model-c", "4", "left", "1", "8", "0.5", "0.5"]
    chart = draw_shift(rows)
    assert chart.startswith(PNG)
    assert chart == draw_shift(rows)
