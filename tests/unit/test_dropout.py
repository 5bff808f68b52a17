"""Dropout from random words: what it drops, how often, and where it is torch's own."""

import pytest
import torch
from torch import nn

from trainables.layers import WordDropout

SHAPE = (8, 24, 16, 16)


def dropped(p: float, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return WordDropout(p).train()(images)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_element_is_zero_or_scaled_and_as_many_are_zero_as_should_be(p: float, dtype: torch.dtype) -> None:
    images = torch.ones(SHAPE, dtype=dtype)
    out = dropped(p, images)
    assert out.dtype is dtype
    kept = out[out != 0]
    # In bfloat16 a factor has eight bits.
    assert kept.float().unique().item() == pytest.approx(1 / (1 - p), rel=2**-8 if dtype is torch.bfloat16 else 2**-13)
    share = 1 - len(kept) / out.numel()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / out.numel()) ** 0.5)


def test_the_mean_stays_at_a_probability_that_is_no_multiple_of_a_level() -> None:
    # Rounded from 1.6 levels to 2.
    out = dropped(2**-15.3, torch.ones(4))
    assert out.max().item() == pytest.approx(1 / (1 - 2**-15), rel=1e-7)


def test_neighbours_are_dropped_independently_of_each_other() -> None:
    zero = (dropped(0.5, torch.ones(2**18)) == 0).double()
    for distance in (1, 2, 3, 4, 8):
        both = (zero[:-distance] * zero[distance:]).mean().item()
        assert both == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(zero)) ** 0.5)


def test_gradients_go_where_values_went() -> None:
    images = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = dropped(0.3, images)
    out.sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad * images.detach(), out.detach())


def test_a_seed_decides_and_the_generator_goes_on() -> None:
    images = torch.ones(SHAPE)
    assert torch.equal(dropped(0.5, images, seed=3), dropped(0.5, images, seed=3))
    assert not torch.equal(dropped(0.5, images, seed=3), dropped(0.5, images, seed=4))
    torch.manual_seed(3)
    layer = WordDropout(0.5)
    assert not torch.equal(layer(images), layer(images))


@pytest.mark.parametrize(
    "images",
    [
        torch.ones(SHAPE).contiguous(memory_format=torch.channels_last),
        torch.ones(5, 7)[:, ::2],
        torch.ones(1, 3).expand(4, 3),
        torch.ones(0, 3),
        torch.ones(()),
        torch.ones(3),
    ],
    ids=["channels_last", "strided", "expanded", "empty", "scalar", "no multiple of four"],
)
def test_any_shape_and_layout(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    out = WordDropout(0.5)(images)
    assert out.shape == images.shape
    assert out.stride() == torch.empty_like(images).stride()
    assert set(out.flatten().tolist()) <= {0.0, 2.0}


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_and_all_and_evaluation_are_torchs_own(p: float, training: bool) -> None:
    images = torch.randn(4, 5)
    before = torch.get_rng_state()
    assert torch.equal(WordDropout(p).train(training)(images), nn.Dropout(p).train(training)(images))
    if not training:
        assert torch.equal(torch.get_rng_state(), before)


def test_on_another_device_it_is_torchs_own() -> None:
    assert WordDropout(0.5)(torch.ones(3, device="meta")).device.type == "meta"
    with pytest.raises(ValueError, match="probability"):
        WordDropout(1.5)
