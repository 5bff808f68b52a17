import math

import pytest
import torch
from torch import nn

from trainables.architectures import build
from trainables.config import ArchitectureConfig
from trainables.initialisation import initialise

IN, OUT, KERNEL = 40, 60, 5
FAN_IN, FAN_OUT = IN * KERNEL**2, OUT * KERNEL**2
DEVIATIONS = {
    "he": math.sqrt(2 / FAN_IN),
    "xavier-caffe": math.sqrt(1 / FAN_IN),
    "glorot": math.sqrt(2 / (FAN_IN + FAN_OUT)),
    "normal": 0.05,
}
NORMAL = ("he", "normal")


@pytest.mark.parametrize("name", DEVIATIONS)
def test_weights_have_the_spread_of_the_formula(name: str) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(IN, OUT, KERNEL)
    initialise(nn.Sequential(layer), name)
    weights = layer.weight.detach()
    # 60,000 draws: the deviation is known to about 0.3 %, the mean to 0.4 % of it.
    assert weights.std().item() == pytest.approx(DEVIATIONS[name], rel=0.02)
    assert abs(weights.mean().item()) < 0.02 * DEVIATIONS[name]
    bound = math.sqrt(3) * DEVIATIONS[name]
    assert (weights.abs().max().item() > 1.5 * bound) is (name in NORMAL)
    if name not in NORMAL:
        assert weights.abs().max().item() <= bound * (1 + 1e-6)


def test_he_allows_for_a_leaky_relu_s_slope() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(IN, OUT, KERNEL), nn.LeakyReLU(0.5), nn.Conv2d(OUT, IN, KERNEL))
    initialise(model, "he")
    # 2 / (1 + 0.5^2) = 1.6
    assert model[0].weight.std().item() == pytest.approx(math.sqrt(1.6 / FAN_IN), rel=0.02)
    assert model[2].weight.std().item() == pytest.approx(math.sqrt(2 / FAN_OUT), rel=0.02)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_biases_start_at_zero_also_those_of_linear_layers(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 2, bias=False))
    before = [parameter.clone() for parameter in model.parameters()]
    initialise(model, name)
    assert not model[0].bias.any()
    assert not model[3].bias.any()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_pytorch_leaves_everything_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = [parameter.clone() for parameter in model.parameters()]
    initialise(model, "pytorch")
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert model[0].bias.any()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^initialisation must be a known name, got 'she'\.$"):
        initialise(nn.Linear(2, 2), "she")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*DEVIATIONS, "pytorch"])
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    def first_weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        options = ArchitectureConfig(width=0.05, initialisation=name)  # type: ignore[arg-type]
        return next(build("all-cnn-c", options, 10).parameters())

    assert torch.equal(first_weights(3), first_weights(3))
    assert not torch.equal(first_weights(3), first_weights(4))
