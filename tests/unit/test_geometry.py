"""Strides and receptive fields, by hand and by where a unit's gradient really reaches."""

import pytest
import torch
from torch import nn

from analysis.networks.geometry import ConvLayer, chain, conv_layers, total_stride
from search_spaces.paper import VARIANTS
from trainables.architectures import build
from trainables.config import ArchitectureConfig

NARROW = ArchitectureConfig(width=0.05)


def layers_of(variant: str) -> dict[str, ConvLayer]:
    return conv_layers(chain(build(variant, NARROW, 10)))


def test_all_cnn_c_by_hand() -> None:
    layers = layers_of("all-cnn-c")
    assert [layer.field for layer in layers.values()] == [3, 5, 7, 11, 15, 19, 27, 27, 27]
    assert [layer.stride for layer in layers.values()] == [1, 1, 2, 2, 2, 4, 4, 4, 4]
    assert [layer.start for layer in layers.values()] == [-1, -2, -3, -5, -7, -9, -9, -9, -9]
    assert not any(layer.is_above_pool for layer in layers.values())


def test_model_c_sees_its_pools() -> None:
    layers = layers_of("model-c")
    assert list(layers) == [f"conv{number}" for number in range(1, 8)]
    assert [layer.is_above_pool for layer in layers.values()] == [False, False, True, True, True, True, True]
    assert layers["conv3"].field == 5 + 2 + 2 * 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_paper_network_has_a_total_stride_of_4(variant: str) -> None:
    assert total_stride(build(variant, NARROW, 10)) == 4


@pytest.mark.parametrize("variant", ["all-cnn-c", "strided-cnn-b", "model-a", "convpool-cnn-c"])
def test_a_field_is_what_the_gradient_reaches(variant: str) -> None:
    torch.manual_seed(0)
    layers = chain(build(variant, ArchitectureConfig(width=0.25), 10).eval())
    for layer in conv_layers(layers).values():
        # Without its ReLUs, and with averages for maxima, every pixel of the field counts.
        smooth = [_smooth(part) for part in layers[: layer.stop]]
        pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
        maps = nn.Sequential(*smooth)(pixels)
        row, column = maps.shape[2] // 2, maps.shape[3] // 2 - 1
        (gradient,) = torch.autograd.grad(maps[0, 0, row, column], pixels)
        reached = gradient[0].abs().sum(0)
        rows, columns = reached.sum(1).nonzero().flatten(), reached.sum(0).nonzero().flatten()
        for found, place in ((rows, row), (columns, column)):
            first = layer.start + place * layer.stride
            assert (int(found[0]), int(found[-1])) == (first, first + layer.field - 1), layer


def _smooth(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.ReLU):
        return nn.Identity()
    if isinstance(layer, nn.MaxPool2d):
        return nn.AvgPool2d(layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode)
    return layer


def test_an_activation_belongs_to_the_convolution_before_it() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Conv2d(4, 5, 1), nn.Flatten()]
    assert [layer.stop for layer in conv_layers(layers).values()] == [3, 5]


def test_nested_sequences_are_opened() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU()))
    assert [type(layer) for layer in chain(nn.Sequential(inner, nn.Flatten()))] == [nn.Conv2d, nn.ReLU, nn.Flatten]


class Branches(nn.Module):
    """No chain."""


def test_what_is_no_chain_has_no_layers_and_no_stride() -> None:
    with pytest.raises(ValueError, match=r"^A network must be an nn\.Sequential of Conv2d, .* got a Branches in it\.$"):
        chain(nn.Sequential(Branches()))
    assert total_stride(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), Branches())) is None
    assert total_stride(nn.Sequential(nn.Flatten())) is None


@pytest.mark.parametrize("name", ["kernel_size", "stride", "padding", "dilation"])
def test_a_window_must_be_square(name: str) -> None:
    options: dict[str, object] = {"kernel_size": 3} | {name: (2, 1)}
    with pytest.raises(ValueError, match=rf"^{name} of a layer must be one number for rows and columns, got \(2, 1\)"):
        conv_layers([nn.Conv2d(3, 4, **options)])  # type: ignore[arg-type]
