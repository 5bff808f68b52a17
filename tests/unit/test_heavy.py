"""The augmentation `heavy` and the canvas, on images whose result can be said by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from trainables.config import ArchitectureConfig, HeavyConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.augmentation import augmented, flip_and_shift, placed
from trainables.data.batches import MemoryFeed
from trainables.data.heavy import move, shift_colours
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic
from trainables.loop import train

CPU = torch.device("cpu")
STILL = HeavyConfig(
    rotation=0.0, min_scale=1.0, max_scale=1.0, translation=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0
)
MEAN = torch.tensor([125.0, 123.0, 114.0])[:, None, None]
DEVIATION = torch.tensor([63.0, 62.0, 66.0])[:, None, None]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6) -> torch.Tensor:
    """Return standardised images of random pixels."""
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=seeded())
    return (pixels - MEAN) / DEVIATION


def data(train_images: torch.Tensor) -> Prepared:
    labels = torch.arange(len(train_images)) % 10
    return Prepared(
        name="noise",
        num_classes=10,
        train_images=train_images,
        train_labels=labels,
        test_images=train_images,
        test_labels=labels,
        mean=MEAN,
        deviation=DEVIATION,
    )


def trial(**values: Any) -> TrialConfig:
    defaults: dict[str, Any] = {
        "dataset": "noise",
        "variant": "large-all-cnn",
        "architecture": ArchitectureConfig(width=0.05, input_dropout=0.0, class_relu=False),
        "augmentation": "heavy",
        "preprocessing": "standardise",
        "canvas": 126,
        "lr": 0.001,
        "batch_size": 2,
        "epochs": 1,
        "drops": (),
    }
    return TrialConfig(**defaults | values)


def feed(config: TrialConfig, prepared: Prepared, rank: int = 0, size: int = 1) -> MemoryFeed:
    return MemoryFeed(prepared, config, seeded(3), CPU, rank, size)


@pytest.mark.parametrize(("canvas", "left", "right"), [(32, 0, 0), (33, 0, 1), (126, 47, 47)])
def test_images_are_placed_into_the_middle(canvas: int, left: int, right: int) -> None:
    got = placed(images(), canvas)
    assert got.shape == (6, 3, canvas, canvas)
    end = canvas - right
    assert torch.equal(got[..., left:end, left:end], images())
    got[..., left:end, left:end] = 0
    assert not got.any()
    assert torch.equal(placed(images(), None), images())


def test_no_strength_leaves_the_images_as_placed() -> None:
    got = augmented(images(), trial(heavy=STILL), data(images()), seeded())
    assert torch.allclose(got, placed(images(), 126), atol=1e-4)


def test_heavy_works_without_a_canvas_too() -> None:
    got = augmented(images(), trial(heavy=STILL, canvas=None), data(images()), seeded())
    assert torch.allclose(got, images(), atol=1e-4)


@pytest.mark.parametrize(("degrees", "quarters"), [(90.0, -1), (-90.0, 1), (180.0, 2)])
def test_a_quarter_turn_is_that_of_the_pixels(degrees: float, quarters: int) -> None:
    canvas = placed(images(), 126)
    turned = move(canvas, seeded(), degrees=(degrees, degrees), scale=(1.0, 1.0), translation=0.0)
    assert torch.allclose(turned, torch.rot90(canvas, quarters, dims=(2, 3)), atol=1e-3)


def test_a_square_at_twice_the_size() -> None:
    # 8x8 px in the middle of 32: from 12 to 20 on each axis, and from 8 to 24 at twice the size.
    square = functional.pad(torch.ones(1, 3, 8, 8), [12] * 4)
    doubled = move(square, seeded(), degrees=(0.0, 0.0), scale=(2.0, 2.0), translation=0.0)[0, 0]
    assert doubled[9:23, 9:23].allclose(torch.ones(14, 14), atol=1e-5)
    # A pixel beyond each edge, the sampling mixes the square with the zeros outside.
    outside = doubled.clone()
    outside[7:25, 7:25] = 0
    assert not outside.any()
    assert doubled.sum().item() == pytest.approx(16 * 16, rel=1e-4)


def test_shifts_stay_within_their_bound_and_each_image_has_its_own() -> None:
    dot = torch.zeros(400, 3, 101, 101)
    dot[..., 50, 50] = 1
    moved = move(dot, seeded(), degrees=(0.0, 0.0), scale=(1.0, 1.0), translation=0.1)[:, 0]
    assert moved.sum((1, 2)).allclose(torch.ones(400), atol=1e-3)
    along = torch.arange(101.0) - 50
    for axis in (1, 2):
        shifts = (moved.sum(axis) * along).sum(1)
        assert 9.5 < shifts.abs().max() <= 10.1
        assert len(set(shifts.tolist())) == 400
        assert shifts.min() < -9
        assert shifts.max() > 9


def test_colours_shift_within_pixels_and_leave_the_zeros_outside() -> None:
    config = trial(heavy=replace(STILL, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1))
    got = augmented(images(), config, data(images()), seeded())
    inside = got[..., 47:79, 47:79]
    assert not torch.allclose(inside, images(), atol=0.1)
    outside = got.clone()
    outside[..., 47:79, 47:79] = 0
    assert outside.abs().max() < 1e-3  # what the sampling's rounding takes from the edge
    pixels = inside * DEVIATION + MEAN
    assert pixels.min() > -1e-3
    assert pixels.max() < 255.001


def test_brightness_adds_the_same_to_every_pixel_of_an_image() -> None:
    # Pixels from 100 to 150 stay clear of both ends at 0.3 x 255 = 76.5.
    grey = (torch.randint(100, 151, (8, 3, 32, 32), generator=seeded()) - MEAN) / DEVIATION
    got = shift_colours(grey, replace(STILL, brightness=0.3), MEAN, DEVIATION, seeded())
    added = ((got - grey) * DEVIATION).flatten(1)
    assert (added - added.mean(1, keepdim=True)).abs().max() < 1e-2
    assert added.mean(1).abs().max() <= 76.51
    assert len(set(added.mean(1).tolist())) == 8


def test_the_generator_alone_decides_and_torchs_own_is_left_as_it_was() -> None:
    def draw(seed: int) -> torch.Tensor:
        return augmented(images(), trial(), data(images()), seeded(seed))

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(9)
    assert torch.equal(draw(1), first)
    assert not torch.equal(draw(2), first)
    # Another batch from the same generator is augmented anew.
    draws = seeded(1)
    one, two = (augmented(images(), trial(), data(images()), draws) for _ in range(2))
    assert torch.equal(one, first)
    assert not torch.equal(two, first)


def test_two_workers_get_their_shares_of_the_very_same_batches() -> None:
    config, prepared = trial(batch_size=4), data(images(7))
    whole = list(feed(config, prepared).train_batches())
    shares = [list(feed(config, prepared, rank, 2).train_batches()) for rank in range(2)]
    assert [batch.whole for batch in whole] == [4, 3]
    for rank, share in enumerate(shares):
        for part, batch in zip(share, whole, strict=True):
            assert torch.equal(part.images, batch.images[rank::2])
            assert torch.equal(part.labels, batch.labels[rank::2])


@pytest.mark.parametrize("augmentation", ["none", "flip-shift", "heavy"])
def test_training_and_test_images_are_on_the_canvas(augmentation: str) -> None:
    config, prepared = trial(augmentation=augmentation, canvas=40), data(images())
    for batch in feed(config, prepared).train_batches():
        assert batch.images.shape == (2, 3, 40, 40)
    shown = torch.cat([batch for batch, _ in feed(config, prepared).test_batches()])
    assert torch.equal(shown, placed(prepared.test_images, 40))


def test_flips_and_shifts_come_before_the_canvas() -> None:
    got = augmented(images(), trial(augmentation="flip-shift"), data(images()), seeded())
    assert torch.equal(got, placed(flip_and_shift(images(), seeded()), 126))


def test_an_evaluation_takes_as_many_pixels_at_once_on_a_canvas_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.batches.EVALUATION_BATCH", 4)
    sizes = {
        canvas: [len(batch) for batch, _ in feed(trial(canvas=canvas), data(images(5))).test_batches()]
        for canvas in (None, 64, 126)
    }
    assert sizes == {None: [4, 1], 64: [1] * 5, 126: [1] * 5}


def test_a_narrow_large_network_trains_through_the_loop() -> None:
    def run() -> EpochReport:
        reports: list[EpochReport] = []
        prepared = data(images(2))
        config = trial()
        train(
            config,
            feed(config, prepared),
            reports.append,
            device=CPU,
            arithmetic=Arithmetic("float32", "contiguous"),
        )
        (report,) = reports
        return report

    first, again = run(), run()
    assert (first.state, first.train_images, first.test_images) == ("completed", 2, 2)
    assert first.train_loss == again.train_loss
    assert first.test_error == again.test_error
