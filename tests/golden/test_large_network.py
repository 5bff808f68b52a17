"""The Large ALL-CNN against the paper's numbers, on the meta device: its shapes are exact, and nothing is computed."""

import pytest
import torch
from torch import nn

from trainables.architectures import build, count_parameters
from trainables.config import ArchitectureConfig
from trainables.large import large_layers
from trainables.layers import Conv, Dropout, Layer

OPTIONS = ArchitectureConfig(input_dropout=0.0)


def built(classes: int = 10, **options: float | bool) -> nn.Sequential:
    with torch.device("meta"):
        model = build("large-all-cnn", ArchitectureConfig(**options), classes)
    assert isinstance(model, nn.Sequential)
    return model


def test_parameter_counts_are_exact() -> None:
    assert count_parameters(built(10)) == 77_455_690
    # Ninety classes more, each with a weight from 1920 channels and a bias.
    assert count_parameters(built(100)) == 77_455_690 + 90 * 1921


def test_maps_shrink_from_126_to_1() -> None:
    sides: list[int] = []
    model = built()
    for module in model:
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    assert model(torch.zeros(2, 3, 126, 126, device="meta")).shape == (2, 10)
    assert sides == [125, 124, 62, 61, 60, 30, 29, 28, 14, 13, 12, 6, 5, 4, 2, 1, 1, 1]


def test_channels_kernels_and_strides() -> None:
    convs = [layer for layer in large_layers(OPTIONS, 10) if isinstance(layer, Conv)]
    groups = [channels for channels in (320, 640, 960, 1280, 1600) for _ in range(3)]
    assert [conv.channels for conv in convs] == [*groups, 1920, 1920, 10]
    assert [conv.kernel for conv in convs] == [2] * 16 + [1, 1]
    assert [conv.stride for conv in convs] == [1, 1, 2] * 5 + [1, 1, 1]
    assert {conv.padding for conv in convs} == {0}
    assert {conv.slope for conv in convs} == {1 / 3}


def dropout_after(layers: list[Layer]) -> list[float]:
    """Return, for the input and then for each convolution, the probability of the dropout that follows it."""
    found = [0.0]
    for layer in layers:
        if isinstance(layer, Conv):
            found.append(0.0)
        elif isinstance(layer, Dropout):
            found[-1] = layer.probability
    return found


def test_places_of_dropout() -> None:
    groups = [p for of_group in (0.0, 0.1, 0.2, 0.3, 0.4) for p in (of_group, of_group, 0.0)]
    assert dropout_after(large_layers(OPTIONS, 10)) == pytest.approx([0.0, *groups, 0.5, 0.5, 0.0])
    weaker = ArchitectureConfig(input_dropout=0.1, dropout=0.1)
    groups = [p for of_group in (0.0, 0.02, 0.04, 0.06, 0.08) for p in (of_group, of_group, 0.0)]
    assert dropout_after(large_layers(weaker, 10)) == pytest.approx([0.1, *groups, 0.1, 0.1, 0.0])


@pytest.mark.parametrize("class_relu", [True, False])
def test_all_relus_are_leaky_and_the_class_layer_s_is_a_choice(class_relu: bool) -> None:
    model = built(class_relu=class_relu, leaky_slope=0.2)
    slopes = [module.negative_slope for module in model if isinstance(module, nn.LeakyReLU)]
    assert slopes == [0.2] * (17 + class_relu)
    assert not any(isinstance(module, nn.ReLU) for module in model)
    assert isinstance(model[-3], nn.LeakyReLU) is class_relu


def test_no_slope_is_the_plain_relu() -> None:
    model = built(leaky_slope=0.0)
    assert sum(isinstance(module, nn.ReLU) for module in model) == 18


def test_a_width_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 0\.001, which leaves 320 channels none; use at least 0\.003\.$"):
        built(width=0.001)
    assert built(width=0.003)
