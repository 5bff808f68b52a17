"""The optimiser's steps by hand: Caffe's momentum, the biases' own rate and decay, and clipping."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.architectures import build
from trainables.config import ArchitectureConfig, TrialConfig, learning_rate
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.loop import Ranks, stream_seed, train
from trainables.optimiser import make_optimiser, place_rates, set_rate

CPU = torch.device("cpu")
CALM = ArchitectureConfig(width=0.05, input_dropout=0.0, dropout=0.0, class_relu=False)
RATES = (0.1, 0.1, 0.01)
ALONE = Ranks()


def trial(**values: Any) -> TrialConfig:
    defaults = {"dataset": "noise", "variant": "all-cnn-c", "architecture": CALM, "lr": 0.1, "momentum": 0.9}
    return TrialConfig(**defaults | {"weight_decay": 0.0, "batch_size": 12, "epochs": 1, "drops": ()} | values)


class Scalar(nn.Module):
    """A weight and a bias, both 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))


def walk(config: TrialConfig, gradients: Sequence[float], rates: Sequence[float]) -> tuple[float, float]:
    """Return weight and bias after a step for each gradient, which is that of both, and rate."""
    model = Scalar()
    optimiser = make_optimiser(model, config)
    for gradient, lr in zip(gradients, rates, strict=True):
        for parameter in model.parameters():
            parameter.grad = torch.tensor(gradient)
        set_rate(optimiser, lr, config.momentum_form)
        optimiser.step()
    return model.weight.item(), model.bias.item()


@pytest.mark.parametrize(
    ("form", "end"),
    [
        # V = 0.1, 0.19, then 0.9 * 0.19 + 0.01 = 0.181.
        ("caffe", 1 - 0.1 - 0.19 - 0.181),
        # v = 1, 1.9, 2.71, the last one times 0.01.
        ("pytorch", 1 - 0.1 - 0.19 - 0.0271),
    ],
)
def test_the_forms_of_momentum_part_where_the_rate_drops(form: str, end: float) -> None:
    assert walk(trial(momentum_form=form), (1.0, 1.0, 1.0), RATES) == pytest.approx((end, end))


def test_the_forms_of_momentum_are_one_at_a_constant_rate() -> None:
    caffe, pytorch = (walk(trial(momentum_form=form), (1.0, -2.0, 0.5), (0.1,) * 3) for form in ("caffe", "pytorch"))
    assert caffe == pytorch


def test_caffe_s_velocity_holds_the_weight_decay_too() -> None:
    # V = 0.1 (1 + 0.5) = 0.15, w = 0.85; then V = 0.9 * 0.15 + 0.01 (1 + 0.5 * 0.85) = 0.14925.
    weight, _ = walk(trial(momentum_form="caffe", weight_decay=0.5), (1.0, 1.0), (0.1, 0.01))
    assert weight == pytest.approx(0.85 - 0.14925)


@pytest.mark.parametrize(
    ("changes", "weight", "bias"),
    [
        ({}, 1 - 0.1 * 1.5, 1 - 0.1 * 1.5),
        ({"bias_lr_factor": 2.0}, 1 - 0.1 * 1.5, 1 - 0.2 * 1.5),
        ({"bias_weight_decay": False}, 1 - 0.1 * 1.5, 1 - 0.1),
        ({"bias_lr_factor": 2.0, "bias_weight_decay": False}, 1 - 0.1 * 1.5, 1 - 0.2),
    ],
)
def test_biases_have_their_own_rate_and_decay(changes: dict[str, Any], weight: float, bias: float) -> None:
    assert walk(trial(weight_decay=0.5, **changes), (1.0,), (0.1,)) == pytest.approx((weight, bias))


def test_rates_that_a_recorded_step_reads_are_filled_and_never_replaced() -> None:
    optimiser = make_optimiser(Scalar(), trial(bias_lr_factor=2.0))
    rates = [torch.zeros(()), torch.zeros(())]
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    for lr in (0.5, 0.25):
        set_rate(optimiser, lr, "pytorch")
        assert [group["lr"] for group in optimiser.param_groups] == [lr, 2 * lr]
        assert all(group["lr"] is rate for group, rate in zip(optimiser.param_groups, rates, strict=True))


def test_on_a_cpu_the_state_of_a_gpu_s_optimiser_brings_no_tensors_as_rates() -> None:
    optimiser = make_optimiser(Scalar(), trial())
    optimiser.param_groups[0].update(lr=torch.tensor(0.1), fused=True)
    place_rates(optimiser, CPU)
    set_rate(optimiser, 0.2, "pytorch")
    assert (optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["fused"]) == (0.2, None)
    assert type(optimiser.param_groups[0]["lr"]) is float


@pytest.mark.parametrize("changes", [{"bias_lr_factor": 2.0}, {"bias_weight_decay": False}])
def test_every_parameter_is_in_one_group_and_biases_are_in_their_own(changes: dict[str, Any]) -> None:
    model = build("all-cnn-c", CALM, 10)
    weights, biases = make_optimiser(model, trial(**changes)).param_groups
    named = dict(model.named_parameters())
    assert [id(each) for each in weights["params"]] == [id(named[name]) for name in named if name.endswith("weight")]
    assert [id(each) for each in biases["params"]] == [id(named[name]) for name in named if name.endswith("bias")]
    assert len(weights["params"]) + len(biases["params"]) == len(named)


def test_the_default_is_torch_s_own_sgd_bit_for_bit() -> None:
    config = trial(weight_decay=0.001)
    ours, theirs = Scalar(), Scalar()
    optimiser = make_optimiser(ours, config)
    assert len(optimiser.param_groups) == 1
    plain = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.001)
    for gradient in (0.3, -0.7, 1.1, 0.2, 0.9):
        for parameter in (*ours.parameters(), *theirs.parameters()):
            parameter.grad = torch.tensor(gradient)
        optimiser.step()
        plain.step()
        assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))


