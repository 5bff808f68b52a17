"""What every registered variant must do: a new one is tested by being registered."""

import pytest
import torch
from torch import nn

from trainables.architectures import VARIANTS, build, count_parameters, register_variant
from trainables.config import ArchitectureConfig

OPTIONS = ArchitectureConfig(width=0.1, class_relu=False)


SIDES = {"imagenet-all-cnn-b": 224, "large-all-cnn": 126}
"""Sides in px of images for networks that take larger ones than 32 px."""


def images(variant: str, count: int = 4) -> torch.Tensor:
    side = SIDES.get(variant, 32)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def built(variant: str, seed: int = 0, num_classes: int = 10) -> nn.Module:
    torch.manual_seed(seed)
    return build(variant, OPTIONS, num_classes)


def check(variant: str) -> None:
    """Assert the contract of a variant."""
    for classes in (10, 100):
        logits = built(variant, num_classes=classes).eval()(images(variant))
        assert logits.shape == (4, classes)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()
    model = built(variant).eval()
    together, alone = model(images(variant)), torch.cat([model(image[None]) for image in images(variant)])
    assert torch.allclose(together, alone, atol=1e-5), "an image's logits must not depend on its batch"
    built_again, other = built(variant), built(variant, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), built_again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    nn.functional.cross_entropy(model(images(variant)), torch.arange(4)).backward()
    assert count_parameters(model) > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_contract(variant: str) -> None:
    check(variant)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_dropout_acts_in_training_only(variant: str) -> None:
    model = built(variant)
    assert not torch.equal(model(images(variant)), model(images(variant)))
    model.eval()
    assert torch.equal(model(images(variant)), model(images(variant)))


@pytest.mark.usefixtures("registries")
def test_a_user_s_variant_meets_it_too() -> None:
    @register_variant("own-net")
    def own(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        hidden = round(80 * options.width)
        return nn.Sequential(
            nn.Conv2d(3, hidden, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(hidden * 64, num_classes)
        )

    assert list(VARIANTS)[-1] == "own-net"
    check("own-net")


@pytest.mark.usefixtures("registries")
def test_the_contract_refuses_a_variant_with_an_idle_weight() -> None:
    @register_variant("idle-net")
    def idle(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))
        model.register_parameter("idle", nn.Parameter(torch.ones(1)))
        return model

    with pytest.raises(AssertionError, match="idle"):
        check("idle-net")


@pytest.mark.usefixtures("registries")
def test_a_name_taken_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^The name of a variant must be free, got 'all-cnn-c'"):
        register_variant("all-cnn-c")
