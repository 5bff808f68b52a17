"""The loop on a few random images: float32 only, on the CPU."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainables.architectures import build, count_parameters, register_variant
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.evaluation import evaluate, why_diverged
from trainables.hardware import Arithmetic
from trainables.loop import Ranks, stream_seed, train

CPU = torch.device("cpu")
FLOAT32 = Arithmetic("float32", "contiguous")
CALM = ArchitectureConfig(width=0.05, input_dropout=0.0, dropout=0.0, class_relu=False)
TIMES = {"epoch_s", "train_s"}
CHANCE = math.log(10)


def data(train: int = 30, test: int = 11) -> Prepared:
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 3, 32, 32, generator=generator)

    def labels(count: int) -> torch.Tensor:
        return torch.randint(0, 10, (count,), generator=generator)

    return Prepared(
        name="noise",
        num_classes=10,
        train_images=images(train),
        train_labels=labels(train),
        test_images=images(test),
        test_labels=labels(test),
    )


def trial(**values: Any) -> TrialConfig:
    defaults = {
        "dataset": "noise",
        "variant": "all-cnn-c",
        "architecture": ArchitectureConfig(width=0.05),
        "lr": 0.01,
        "batch_size": 8,
        "epochs": 2,
        "drops": (),
    }
    return TrialConfig(**defaults | values)


def run(config: TrialConfig, prepared: Prepared | None = None, **options: Any) -> list[EpochReport]:
    reports: list[EpochReport] = []
    ranks = options.get("ranks", Ranks())
    draws = torch.Generator().manual_seed(stream_seed(config.seed, "order and augmentation"))
    feed = MemoryFeed(prepared or data(), config, draws, CPU, ranks.rank, ranks.size)
    train(config, feed, reports.append, device=CPU, arithmetic=FLOAT32, **options)
    return reports


def numbers(reports: list[EpochReport]) -> list[dict[str, Any]]:
    return [{name: value for name, value in r.to_dict().items() if name not in TIMES} for r in reports]


@pytest.mark.parametrize("augmentation", ["none", "flip-shift"])
def test_the_same_seed_gives_equal_numbers_and_another_others(augmentation: str) -> None:
    config = trial(augmentation=augmentation)
    first = numbers(run(config))
    torch.rand(7)  # What drew random numbers before must not matter.
    assert numbers(run(config)) == first
    other = numbers(run(replace(config, seed=1)))
    assert [r["train_loss"] for r in other] != [r["train_loss"] for r in first]


def test_augmentation_changes_what_is_trained_on() -> None:
    none, shifted = (run(trial(architecture=CALM, augmentation=name)) for name in ("none", "flip-shift"))
    assert none[0].train_loss != shifted[0].train_loss


def test_every_image_is_counted_once_an_epoch() -> None:
    reports = run(trial(epochs=3))
    assert [r.epoch for r in reports] == [1, 2, 3]
    assert [r.train_images for r in reports] == [30] * 3
    assert [r.test_images for r in reports] == [11] * 3
    assert [r.state for r in reports] == ["running", "running", "completed"]
    assert {r.reason for r in reports} == {""}
    for report in reports:
        assert 0 < report.train_s <= report.epoch_s
        assert report.error == report.test_error
        assert report.val_error is None
        assert report.num_parameters == count_parameters(build("all-cnn-c", ArchitectureConfig(width=0.05), 10))
        assert (report.precision, report.memory_format, report.device) == ("float32", "contiguous", "cpu")


def test_the_learning_rate_is_that_of_the_last_step() -> None:
    # Four steps an epoch: the last one of an epoch lies at 0.875 of it.
    reports = run(trial(lr=0.008, epochs=4, warmup_epochs=2.0, drops=(0.75,)))
    expected = [0.008 * 0.875 / 2, 0.008 * 1.875 / 2, 0.008, 0.0008]
    assert [r.lr for r in reports] == pytest.approx(expected, rel=1e-12)


def test_numbers_of_an_epoch_without_learning_are_those_of_the_first_weights() -> None:
    prepared = data()
    (report,) = run(trial(architecture=CALM, lr=1e-30, epochs=1), prepared)
    torch.manual_seed(stream_seed(0, "weights"))
    model = build("all-cnn-c", CALM, 10)
    with torch.no_grad():
        train_logits, test_logits = model(prepared.train_images), model(prepared.test_images)
    assert report.train_loss == pytest.approx(
        functional.cross_entropy(train_logits, prepared.train_labels).item(), rel=1e-5
    )
    wrong = int((train_logits.argmax(1) != prepared.train_labels).sum())
    assert report.train_error == pytest.approx(wrong / 30)
    wrong = int((test_logits.argmax(1) != prepared.test_labels).sum())
    assert report.test_error == pytest.approx(wrong / 11)


def test_steps_are_those_of_sgd_with_momentum_and_weight_decay_by_hand() -> None:
    prepared = data()
    config = trial(architecture=CALM, batch_size=30, epochs=3, lr=0.02, momentum=0.8, weight_decay=0.05)
    reports = run(config, prepared)
    torch.manual_seed(stream_seed(0, "weights"))
    model = build("all-cnn-c", CALM, 10)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    losses = []
    for _ in range(3):
        loss = functional.cross_entropy(model(prepared.train_images), prepared.train_labels)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, v, gradient in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(0.8).add_(gradient + 0.05 * p)
                p.sub_(0.02 * v)
    assert losses[2] < losses[0]
    assert [r.train_loss for r in reports] == pytest.approx(losses, rel=1e-4)


def test_dropout_is_on_in_training_and_off_in_the_evaluation() -> None:
    modes: list[tuple[bool, bool]] = []

    def watch(model: nn.Module) -> nn.Module:
        model.register_forward_hook(lambda m, _i, _o: modes.append((m.training, torch.is_grad_enabled())))
        return model

    run(trial(epochs=2), ranks=Ranks(wrap=watch))
    assert modes == ([(True, True)] * 4 + [(False, False)]) * 2


def test_it_learns_a_task_that_can_be_learned() -> None:
    prepared = data(40, 40)
    for images, labels in (
        (prepared.train_images, prepared.train_labels),
        (prepared.test_images, prepared.test_labels),
    ):
        labels %= 2
        images += (2.0 * labels - 1)[:, None, None, None]
    reports = run(trial(architecture=replace(CALM, width=0.1), epochs=8, lr=0.003), prepared)
    assert reports[-1].train_loss < 0.5 * reports[0].train_loss
    assert reports[-1].test_error is not None
    assert reports[-1].test_error < 0.1


@pytest.mark.parametrize("lr", [1e3, 1e20])
def test_far_too_high_a_rate_is_diverged_within_two_epochs(lr: float) -> None:
    reports = run(trial(architecture=CALM, lr=lr, epochs=10))
    assert len(reports) <= 2
    last = reports[-1]
    assert (last.state, last.error, last.test_error) == ("diverged", 1.0, 1.0)
    assert not math.isfinite(last.train_loss)
    assert "the learning rate is too high for this network" in last.reason
    assert last.train_images == 30


@pytest.mark.usefixtures("registries")
def test_a_dead_start_is_seen_in_the_first_epoch() -> None:
    @register_variant("dead")
    def dead(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        last = nn.Conv2d(4, num_classes, 1)
        nn.init.constant_(last.bias, -1e6)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    (report,) = run(trial(variant="dead", architecture=ArchitectureConfig(initialisation="pytorch"), epochs=5))
    assert (report.epoch, report.state, report.error) == (1, "diverged", 1.0)
    assert report.reason == ("dead start: the network gives the same output for every image, training loss 2.3026")


@pytest.mark.usefixtures("registries")
def test_500_steps_at_chance_end_a_trial_and_warm_up_does_not_count() -> None:
    @register_variant("stuck")
    def stuck(options: ArchitectureConfig, num_classes: int) -> nn.Module:
        # Its logits differ between images, by too little to leave ln(classes) at this learning rate.
        first = nn.Conv2d(3, num_classes, 32)
        nn.init.normal_(first.weight, std=1e-6)
        nn.init.zeros_(first.bias)
        return nn.Sequential(first, nn.Flatten())

    prepared = data(250, 40)
    options = ArchitectureConfig(initialisation="pytorch")
    config = trial(variant="stuck", architecture=options, batch_size=1, lr=1e-12, epochs=5)
    reports = run(config, prepared)
    assert [r.state for r in reports] == ["running", "diverged"]
    assert reports[-1].reason == "dead start: training loss 2.3026 stays at ln(10) = 2.3026"
    assert reports[0].error < 1.0
    warmed = run(replace(config, warmup_epochs=2.0), prepared)
    assert [r.state for r in warmed] == ["running"] * 3 + ["diverged"]


@pytest.mark.parametrize(
    ("loss", "spread", "steps", "reason"),
    [
        (2.0, 1.0, 0, ""),
        (CHANCE, 1.0, 499, ""),
        (CHANCE, 1.0, 500, "dead start: training loss 2.3026 stays at ln(10) = 2.3026"),
        (2.0, 1e-6, 0, ""),
        (2.0, 9e-7, 0, "dead start: the network gives the same output for every image, training loss 2.0000"),
        (CHANCE, 0.0, 900, "dead start: the network gives the same output for every image, training loss 2.3026"),
        (math.nan, 1.0, 0, "training loss nan: the learning rate is too high for this network"),
        (math.inf, 0.0, 0, "training loss inf: the learning rate is too high for this network"),
        (3.5, math.nan, 0, "training loss 3.5: the learning rate is too high for this network"),
        (3.5, math.inf, 0, "training loss 3.5: the learning rate is too high for this network"),
    ],
)
def test_why_diverged(loss: float, spread: float, steps: int, reason: str) -> None:
    assert why_diverged(loss, spread, steps, 10) == reason


@pytest.mark.parametrize("size", [1, 2, 3])
def test_workers_evaluate_each_image_exactly_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.batches.EVALUATION_BATCH", 4)
    prepared = data()
    torch.manual_seed(0)
    model = build("all-cnn-c", CALM, 10)
    seen: list[torch.Tensor] = []

    def feed(rank: int, size: int) -> MemoryFeed:
        return MemoryFeed(prepared, trial(), torch.Generator(), CPU, rank, size)

    model.register_forward_pre_hook(lambda _m, inputs: seen.extend(inputs[0]))
    tallies, spreads = zip(
        *(evaluate(model, feed(rank, size).test_batches(), CPU, FLOAT32) for rank in range(size)),
        strict=True,
    )
    assert len(seen) == 11
    assert {image.numpy().tobytes() for image in seen} == {i.numpy().tobytes() for i in prepared.test_images}
    with torch.no_grad():
        logits = model(prepared.test_images)
    loss, wrong, missed, images = sum(tallies).tolist()
    assert images == 11
    ranking = logits.argsort(1, descending=True)
    assert missed == sum(int(label) not in ranking[row, :5] for row, label in enumerate(prepared.test_labels))
    assert wrong == int((logits.argmax(1) != prepared.test_labels).sum())
    assert loss == pytest.approx(
        functional.cross_entropy(logits, prepared.test_labels, reduction="sum").item(), rel=1e-5
    )
    for rank, spread in enumerate(spread.max() for spread in spreads):
        share = logits[rank::size]
        assert spread.item() == pytest.approx((share.amax(0) - share.amin(0)).max().item(), rel=1e-4)


def one_of(rank: int, size: int, config: TrialConfig, prepared: Prepared) -> tuple[list[list[float]], nn.Module]:
    """Train as one of several workers that do not talk: return its own tallies, and the network afterwards."""
    tallies: list[list[float]] = []
    models: list[nn.Module] = []

    def keep(counts: torch.Tensor) -> torch.Tensor:
        if counts.dtype == torch.float64:  # not how far the logits spread
            tallies.append(counts.tolist())
        return counts

    def catch(model: nn.Module) -> nn.Module:
        models.append(model)
        return model

    run(config, prepared, ranks=Ranks(rank=rank, size=size, wrap=catch, add_up=keep))
    return tallies, models[0]


@pytest.mark.parametrize(("size", "batch"), [(2, 8), (3, 8), (2, 7)])
def test_the_shares_of_the_workers_are_the_whole(size: int, batch: int) -> None:
    prepared = data(23)
    config = trial(architecture=CALM, lr=1e-30, epochs=1, batch_size=batch, augmentation="flip-shift")
    (alone, alone_test), _ = one_of(0, 1, config, prepared)
    shares = [one_of(rank, size, config, prepared)[0] for rank in range(size)]
    for index, whole in enumerate((alone, alone_test)):
        loss, wrong, missed, images = (sum(share[index][what] for share in shares) for what in range(4))
        assert images == whole[3] == (23, 11)[index]
        assert missed == whole[2]
        assert wrong == whole[1]
        assert loss == pytest.approx(whole[0], rel=1e-5)


def test_the_mean_of_the_workers_gradients_is_that_of_the_whole_batch() -> None:
    # One step of a batch of odd size: weights after it are linear in the gradient, so their mean is the whole's.
    prepared = data(9)
    config = trial(architecture=CALM, epochs=1, batch_size=9, lr=0.05)
    _, alone = one_of(0, 1, config, prepared)
    workers = [one_of(rank, 2, config, prepared)[1] for rank in range(2)]
    networks = (network.parameters() for network in (alone, *workers))
    for whole, first, second in zip(*networks, strict=True):
        assert not torch.equal(first, second)
        assert torch.allclose((first + second) / 2, whole, rtol=1e-4, atol=1e-6)


def test_workers_draw_their_own_dropout() -> None:
    # Both get the same images, so that only the dropped units can differ.
    prepared = data(8)
    prepared.train_images[:] = prepared.train_images[0].clone()
    prepared.train_labels[:] = 3
    config = trial(architecture=ArchitectureConfig(width=0.05, class_relu=False), epochs=1, batch_size=8)
    losses = [one_of(rank, 2, config, prepared)[0][0][0] for rank in range(2)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^variant must be one of model-a,"):
        run(trial(variant="resnet"))


def test_held_out_images_give_a_validation_error_and_no_test_error() -> None:
    held = run(trial(held_out=0.1))
    plain = run(trial())
    for one, other in zip(held, plain, strict=True):
        # The feed's images to measure on are the held-out ones then: the worker has put them there.
        assert (one.val_error, one.error) == (other.test_error, other.test_error)
        assert (one.test_error, one.test_top5_error) == (None, None)
        assert (one.val_images, one.test_images) == (11, 0)
        assert (other.val_images, other.test_images) == (0, 11)


@pytest.mark.parametrize("size", [1, 2])
def test_classes_whose_logit_never_changes_are_counted(size: int) -> None:
    class Deaf(nn.Module):
        """Of ten logits three are constant, on every worker."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            alive = torch.tensor([1.0] * 7 + [0.0] * 3)
            return images.mean((1, 2, 3))[:, None] * self.scale * alive + 0.1

    register_variant(f"deaf-{size}")(lambda options, classes: Deaf())
    doubled = Ranks(size=size, add_up=lambda counts: counts * size)
    reports = run(trial(variant=f"deaf-{size}", epochs=3, evaluate_every=2), ranks=doubled)
    assert [report.dead_classes for report in reports] == [None, 3, 3]


