"""Which network of a run is looked at, with which images, and what is refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.files import report_folder, write_file
from analysis.networks.opened import load_images, load_subjects
from sweep.record.store import Store
from tests.looked_at import TRAIN_SIZE, config, make_run, row, save
from trainables.data import StreamedDataset, open_dataset


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return make_run(str(tmp_path / "run"))


def test_the_chosen_trial_of_each_variant_in_the_studys_order(run: Store) -> None:
    better, other_seed = config("all-cnn-c", lr=0.02), config("all-cnn-c", lr=0.02, seed=1)
    for name, trial in (("better", better), ("seed", other_seed)):
        save(run, name, trial)
    rows = [
        row("seed", other_seed, test_error=0.1),
        row("better", better, test_error=0.2),
        row("t-all-cnn-c", config("all-cnn-c")),
        row("t-model-c", config("model-c")),
        row("diverged", config("model-c", lr=0.05), state="diverged", test_error=0.01),
    ]
    run.write_trials(rows)
    model, all_cnn = load_subjects(run)
    assert (model.label, all_cnn.label) == ("model-c", "all-cnn-c")
    # Two seeds count for more than one, and of those the first is shown.
    assert (all_cnn.config.lr, all_cnn.config.seed, all_cnn.error) == (0.02, 0, 0.2)
    assert (model.config.lr, model.network.training) == (0.01, False)
    assert [subject.label for subject in load_subjects(run, ["all-cnn-c"])] == ["all-cnn-c"]


def test_a_network_that_was_trained_on_all_images_comes_before_one_of_the_search(run: Store) -> None:
    document = run.read_run()
    run.write_run(replace(document, study=replace(document.study, protocol="holdout")))
    searched = {"test_error": None, "val_error": 0.3}
    better = config("all-cnn-c", lr=0.02, held_out=0.1)
    second = config("all-cnn-c", lr=0.02, seed=10_001, evaluate_every=None)
    first = config("all-cnn-c", lr=0.02, seed=10_000, evaluate_every=None)
    for name, trial in (("better", better), ("second", second), ("first", first)):
        save(run, name, trial)
    search = [
        row("better", better, **searched | {"val_error": 0.2}),
        row("t-all-cnn-c", config("all-cnn-c"), **searched),
        row("t-model-c", config("model-c"), **searched),
    ]
    run.write_trials(search)
    (found,) = load_subjects(run, ["all-cnn-c"])
    assert (found.config, found.error) == (better, 0.2)
    # Before the second phase it is shown the held-out images.
    assert len(load_images(found, None, 10**6).labels) == 10
    run.write_trials([*search, row("second", second, phase="confirm"), row("first", first, phase="confirm")])
    (found,) = load_subjects(run, ["all-cnn-c"])
    assert (found.config, found.error) == (first, 0.25)
    assert len(load_images(found, None, 10**6).labels) == 2000


def test_cells_of_several_data_sets_are_told_apart(run: Store) -> None:
    shifted = config("model-c", augmentation="flip-shift")
    save(run, "shifted", shifted)
    run.write_trials([row("shifted", shifted), row("t-model-c", config("model-c"))])
    assert {subject.label for subject in load_subjects(run)} == {"shapes/none/model-c", "shapes/flip-shift/model-c"}


def test_an_unknown_variant(run: Store) -> None:
    must = "variant must be one of the run's, model-c, all-cnn-c, got 'model-a'."
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        load_subjects(run, ["model-a"])


@pytest.mark.parametrize(("variants", "of"), [((), ""), (("model-c",), " of model-c")])
def test_no_completed_trial(run: Store, variants: tuple[str, ...], of: str) -> None:
    run.write_trials([row("t-model-c", config("model-c"), state="running")])
    must = f"The run must have a completed trial{of}, got none in {run.location}; wait until one has ended."
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        load_subjects(run, variants)


def test_a_checkpoint_that_is_not_there(run: Store) -> None:
    Path(run.checkpoint("t-model-c")).unlink()
    with pytest.raises(ValueError, match=r"^A checkpoint must lie at .*t-model-c.*, got none there\.$"):
        load_subjects(run)


def test_a_checkpoint_of_another_variant(run: Store) -> None:
    save(run, "t-model-c", config("all-cnn-c"))
    with pytest.raises(ValueError, match=r"must be of variant model-c, as the record says of its trial, got all-cnn-c"):
        load_subjects(run)


def test_the_weights_of_another_variant(run: Store) -> None:
    save(run, "t-model-c", config("model-c"), build_as="all-cnn-c")
    with pytest.raises(ValueError, match=r"must hold the weights of a model-c of width 0\.1, got those of another"):
        load_subjects(run)


def test_the_images_are_what_the_network_was_given(run: Store) -> None:
    subject = load_subjects(run, ["model-c"])[0]
    images = load_images(subject, None, 7)
    data = open_dataset("shapes", None, TRAIN_SIZE)
    assert np.array_equal(images.pixels, data.test.images[:7])
    assert images.labels.tolist() == data.test.labels[:7].tolist()
    assert images.normalised.shape == (7, 3, 32, 32)
    assert images.class_name(0) == images.class_names[0]
    assert images.class_name(99) == "99"
    assert len(load_images(subject, None, 10**6).labels) == len(data.test)


def test_the_images_lie_on_the_networks_canvas(run: Store) -> None:
    save(run, "t-model-c", config("model-c", canvas=40))
    images = load_images(load_subjects(run, ["model-c"])[0], None, 2)
    assert images.pixels.shape == images.normalised.shape == (2, 3, 40, 40)
    assert torch.equal(images.normalised[:, :, :4], torch.zeros(2, 3, 4, 40))


def test_other_data_than_the_runs(run: Store) -> None:
    document = run.read_run()
    run.write_run(replace(document, data={"shapes": replace(document.data["shapes"], checksum="0" * 64)}))
    must = "The data set shapes must be the one that the run was trained on, got one of another checksum; "
    with pytest.raises(ValueError, match=f"^{re.escape(must)}"):
        load_images(load_subjects(run)[0], None, 5)


def test_a_streamed_data_set(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = object.__new__(StreamedDataset)
    monkeypatch.setattr("analysis.networks.opened.open_dataset", lambda *_: streamed)
    must = "The data set must be one that fits into memory, got shapes, which is streamed; "
    with pytest.raises(ValueError, match=f"^{re.escape(must)}"):
        load_images(load_subjects(run)[0], None, 5)


def test_no_images(run: Store) -> None:
    with pytest.raises(ValueError, match=r"^images must be at least 1, got 0\.$"):
        load_images(load_subjects(run)[0], None, 0)


def test_pictures_go_into_the_runs_folder_or_where_one_says(run: Store, tmp_path: Path) -> None:
    assert report_folder(run, None) == Path(run.location) / "report"
    assert report_folder(run, str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    file = write_file(tmp_path / "a" / "b", "x.png", b"x")
    assert file.read_bytes() == b"x"


def test_a_remote_run_needs_a_folder_for_pictures(run: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "location", "s3://bucket/run")
    must = "output must be a local folder where the run is remote, got none for s3://bucket/run."
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        report_folder(run, None)
    assert report_folder(run, str(tmp_path)) == tmp_path


def test_output_that_is_a_file(run: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    must = f"output must be a folder that can be written to, got '{tmp_path}/file/below'."
    with pytest.raises(ValueError, match=f"^{re.escape(must)}$"):
        report_folder(run, str(tmp_path / "file" / "below"))
