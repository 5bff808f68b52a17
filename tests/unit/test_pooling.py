"""The p-norm against values worked out by hand, against torch's own pools, and where it could go wrong."""

import itertools
import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from search_spaces.paper import POOLING_VARIANTS
from trainables.architectures import VARIANTS, MaxPool, PNormPool, base_layers, build, convpool, network, pool_by_norm
from trainables.config import ArchitectureConfig
from trainables.pooling import LEARNED_START, PNormPool2d

OPTIONS = ArchitectureConfig(width=0.05, class_relu=False)


def features(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (1.0, (1 + 2 + 3 + 4) / 4),
        (2.0, math.sqrt((1 + 4 + 9 + 16) / 4)),
        (3.0, ((1 + 8 + 27 + 64) / 4) ** (1 / 3)),
        (0.5, ((1 + math.sqrt(2) + math.sqrt(3) + 2) / 4) ** 2),
        (math.inf, 4.0),
    ],
)
def test_a_window_by_hand(p: float, expected: float) -> None:
    image = torch.tensor([[1.0, -2.0], [3.0, -4.0]]).reshape(1, 1, 2, 2)
    assert PNormPool2d(2, 2, p)(image).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("side", "out"), [(32, 16), (16, 8), (7, 3), (3, 1)])
@pytest.mark.parametrize("p", [1.0, 2.0, 7.5, math.inf, None])
def test_sizes_are_max_poolings(side: int, out: int, p: float | None) -> None:
    assert PNormPool2d(3, 2, p)(features(2, 3, side, side)).shape == (2, 3, out, out)


def test_a_large_p_is_the_maximum() -> None:
    image = features(2, 3, 16, 16, dtype=torch.float64)
    largest = functional.max_pool2d(image.abs(), 3, 2, ceil_mode=True)
    assert torch.allclose(PNormPool2d(3, 2, 1e6)(image), largest, rtol=1e-5)
    assert torch.equal(PNormPool2d(3, 2, math.inf)(image), largest)


def test_p_1_is_the_average_also_by_the_general_way() -> None:
    image = features(2, 3, 16, 16, dtype=torch.float64)
    average = functional.avg_pool2d(image.abs(), 3, 2, ceil_mode=True, count_include_pad=False)
    assert torch.equal(PNormPool2d(3, 2, 1.0)(image), average)
    assert torch.allclose(PNormPool2d(3, 2, 1 + 1e-12)(image), average, rtol=1e-9)


def test_a_larger_p_gives_no_smaller_value() -> None:
    image = features(1, 4, 9, 9)
    pooled = [PNormPool2d(3, 2, p)(image) for p in (0.5, 1.0, 2.0, 4.0, 50.0, math.inf)]
    for smaller, larger in itertools.pairwise(pooled):
        assert (larger >= smaller - 1e-5).all()


@pytest.mark.parametrize("p", [0.5, 2.0, 3.0, None])
def test_gradients_are_those_of_finite_differences(p: float | None) -> None:
    image = features(1, 2, 6, 6, dtype=torch.float64).requires_grad_()
    pool = PNormPool2d(3, 2, p).double()
    assert torch.autograd.gradcheck(pool, (image,))
    if pool.raw is not None:
        assert torch.autograd.gradcheck(
            lambda raw: torch.func.functional_call(pool, {"raw": raw}, (image.detach(),)), (pool.raw,)
        )


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 100.0, math.inf, None])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_zeros_and_extremes_give_finite_values_and_gradients(p: float | None, scale: float) -> None:
    image = features(1, 2, 6, 6).relu() * scale
    image[:, :, :3, :3] = 0
    image.requires_grad_()
    pool = PNormPool2d(3, 2, p)
    pooled = pool(image)
    assert torch.isfinite(pooled).all()
    assert (pooled[:, :, 0, 0] == 0).all()
    pooled.sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    if pool.raw is not None:
        assert pool.raw.grad is not None
        assert torch.isfinite(pool.raw.grad)


def test_a_learned_p_starts_between_average_and_maximum_and_stays_a_norm() -> None:
    pool = PNormPool2d(3, 2, None)
    assert float(torch.as_tensor(pool.p).detach()) == pytest.approx(LEARNED_START)
    assert pool.raw is not None
    with torch.no_grad():
        pool.raw.fill_(-1e4)
    assert float(torch.as_tensor(pool.p).detach()) >= 1


@pytest.mark.parametrize("p", [0.0, -1.0, math.nan])
def test_p_must_be_above_zero(p: float) -> None:
    with pytest.raises(
        ValueError, match=f"^{re.escape(f'p must be above 0, or infinity for the maximum, got {p!r}.')}$"
    ):
        PNormPool2d(3, 2, p)


def test_the_rule_changes_the_pools_alone() -> None:
    layers = convpool(base_layers("c", OPTIONS, 10), OPTIONS)
    changed = pool_by_norm(layers, 2.0)
    assert [layer for layer in changed if not isinstance(layer, PNormPool)] == [
        layer for layer in layers if not isinstance(layer, MaxPool)
    ]
    assert [i for i, layer in enumerate(changed) if layer == PNormPool(kernel=3, stride=2, p=2.0)] == [
        i for i, layer in enumerate(layers) if isinstance(layer, MaxPool)
    ]


def test_a_network_whose_p_is_infinite_is_the_one_with_max_pooling() -> None:
    layers = base_layers("c", OPTIONS, 10)
    images = features(2, 3, 32, 32)
    logits = []
    for each in (layers, pool_by_norm(layers, math.inf)):
        torch.manual_seed(0)
        logits.append(network(each).eval()(images))
    assert torch.equal(*logits)


def test_the_networks_that_pool_by_a_norm_are_those_of_the_study() -> None:
    by_norm = [name for name in VARIANTS if name.rpartition("-")[2].startswith("p")]
    assert sorted([*by_norm, "model-c", "convpool-cnn-c"]) == sorted(POOLING_VARIANTS)


def test_a_learned_p_is_one_parameter_a_layer() -> None:
    fixed, learned = (build(name, OPTIONS, 10) for name in ("model-c-p2", "model-c-plearned"))
    count = [sum(p.numel() for p in model.parameters()) for model in (fixed, learned)]
    assert count[1] == count[0] + 2
    assert sum(isinstance(module, nn.MaxPool2d) for module in learned.modules()) == 0


def test_half_precision_is_pooled_in_single() -> None:
    image = features(1, 2, 6, 6)
    pooled = PNormPool2d(3, 2, 3.0)(image.bfloat16())
    assert pooled.dtype == torch.bfloat16
    assert torch.allclose(pooled.float(), PNormPool2d(3, 2, 3.0)(image), rtol=0.02)


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0, 4.0])
def test_the_fast_way_is_the_general_one(p: float) -> None:
    pool, image = PNormPool2d(3, 2, p), features(2, 3, 9, 9).relu()
    image[0, 0, :4, :4] *= 1e-6
    values, slopes = [], []
    for way in (pool._relative_to_maps, pool._relative_to_windows):
        given = image.clone().requires_grad_()
        pooled = way(given)
        (slope,) = torch.autograd.grad((pooled * pooled.detach().cos()).sum(), given)
        values.append(pooled.detach())
        slopes.append(slope)
    assert torch.allclose(*values, rtol=1e-5, atol=1e-9)
    assert torch.allclose(*slopes, rtol=1e-4, atol=1e-6)
