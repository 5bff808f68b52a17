"""The rewriting rules on layer lists; counts and sizes of the built networks are among the golden tests."""

import pytest
import torch
from torch import nn

from trainables.architectures import (
    RULES,
    Conv,
    Dropout,
    Layer,
    MaxPool,
    all_convolutional,
    base_layers,
    build,
    convpool,
    count_parameters,
    network,
    strided,
)
from trainables.config import ArchitectureConfig

OPTIONS = ArchitectureConfig()
IN, DOWN, POOL = Dropout(probability=0.2), Dropout(probability=0.5), MaxPool(kernel=3, stride=2)
HEAD = [Conv(channels=192, kernel=3), Conv(channels=192, kernel=1), Conv(channels=10, kernel=1)]


def five(channels: int) -> Conv:
    return Conv(channels=channels, kernel=5, padding=2)


def three(channels: int, stride: int = 1) -> Conv:
    return Conv(channels=channels, kernel=3, padding=1, stride=stride)


def one(channels: int, stride: int = 1) -> Conv:
    return Conv(channels=channels, kernel=1, stride=stride)


STAGES = {
    "a": ([five(96)], [five(192)]),
    "b": ([five(96), one(96)], [five(192), one(192)]),
    "c": ([three(96), three(96)], [three(192), three(192)]),
}


@pytest.mark.parametrize("base", STAGES)
def test_the_bases_are_the_paper_s(base: str) -> None:
    first, second = STAGES[base]
    expected: list[Layer] = [IN, *first, POOL, DOWN, *second, POOL, DOWN, *HEAD]
    assert base_layers(base, OPTIONS, 10) == expected
    assert RULES["model"](expected, OPTIONS) == expected


@pytest.mark.parametrize("base", STAGES)
def test_convpool_puts_a_convolution_before_each_pool(base: str) -> None:
    first, second = STAGES[base]
    expected = [IN, *first, three(96), POOL, DOWN, *second, three(192), POOL, DOWN, *HEAD]
    assert convpool(base_layers(base, OPTIONS, 10), OPTIONS) == expected


@pytest.mark.parametrize("base", STAGES)
def test_all_cnn_puts_a_strided_convolution_in_each_pool_s_place(base: str) -> None:
    first, second = STAGES[base]
    expected = [IN, *first, three(96, stride=2), DOWN, *second, three(192, stride=2), DOWN, *HEAD]
    assert all_convolutional(base_layers(base, OPTIONS, 10), OPTIONS) == expected


@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize(
    ("base", "first", "second"),
    [
        ("a", [Conv(channels=96, kernel=5, padding=2, stride=2)], [Conv(channels=192, kernel=5, padding=2, stride=2)]),
        ("b", [five(96), one(96, stride=2)], [five(192), one(192, stride=2)]),
        ("c", [three(96), three(96, stride=2)], [three(192), three(192, stride=2)]),
    ],
)
def test_strided_gives_the_stride_to_the_convolution_before(
    base: str, first: list[Layer], second: list[Layer], dropout: bool
) -> None:
    options = ArchitectureConfig(strided_dropout=dropout)
    after = [DOWN] if dropout else []
    assert strided(base_layers(base, options, 10), options) == [IN, *first, *after, *second, *after, *HEAD]


def test_rules_leave_the_list_they_were_given() -> None:
    layers = base_layers("b", OPTIONS, 10)
    before = list(layers)
    for rule in (strided, convpool, all_convolutional):
        rule(layers, OPTIONS)
        assert layers == before


def test_the_strided_rule_needs_a_convolution_before_a_pool() -> None:
    with pytest.raises(ValueError, match=r"^A pool must follow a convolution for the strided rule, got Dropout"):
        strided([Conv(channels=4, kernel=1), Dropout(probability=0.5), MaxPool()], OPTIONS)


def test_the_options_reach_the_layers() -> None:
    options = ArchitectureConfig(input_dropout=0.1, dropout=0.3, class_relu=False, head_padding=1, width=0.5)
    layers = base_layers("a", options, 7)
    assert [layer.probability for layer in layers if isinstance(layer, Dropout)] == [0.1, 0.3, 0.3]
    assert layers[-3:] == [
        Conv(channels=96, kernel=3, padding=1),
        Conv(channels=96, kernel=1),
        Conv(channels=7, kernel=1, relu=False),
    ]


@pytest.mark.parametrize("width", [0.005, 0.001])
def test_too_small_a_width_is_refused_with_the_least_that_works(width: float) -> None:
    message = rf"at least one channel, got {width:g}, which leaves 96 channels none; use at least 0\.010\.$"
    with pytest.raises(ValueError, match=message):
        base_layers("a", ArchitectureConfig(width=width), 10)
    assert base_layers("a", ArchitectureConfig(width=0.01), 10)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^variant must be one of model-a, .*all-cnn-c.*, got 'all-cnn-d'\.$"):
        build("all-cnn-d", OPTIONS, 10)


def test_a_small_network_computes_what_its_layers_say() -> None:
    model = network([Conv(channels=1, kernel=1), MaxPool(), Conv(channels=2, kernel=1, relu=False)], in_channels=1)
    first, second = (module for module in model if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight.fill_(2.0)
        first.bias.fill_(-1.0)
        second.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        second.bias.copy_(torch.tensor([0.0, 0.5]))
    # Four by four: relu(2x - 1), the largest of each 3x3 window at stride 2 (the last ones cut off), then the mean.
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = torch.tensor([10.0, 11.0, 14.0, 15.0]) * 2 - 1
    expected = torch.tensor([[pooled.mean(), 0.5 - pooled.mean()]])
    assert torch.allclose(model(image), expected)


def test_only_what_is_trained_counts_as_parameter() -> None:
    model = nn.Linear(3, 2)
    assert count_parameters(model) == 8
    model.bias.requires_grad_(False)
    assert count_parameters(model) == 6