def noise() -> Prepared:
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(20, 3, 32, 32, generator=draws), torch.randint(0, 10, (20,), generator=draws)
    return Prepared(
        name="noise",
        num_classes=10,
        train_images=images[:12],
        train_labels=labels[:12],
        test_images=images[12:],
        test_labels=labels[12:],
    )


def first_network() -> nn.Module:
    """Return the network that every trial here starts from."""
    torch.manual_seed(stream_seed(0, "weights"))
    return build("all-cnn-c", CALM, 10)


def gradient(model: nn.Module) -> tuple[float, list[torch.Tensor]]:
    """Return the loss over all training images, and its gradient."""
    data = noise()
    loss = functional.cross_entropy(model(data.train_images), data.train_labels)
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))


def norm(vectors: Sequence[torch.Tensor]) -> float:
    return torch.cat([vector.flatten() for vector in vectors]).norm().item()


def trained(config: TrialConfig, ranks: Ranks = ALONE) -> tuple[list[EpochReport], list[torch.Tensor]]:
    """Return what a trial reported, and its last weights; each epoch is one step on all images."""
    reports: list[EpochReport] = []
    weights: list[torch.Tensor] = []

    def keep(model: nn.Module, _state: object) -> None:
        weights[:] = [parameter.detach().clone() for parameter in model.parameters()]

    feed = MemoryFeed(noise(), config, torch.Generator().manual_seed(0), CPU, ranks.rank, ranks.size)
    arithmetic = Arithmetic("float32", "contiguous")
    train(config, feed, reports.append, device=CPU, arithmetic=arithmetic, ranks=ranks, save=keep)
    return reports, weights


@pytest.mark.parametrize(("factor", "decays"), [(1.0, True), (2.0, False)])
def test_a_trial_takes_caffe_s_steps_through_warm_up_and_drops(factor: float, decays: bool) -> None:
    config = trial(
        lr=0.02,
        epochs=5,
        warmup_epochs=2.0,
        drops=(0.6,),
        momentum=0.8,
        weight_decay=0.05,
        momentum_form="caffe",
        bias_lr_factor=factor,
        bias_weight_decay=decays,
    )
    reports, weights = trained(config)
    model = first_network()
    velocity = [torch.zeros_like(each) for each in model.parameters()]
    losses = []
    for step in range(5):
        lr = learning_rate(config, step + 0.5)
        loss, gradients = gradient(model)
        losses.append(loss)
        with torch.no_grad():
            for (name, each), v, g in zip(model.named_parameters(), velocity, gradients, strict=True):
                is_bias = name.endswith("bias")
                decay = 0.0 if is_bias and not decays else 0.05
                v.mul_(0.8).add_((factor if is_bias else 1.0) * lr * (g + decay * each))
                each.sub_(v)
    assert [report.train_loss for report in reports] == pytest.approx(losses, rel=1e-4)
    for ours, by_hand in zip(weights, model.parameters(), strict=True):
        torch.testing.assert_close(ours, by_hand.detach(), rtol=1e-3, atol=1e-5)


STEP = {"lr": 1.0, "momentum": 0.0}


@pytest.mark.parametrize("share", [0.5, 0.01, 2.0, None])
def test_a_step_is_no_longer_than_the_largest_norm(share: float | None) -> None:
    model = first_network()
    _, gradients = gradient(model)
    length = norm(gradients)
    largest = None if share is None else share * length
    _, weights = trained(trial(max_grad_norm=largest, **STEP))
    moved = [after - before.detach() for after, before in zip(weights, model.parameters(), strict=True)]
    assert norm(moved) == pytest.approx(length * min(share or 1.0, 1.0), rel=1e-3)
    # Along the gradient, all parameters by one factor.
    expected = [-min(share or 1.0, 1.0) * each for each in gradients]
    assert norm([one - other for one, other in zip(moved, expected, strict=True)]) < 1e-3 * norm(expected)


Change = Callable[[int, torch.Tensor], torch.Tensor]


def worker(config: TrialConfig, rank: int, change: Change) -> list[torch.Tensor]:
    """Train as one of two workers whose gradients `change` replaces before they are used; return the last weights."""

    def wrap(model: nn.Module) -> nn.Module:
        for place, parameter in enumerate(model.parameters()):

            def replace_gradient(tensor: torch.Tensor, place: int = place) -> None:
                assert tensor.grad is not None
                tensor.grad = change(place, tensor.grad)

            parameter.register_post_accumulate_grad_hook(replace_gradient)
        return model

    return trained(config, Ranks(rank=rank, size=2, wrap=wrap))[1]


def test_two_workers_clip_the_gradient_that_they_share() -> None:
    # What one worker would receive from the other is the other's gradient at the first weights.
    sent: dict[int, torch.Tensor] = {}

    def keep(place: int, own: torch.Tensor) -> torch.Tensor:
        sent[place] = own.clone()
        return own

    config = trial(max_grad_norm=0.1 * norm(gradient(first_network())[1]), **STEP)
    worker(config, 1, keep)
    together = worker(config, 0, lambda place, own: (own + sent[place]) / 2)
    _, alone = trained(config)
    for one, other, first in zip(together, alone, first_network().parameters(), strict=True):
        torch.testing.assert_close(one - first.detach(), other - first.detach(), rtol=1e-3, atol=1e-6)
    # A worker that clipped its own share would have moved as far, but elsewhere.
    separate = [worker(config, rank, lambda _, own: own) for rank in range(2)]
    means = [(one + other) / 2 for one, other in zip(*separate, strict=True)]
    assert norm([mean - other for mean, other in zip(means, alone, strict=True)]) > 1e-3
