import torch

from trainables.data.augmentation import MAX_SHIFT, flip_and_shift


def one_by_one(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Do the same with loops over images and pixels, from the same draws."""
    count, _, height, width = images.shape
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 11, (2, count), generator=generator)
    out = torch.zeros_like(images)
    for i in range(count):
        down, right = int(shifts[0, i]) - 5, int(shifts[1, i]) - 5
        for y in range(height):
            for x in range(width):
                from_y, from_x = y + down, (width - 1 - x if flips[i] else x) + right
                if 0 <= from_y < height and 0 <= from_x < width:
                    out[i, :, y, x] = images[i, :, from_y, from_x]
    return out


def test_it_is_that_of_a_loop_over_pixels() -> None:
    images = torch.randn(12, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    got = flip_and_shift(images, torch.Generator().manual_seed(7))
    assert torch.equal(got, one_by_one(images, torch.Generator().manual_seed(7)))
    assert got.shape == images.shape


def test_the_generator_decides_and_the_images_stay() -> None:
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    first, again, other = (flip_and_shift(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


def test_all_shifts_up_to_5_px_and_both_sides_occur() -> None:
    # One bright pixel in the middle, and one of another colour to its right, in each image.
    images = torch.zeros(3000, 3, 32, 32)
    images[:, 0, 16, 15] = 1
    images[:, 1, 16, 16] = 1
    moved = flip_and_shift(images, torch.Generator().manual_seed(0))
    assert MAX_SHIFT == 5
    red = moved[:, 0].flatten(1).argmax(1)
    green = moved[:, 1].flatten(1).argmax(1)
    mirrored = red % 32 > green % 32
    assert 0.45 < mirrored.float().mean() < 0.55
    rows = (red // 32 - 16).tolist()
    columns = torch.minimum(red % 32, green % 32) - 15
    assert set(rows) == set(columns.tolist()) == set(range(-5, 6))
    assert moved.sum() == images.sum()
