"""The three backward rules against values worked out by hand on a net of two layers."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from analysis.networks.backprop import (
    METHODS,
    Method,
    RuledReLU,
    Unit,
    pass_down,
    strongest_of_all,
    strongest_units,
    with_rule,
    without_image,
)


def convolution(weights: Sequence[object], **options: int) -> nn.Conv2d:
    values = torch.tensor(weights, dtype=torch.float32)
    layer = nn.Conv2d(values.shape[1], values.shape[0], (values.shape[2], values.shape[3]), bias=False, **options)
    with torch.no_grad():
        layer.weight.copy_(values)
    return layer


def two_layers() -> list[nn.Module]:
    # Two filters that copy and negate a pixel, and one over three pixels of both.
    return [
        convolution([[[[1]]], [[[-1]]]]),
        nn.ReLU(inplace=True),
        convolution([[[[1, -2, -1]], [[4, 5, -6]]]]),
        nn.ReLU(inplace=True),
    ]


IMAGE = torch.tensor([[[[2.0, -1.0, 3.0]]]])
# First layer: 2, -1, 3 and -2, 1, -3. Second: 1 * 2 - 1 * 3 + 5 * 1 = 4, which comes down as the signals
# 4, -8, -4 and 16, 20, -24 to the first ReLU; the pixels get the first less the second.
BY_HAND: dict[Method, list[float]] = {
    "plain": [4, -20, -4],  # 4, 0, -4 and 0, 20, 0
    "deconvnet": [-12, -20, 0],  # 4, 0, 0 and 16, 20, 0
    "guided": [4, -20, 0],  # 4, 0, 0 and 0, 20, 0
}


@pytest.mark.parametrize("method", METHODS)
def test_a_rule_on_two_layers(method: Method) -> None:
    part = with_rule(two_layers(), method)
    assert part(IMAGE).item() == 4
    unit = Unit(image=0, filter=0, row=0, column=0, activation=4.0)
    passed = pass_down(part, IMAGE, [unit])
    assert passed.shape == (1, 1, 1, 3)
    assert passed.flatten().tolist() == BY_HAND[method]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("plain", [0, 5, -5, 0, 0]),
        ("deconvnet", [5, 5, 0, 5, 0]),
        ("guided", [0, 5, 0, 0, 0]),
    ],
)
def test_both_comparisons_are_strict(method: Method, expected: list[float]) -> None:
    features = torch.tensor([0.0, 1.0, 1.0, -1.0, 1.0], requires_grad=True)
    out = RuledReLU(method)(features)
    assert out.tolist() == [0, 1, 1, 0, 1]
    (passed,) = torch.autograd.grad(out, features, torch.tensor([5.0, 5.0, -5.0, 5.0, 0.0]))
    assert passed.tolist() == expected


@pytest.mark.parametrize("method", METHODS)
def test_a_max_pool_sends_the_signal_to_its_switch(method: Method) -> None:
    part = with_rule([convolution([[[[2]]]]), nn.ReLU(), nn.MaxPool2d(2), convolution([[[[3]]]]), nn.ReLU()], method)
    image = torch.tensor([[[[1.0, 4.0], [-2.0, 3.0]]]])
    assert part(image).item() == 24
    unit = Unit(image=0, filter=0, row=0, column=0, activation=24.0)
    # 24 * 3 comes to the pool, and twice that below the convolution at the place of the 4.
    assert pass_down(part, image, [unit])[0, 0].tolist() == [[0, 144], [0, 0]]


def test_plain_is_the_gradient_of_the_network_itself() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 5, 3), nn.ReLU(inplace=True)]
    images = torch.randn(2, 3, 12, 12)
    unit = Unit(image=1, filter=3, row=1, column=2, activation=2.5)
    pixels = images[1:].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(2.5 * nn.Sequential(*layers)(pixels)[0, 3, 1, 2], pixels)
    assert torch.equal(pass_down(with_rule(layers, "plain"), images, [unit]), gradient)


def test_a_deconvnet_without_pools_reads_no_image() -> None:
    torch.manual_seed(0)
    part = with_rule([nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU()], "deconvnet")
    images = torch.randn(3, 3, 11, 11)
    units = [Unit(image=image, filter=2, row=2, column=2, activation=1.0) for image in range(3)]
    passed = pass_down(part, images, units)
    assert torch.equal(passed[0], passed[1])
    alone, middles = without_image(part, 4, 11)
    assert [(unit.filter, unit.row, unit.column) for unit in middles] == [(index, 2, 2) for index in range(4)]
    assert torch.allclose(alone[2], passed[0], atol=1e-7)
    # More filters than there are: all of them.
    assert len(without_image(part, 9, 11)[1]) == 5


def test_the_layers_keep_their_weights_and_stay_as_they_are() -> None:
    layers = two_layers()
    part = with_rule(layers, "guided")
    assert part[0] is layers[0]
    assert isinstance(layers[1], nn.ReLU)
    image = IMAGE.clone()
    pass_down(part, image, [Unit(image=0, filter=0, row=0, column=0, activation=4.0)])
    assert torch.equal(image, IMAGE)


def test_the_strongest_units_of_each_filter() -> None:
    part = with_rule([convolution([[[[1]]], [[[-1]]]]), nn.ReLU()], "plain")
    images = torch.tensor([[[[1.0, 2.0], [0.0, -1.0]]], [[[0.0, 0.0], [9.0, -5.0]]], [[[3.0, 0.0], [0.0, -7.0]]]])
    first, second = strongest_units(part, images, filters=2, patches=2)
    assert [(unit.image, unit.filter, unit.row, unit.column, unit.activation) for unit in first] == [
        (1, 0, 1, 0, 9),
        (2, 0, 0, 0, 3),
    ]
    assert [(unit.image, unit.filter, unit.row, unit.column, unit.activation) for unit in second] == [
        (2, 1, 1, 1, 7),
        (1, 1, 1, 1, 5),
    ]
    assert [len(units) for units in strongest_units(part, images, filters=7, patches=9)] == [3, 3]
    assert [(unit.image, unit.filter, unit.row, unit.column) for unit in strongest_of_all(part, images)] == [
        (0, 0, 0, 1),
        (1, 0, 1, 0),
        (2, 1, 1, 1),
    ]


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_a_leaky_relu_has_the_plain_rule_only(method: Method) -> None:
    layers = [nn.Conv2d(3, 2, 1), nn.LeakyReLU(0.1)]
    with pytest.raises(ValueError, match=f"^method must be plain for a network with LeakyReLU, got {method}, "):
        with_rule(layers, method)
    assert with_rule(layers, "plain")(torch.ones(1, 3, 1, 1)).shape == (1, 2, 1, 1)