def test_the_test_error_is_read_once_where_the_end_is_all_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    batches = MemoryFeed.test_batches

    def noting(feed: MemoryFeed) -> Any:
        looked.append(1)
        return batches(feed)

    every = run(trial(epochs=3))
    monkeypatch.setattr(MemoryFeed, "test_batches", noting)
    reports = run(trial(epochs=3, evaluate_every=None))
    assert len(looked) == 1
    assert [r.test_error for r in reports] == [None, None, every[-1].test_error]
    assert [r.test_images for r in reports] == [0, 0, 11]
    assert [r.error for r in reports] == [reports[0].train_error, reports[1].train_error, every[-1].test_error]
    assert [r.train_loss for r in reports] == [r.train_loss for r in every]


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_errors_are_measured_every_so_many_epochs_and_after_the_last(held_out: float) -> None:
    every = run(trial(epochs=5, held_out=held_out))
    reports = run(trial(epochs=5, held_out=held_out, evaluate_every=2))
    errors = [r.val_error if held_out else r.test_error for r in reports]
    measured = [r.val_error if held_out else r.test_error for r in every]
    assert errors == [None, measured[1], None, measured[3], measured[4]]
    assert [r.val_images if held_out else r.test_images for r in reports] == [0, 11, 0, 11, 11]
    assert {r.test_error if held_out else r.val_error for r in reports} == {None}
    assert {r.test_images if held_out else r.val_images for r in reports} == {0}
    # What nothing is chosen by is the training error.
    assert [r.error for r in reports] == [
        reports[0].train_error,
        measured[1],
        reports[2].train_error,
        measured[3],
        measured[4],
    ]
    assert [(r.test_top5_error is None) for r in reports] == [bool(held_out) or r.epoch in (1, 3) for r in reports]


