"""The learning rate of an earlier run: which one is taken, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, Space
from sweep.record.store import Store
from sweep.run import main
from sweep.search.earlier_runs import with_selected_rates
from sweep.study.catalog import STUDIES
from tests.reported import document, trial

STUDY = STUDIES["cifar100"]()
TWO = replace(STUDY, variants=("all-cnn-c", "model-c"))


def row(number: int, lr: float, error: float, **values: Any) -> dict[str, Any]:
    """Return a completed trial of the search on CIFAR-10; the error is that of its protocol."""
    return trial(number, **{"variant": "all-cnn-c", "lr": lr, "val_error": None, "test_error": error} | values)


def held(number: int, lr: float, error: float, **values: Any) -> dict[str, Any]:
    return row(number, lr, error, **{"val_error": error, "test_error": None} | values)


def earlier(folder: Path, *rows: dict[str, Any], **study: Any) -> str:
    store = Store(str(folder / "earlier"))
    store.write_run(document("all-cnn-c", "model-c", **study))
    store.write_trials(list(rows))
    return store.location


def test_under_paper_the_rate_with_the_lowest_test_error_is_taken(tmp_path: Path) -> None:
    location = earlier(
        tmp_path,
        row(0, 0.1, 0.3),
        row(1, 0.05, 0.2),
        row(2, 0.25, 0.1, state="stopped"),
        row(3, 0.01, 0.1, state="failed"),
        row(4, 0.25, 0.1, variant="model-c"),
    )
    assert with_selected_rates(STUDY, location) == replace(STUDY, space=Space(lr=Choice((0.05,))))


def test_the_mean_over_all_of_a_rate_s_seeds_selects(tmp_path: Path) -> None:
    seeds = [row(number, 0.1, error, seed=number) for number, error in enumerate((0.1, 0.4))]
    seeds += [row(2 + number, 0.05, error, seed=number) for number, error in enumerate((0.2, 0.2))]
    # One seed of this rate was lucky, the other did not complete.
    seeds += [row(4, 0.01, 0.05), row(5, 0.01, 1.0, seed=1, state="diverged")]
    assert with_selected_rates(STUDY, earlier(tmp_path, *seeds, seeds=2)).space == Space(lr=Choice((0.05,)))


def test_under_holdout_the_validation_error_selects_and_no_test_error(tmp_path: Path) -> None:
    location = earlier(
        tmp_path,
        held(0, 0.1, 0.2),
        held(1, 0.05, 0.3),
        held(2, 0.05, 0.0, phase="confirm", val_error=None, test_error=0.01),
        protocol="holdout",
    )
    assert with_selected_rates(STUDY, location).space == Space(lr=Choice((0.1,)))


def test_variants_that_share_their_rate_are_searched_at_it(tmp_path: Path) -> None:
    rows = [row(0, 0.1, 0.2), row(1, 0.05, 0.3), row(2, 0.1, 0.4, variant="model-c")]
    assert with_selected_rates(TWO, earlier(tmp_path, *rows)).space == Space(lr=Choice((0.1,)))


def test_a_variant_that_has_rates_of_its_own_is_trained_at_the_selected_one(tmp_path: Path) -> None:
    own = {"all-cnn-c": Space(lr=Choice((0.3, 0.2)), dropout=Choice((0.1, 0.2)))}
    found = with_selected_rates(replace(STUDY, spaces=own), earlier(tmp_path, row(0, 0.1, 0.2)))
    assert found.space_of("all-cnn-c") == Space(lr=Choice((0.1,)), dropout=Choice((0.1, 0.2)))


def test_variants_with_different_rates_are_refused(tmp_path: Path) -> None:
    location = earlier(tmp_path, row(0, 0.1, 0.2), row(1, 0.05, 0.3, variant="model-c"))
    with pytest.raises(ValueError, match=r"^rates_from must be a run that selected one rate for all ") as caught:
        with_selected_rates(TWO, location)
    for part in (f"got {location}", "0.1 (cifar10/none/all-cnn-c)", "0.05 (cifar10/none/model-c)", "--variants"):
        assert part in str(caught.value)
    assert with_selected_rates(STUDY, location).space == Space(lr=Choice((0.1,)))


def test_a_variant_with_different_rates_on_two_data_sets_is_refused(tmp_path: Path) -> None:
    location = earlier(tmp_path, row(0, 0.1, 0.2), row(1, 0.05, 0.3, augmentation="flip-shift"))
    with pytest.raises(ValueError, match=r"0\.1 \(cifar10/none/all-cnn-c\)"):
        with_selected_rates(STUDY, location)


@pytest.mark.parametrize("values", [{"state": "diverged"}, {"state": "running"}, {"variant": "model-c"}])
def test_a_run_without_a_completed_trial_of_the_variant_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    location = earlier(tmp_path, row(0, 0.1, 0.2, **values))
    with pytest.raises(
        ValueError, match=r"^rates_from must be a run with a completed trial of all-cnn-c, got "
    ) as caught:
        with_selected_rates(STUDY, location)
    assert location in str(caught.value)


def test_a_place_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^rates_from: A run's folder must exist and hold study\.json, got "):
        with_selected_rates(STUDY, str(tmp_path / "missing"))


def test_a_broken_study_is_refused(tmp_path: Path) -> None:
    location = earlier(tmp_path, row(0, 0.1, 0.2))
    file = Path(location) / "study.json"
    file.write_text(file.read_text().replace('"protocol": "paper"', '"protocol": "mine"'))
    with pytest.raises(ValueError, match=r"^rates_from: .*study\.json must hold what a run writes, got .*protocol"):
        with_selected_rates(STUDY, location)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("besides", "text"),
    [
        (("--learning-rates", "0.1"), "rates_from must be left out where learning rates are given, got "),
        (("--vary", "lr=0.1,0.2"), "rates_from must be left out where learning rates are given, got "),
        (("--vary", "learning_rate=0.1,0.2"), "rates_from must be left out where learning rates are given, got "),
        (("--vary", "model-c:lr=0.1,0.2"), "rates_from must be left out where learning rates are given, got "),
        (("--set", "lr=0.1"), "rates_from must be left out where learning rates are given, got "),
    ],
)
def test_beside_rates_of_its_own_the_option_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], besides: tuple[str, ...], text: str
) -> None:
    where = ("--output", str(tmp_path / "runs"), "--rates-from", str(tmp_path / "earlier"))
    assert main(["quickstart", *where, *besides]) == 2
    assert capsys.readouterr().err == f"error: {text}{tmp_path / 'earlier'}.\n"


@pytest.mark.usefixtures("no_ray")
def test_the_plan_has_the_rate_that_was_selected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    location = earlier(tmp_path, row(0, 0.1, 0.3), row(1, 0.05, 0.2))
    tiny = ("--train-size", "64", "--epochs", "1", "--width", "0.05", "--gpus-per-trial", "0", "--dry-run")
    where = ("--output", str(tmp_path / "runs"), "--rates-from", location)
    assert main(["quickstart", "--variants", "all-cnn-c", *tiny, *where]) == 0
    assert "learning rates  {0.05}\n" in capsys.readouterr().out
