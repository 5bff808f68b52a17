"""The twelve networks against the paper's numbers: parameter counts, sizes of the maps, shapes of the logits."""

import pytest
import torch
from torch import nn

from search_spaces import paper
from trainables.architectures import VARIANTS, build, count_parameters, network
from trainables.config import ArchitectureConfig
from trainables.data.images import CROP
from trainables.large import imagenet_layers
from trainables.layers import WordDropout

# Exact counts with biases, computed from the paper's layer lists, for 10 and for 100 classes.
COUNTS = {
    "model-a": (839_242, 856_612),
    "strided-cnn-a": (839_242, 856_612),
    "convpool-cnn-a": (1_254_250, 1_271_620),
    "all-cnn-a": (1_254_250, 1_271_620),
    "model-b": (885_610, 902_980),
    "strided-cnn-b": (885_610, 902_980),
    "convpool-cnn-b": (1_300_618, 1_317_988),
    "all-cnn-b": (1_300_618, 1_317_988),
    "model-c": (954_730, 972_100),
    "strided-cnn-c": (954_730, 972_100),
    "convpool-cnn-c": (1_369_738, 1_387_108),
    "all-cnn-c": (1_369_738, 1_387_108),
}


def test_the_paper_s_twelve_are_registered_first_and_in_its_order() -> None:
    assert tuple(VARIANTS)[:12] == paper.VARIANTS == tuple(COUNTS)


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_are_exact(variant: str) -> None:
    counts = tuple(count_parameters(build(variant, ArchitectureConfig(), classes)) for classes in (10, 100))
    assert counts == COUNTS[variant]


@pytest.mark.parametrize("variant", COUNTS)
def test_maps_shrink_from_32_to_16_to_8_to_6_at_full_width(variant: str) -> None:
    model = build(variant, ArchitectureConfig(), 10).eval()
    sides: list[int] = [32]
    for module in model:
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
    logits = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 10)
    assert torch.isfinite(logits).all()
    assert list(dict.fromkeys(sides)) == [32, 16, 8, 6]


def test_a_padded_head_keeps_8x8() -> None:
    model = build("all-cnn-c", ArchitectureConfig(width=0.1, head_padding=1), 10)
    assert model[:-2](torch.zeros(1, 3, 32, 32)).shape == (1, 10, 8, 8)


@pytest.mark.parametrize("class_relu", [True, False])
def test_the_class_layer_has_a_relu_only_where_asked(class_relu: bool) -> None:
    model = build("model-a", ArchitectureConfig(width=0.1, class_relu=class_relu), 10)
    assert isinstance(model[-3], nn.ReLU) is class_relu


@pytest.mark.parametrize(("strided_dropout", "layers"), [(True, 3), (False, 1)])
def test_dropout_after_strided_layers_is_a_choice(strided_dropout: bool, layers: int) -> None:
    model = build("strided-cnn-c", ArchitectureConfig(width=0.1, strided_dropout=strided_dropout), 10)
    assert sum(isinstance(module, WordDropout) for module in model) == layers


def test_strided_b_strides_its_1x1_convolutions() -> None:
    model = build("strided-cnn-b", ArchitectureConfig(), 10)
    strided = [module.kernel_size for module in model if isinstance(module, nn.Conv2d) and module.stride == (2, 2)]
    assert strided == [(1, 1), (1, 1)]


def test_a_width_that_leaves_no_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width must leave every layer at least one channel, got 0.001"):
        build("model-a", ArchitectureConfig(width=0.001), 10)


def test_width_scales_every_layer_but_the_last() -> None:
    model = build("all-cnn-c", ArchitectureConfig(width=0.25), 10)
    channels = [module.out_channels for module in model if isinstance(module, nn.Conv2d)]
    assert channels == [24, 24, 24, 48, 48, 48, 48, 48, 10]


def test_the_imagenet_network_has_the_papers_sizes_and_under_10_million_parameters() -> None:
    with torch.device("meta"):
        model = network(imagenet_layers(ArchitectureConfig(), 1000)).eval()
        sides: list[int] = []
        for module in model:
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda _m, _i, out: sides.append(out.shape[-1]))
        logits = model(torch.empty(2, 3, CROP, CROP))
    assert count_parameters(model) == 9_372_840
    assert sides == [54, 54, 27, 23, 23, 12, 12, 12, 6, 6, 6, 6]
    assert logits.shape == (2, 1000)


def test_the_imagenet_network_drops_out_after_its_ninth_convolution_only() -> None:
    model = network(imagenet_layers(ArchitectureConfig(width=0.05), 1000))
    kinds = [type(module) for module in model if isinstance(module, nn.Conv2d | WordDropout)]
    assert kinds.index(WordDropout) == 9
    assert kinds.count(WordDropout) == 1
    assert kinds.count(nn.Conv2d) == 12