def test_how_often_errors_are_measured_changes_no_weight() -> None:
    weights: list[list[torch.Tensor]] = []

    def keep(model: nn.Module, _state: object) -> None:
        weights[-1] = [parameter.detach().clone() for parameter in model.parameters()]

    losses = []
    for every in (1, 2, None):
        weights.append([])
        reports = run(trial(epochs=3, augmentation="flip-shift", evaluate_every=every), save=keep)
        losses.append([(r.train_loss, r.train_error, r.lr) for r in reports])
    assert losses[0] == losses[1] == losses[2]
    for one, *others in zip(*weights, strict=True):
        assert all(torch.equal(one, other) for other in others)


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_an_epoch_that_diverges_has_its_error_without_a_measurement(held_out: float) -> None:
    reports = run(trial(lr=1e6, epochs=9, held_out=held_out, evaluate_every=8))
    last = reports[-1]
    assert last.epoch < 8
    assert (last.state, last.error) == ("diverged", 1.0)
    assert (last.val_error, last.test_error) == ((1.0, None) if held_out else (None, 1.0))
    assert (last.val_images, last.test_images) == (0, 0)


def test_a_trial_that_diverges_before_the_end_has_the_worst_error() -> None:
    reports = run(trial(lr=1e6, epochs=3, evaluate_every=None))
    assert reports[-1].state == "diverged"
    assert reports[-1].test_error == reports[-1].error == 1.0
