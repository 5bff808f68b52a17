"""Pages of what the filters of a run's networks respond to."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from analysis.networks.features import (
    chosen_layers,
    compared,
    crop,
    draw_features,
    first_of_each_class,
    layers_without_image,
    look_into,
    signal_picture,
)
from analysis.networks.geometry import ConvLayer
from analysis.networks.opened import Subject, check_counts, load_subjects
from sweep.record.store import Store
from tests.looked_at import config, make_run, row, save


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return make_run(str(tmp_path / "run"))


def size(page: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(page)).size


SMALL = {"images": 40, "filters": 2, "patches": 3}


def test_a_page_for_three_layers_of_each_network_and_one_that_compares(run: Store) -> None:
    pages = dict(draw_features(load_subjects(run), **SMALL))
    assert list(pages) == [
        "model-c-conv2-guided.png",
        "model-c-conv4-guided.png",
        "model-c-conv6-guided.png",
        "all-cnn-c-conv2-guided.png",
        "all-cnn-c-conv5-guided.png",
        "all-cnn-c-conv8-guided.png",
        "compare.png",
    ]
    # Wide enough for three patches, high enough for two filters of two rows each.
    assert all(width >= 3 * 54 and height >= 4 * 54 for width, height in map(size, pages.values()))
    again = dict(draw_features(load_subjects(run), **SMALL))
    assert pages == again


def test_more_filters_and_patches_make_a_larger_page(run: Store) -> None:
    subjects = load_subjects(run, ["all-cnn-c"])
    few, many = (
        dict(draw_features(subjects, layers=("conv1",), filters=filters, patches=patches, images=20))
        for filters, patches in ((1, 2), (3, 6))
    )
    (name,) = set(few) & set(many) - {"compare.png"}
    assert name == "all-cnn-c-conv1-guided.png"
    assert all(after > before for after, before in zip(size(many[name]), size(few[name]), strict=True))


@pytest.mark.parametrize("method", ["plain", "deconvnet"])
def test_the_method_is_in_the_files_name(run: Store, method: str) -> None:
    request = {"layers": ("conv3",), "method": method, **SMALL}
    assert next(draw_features(load_subjects(run, ["model-c"]), **request))[0] == f"model-c-conv3-{method}.png"


def test_without_an_image_the_layers_below_every_pool(run: Store) -> None:
    pages = dict(draw_features(load_subjects(run), without_image=True, filters=3))
    assert list(pages) == ["model-c-without-image.png", "all-cnn-c-without-image.png"]
    # Two layers of Model C, three of All-CNN-C.
    assert size(pages["model-c-without-image.png"])[1] < size(pages["all-cnn-c-without-image.png"])[1]


def test_a_layer_above_a_pool_shows_nothing_without_an_image(run: Store) -> None:
    looked = look_into(load_subjects(run, ["model-c"])[0])
    must = "layer must lie below every pool to be shown without an image, got conv3 of model-c."
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        layers_without_image(looked, ["conv1", "conv3"])


def test_a_layer_that_does_not_exist_names_those_that_do(run: Store) -> None:
    looked = look_into(load_subjects(run, ["model-c"])[0])
    must = (
        "layer must be one that every variant shown has, for model-c conv1, conv2, conv3, conv4, conv5, conv6, conv7, "
        "got 'conv8'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        chosen_layers(looked, ["conv1", "conv8"])


def test_a_wrong_layer_is_refused_before_a_page_is_drawn(run: Store) -> None:
    # All-CNN-C, which comes second, has it.
    pages = draw_features(load_subjects(run), layers=("conv9",), images=10)
    with pytest.raises(ValueError, match=r"^layer must be one that every variant shown has, for model-c "):
        next(pages)


@pytest.mark.parametrize("name", ["filters", "patches", "images"])
def test_a_count_below_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got 0\\.$"):
        check_counts(**{name: 0})


def subject(network: nn.Module) -> Subject:
    return Subject(label="mine", error=0.5, config=config("model-c"), num_classes=2, network=network, checksum=None)


class Branches(nn.Module):
    """No chain."""


def test_a_network_that_cannot_be_looked_into() -> None:
    with pytest.raises(ValueError, match=r"got a Branches in it\. This is mine; leave it out with --variant\.$"):
        look_into(subject(nn.Sequential(Branches())))
    with pytest.raises(ValueError, match=r"^A network must have a convolution to be looked into, got mine, which has"):
        look_into(subject(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))))


def test_the_best_network_of_either_kind_is_compared(run: Store) -> None:
    subjects = load_subjects(run)
    pooled, all_conv = (look_into(one) for one in subjects)
    assert compared([pooled, all_conv]) == [all_conv, pooled]
    worse = Subject(**{**vars(subjects[1]), "label": "worse", "error": 0.9})
    assert compared([look_into(worse), all_conv]) == [all_conv]
    leaky = subject(nn.Sequential(nn.Conv2d(3, 2, 1), nn.LeakyReLU()))
    assert compared([look_into(leaky)]) == []


def test_a_leaky_network_has_plain_pages_and_no_comparison(run: Store) -> None:
    trial = config("large-all-cnn", canvas=126)
    save(run, "leaky", trial)
    document = run.read_run()
    run.write_run(replace(document, study=replace(document.study, variants=("large-all-cnn",))))
    run.write_trials([row("leaky", trial)])
    request = {"layers": ("conv1",), "images": 2, "filters": 1, "patches": 2}
    assert list(dict(draw_features(load_subjects(run), method="plain", **request))) == ["large-all-cnn-conv1-plain.png"]
    with pytest.raises(ValueError, match=r"^method must be plain for a network with LeakyReLU, got guided, "):
        next(draw_features(load_subjects(run), **request))


def layer(field: int, stride: int, start: int) -> ConvLayer:
    return ConvLayer(name="conv1", stop=1, field=field, stride=stride, start=start, is_above_pool=False)


def test_a_crop_is_the_units_field_with_grey_beyond_the_image() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(4, 4, 1).repeat(3, 2)
    assert crop(picture, layer(2, 2, 0), 1, 0)[:, :, 0].tolist() == [[8, 9], [12, 13]]
    corner = crop(picture, layer(3, 1, -1), 0, 3)
    assert corner.shape == (3, 3, 3)
    assert corner[:, :, 1].tolist() == [[0.5, 0.5, 0.5], [2, 3, 0.5], [6, 7, 0.5]]
    assert (crop(picture, layer(2, 9, 0), 1, 1) == 0.5).all()


def test_a_signals_zero_is_grey_and_its_largest_value_black_or_white() -> None:
    signal = torch.zeros(3, 2, 2)
    signal[0, 0, 1], signal[2, 1, 0] = -4, 2
    picture = signal_picture(signal)
    assert picture.shape == (2, 2, 3)
    assert (picture[0, 1, 0], picture[1, 0, 2], picture[0, 0, 0]) == (0, 0.75, 0.5)
    assert (signal_picture(torch.zeros(3, 2, 2)) == 0.5).all()


def test_an_image_of_each_class() -> None:
    assert first_of_each_class(torch.tensor([3, 3, 1, 0, 1]), 2) == [0, 2]
    assert first_of_each_class(torch.tensor([3, 3, 1, 0, 1]), 9) == [0, 2, 3]
