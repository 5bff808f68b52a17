from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.charts.canvas import Canvas
from analysis.charts.chart_data import Series, read_series, thinned, verdicts
from analysis.charts.trials import curves_chart, parallel_chart, scale_of
from analysis.charts.variants import rate_points
from analysis.formats import MISSING
from analysis.run_data import Evidence
from sweep.record.store import Store
from tests.reported import curve, document, make_run, make_run_of_many_kinds, seeds, trial


def series(trials: list[dict[str, Any]], *variants: str, **study: Any) -> Series:
    return Series(evidence=Evidence(document=document(*variants, **study), trials=trials), epochs={})


def test_a_bar_has_the_tables_numbers_and_the_papers_beside_it(tmp_path: Path) -> None:
    bars = {bar.label: bar for bar in read_series(make_run(str(tmp_path / "run"))).bars}
    assert list(bars) == ["model-c", "all-cnn-c", "strided-cnn-c"]
    assert bars["all-cnn-c"].error == pytest.approx(0.092)
    # Over 0.090, 0.095, 0.091: deviation 0.0026458, over the root of 3, by t of 2 degrees of freedom, 4.302653.
    assert bars["all-cnn-c"].half_width == pytest.approx(4.302653 * 0.0026458 / 3**0.5, rel=1e-4)
    assert [bar.paper for bar in bars.values()] == pytest.approx([0.0974, 0.0908, 0.1019])
    assert [bar.best for bar in bars.values()] == [False, True, False]
    assert [bar.images_per_s for bar in bars.values()] == [1000, 1000, 2000]


@pytest.mark.parametrize(("study", "reason"), [({"generated": True}, "images"), ({"protocol": "holdout"}, "protocol")])
def test_no_number_of_the_papers_beside_others(study: dict[str, Any], reason: str) -> None:
    trials = seeds(0, "model-c", 0.1, 0.2) + [t | {"phase": "confirm"} for t in seeds(5, "model-c", 0.1, 0.2)]
    for one in trials:
        one["val_error"] = 0.1
    (bar,) = series(trials, "model-c", **study).bars
    assert bar.paper is None, reason


def test_what_early_stopping_saved(tmp_path: Path) -> None:
    rows = {row.label: row for row in read_series(make_run(str(tmp_path / "run"))).stopped}
    # Three completed trials of 10 epochs, one stopped after 4, one diverged after 2, one that failed at once.
    assert (rows["model-c"].trials, rows["model-c"].stopped) == (6, 1)
    assert (rows["model-c"].epochs_run, rows["model-c"].epochs_budget, rows["model-c"].saved) == (36, 60, 6)
    assert (rows["all"].epochs_run, rows["all"].saved) == (96, 6)


def test_without_a_stopped_trial_nothing_was_saved() -> None:
    assert series([trial(0)], "model-c").stopped == []


def test_the_chosen_trial_and_its_curve(tmp_path: Path) -> None:
    panel = read_series(make_run(str(tmp_path / "run"))).panels[0]
    chosen = [line for line in panel.lines if line.chosen]
    assert [line.trial["lr"] for line in chosen] == [0.05] * 3
    assert chosen[0].epochs == tuple(range(1, 11))
    assert chosen[0].errors[-1] == pytest.approx(0.108)
    assert [len(line.epochs) for line in panel.lines if line.trial["state"] == "stopped"] == [4]


def test_a_curve_has_the_epochs_that_were_measured(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_run(document("model-c"))
    cut = trial(1, lr=0.1, state="pending", epochs_run=3, test_error=None, reason="interrupted after epoch 3")
    store.write_trials([trial(0, epochs_run=4, test_error=0.2), cut])
    for name, errors in (("t0000", [None, 0.4, None, 0.2]), ("t0001", [None, 0.5, None])):
        store.append_epochs(curve(name, errors))
    found = read_series(store)
    (panel,) = found.panels
    assert [(line.epochs, line.errors) for line in panel.lines] == [((2, 4), (0.4, 0.2)), ((2,), (0.5,))]
    assert [found.error_of(each) for each in panel.trials] == [0.2, None]
    assert rate_points(found, panel) == [(0.05, 0.2, 1)]
    chart = curves_chart(found)
    assert chart is not None
    canvas = Canvas(figure=Figure(), columns=2)
    chart.draw(canvas)
    assert [len(each.get_xdata()) for each in canvas.figure.axes[0].lines[:2]] == [2, 1]


def test_numbers_stand_by_their_size_and_others_one_above_the_other() -> None:
    by_size = scale_of([0.1, 1.0, 10.0, 1.0])
    assert [by_size.height(value) for value in (0.1, 1.0, 10.0)] == pytest.approx([0, 0.5, 1])
    assert by_size.marks == {"0.1": 0, "1": pytest.approx(0.5), "10": 1}
    # With 0 among them there is no logarithm.
    assert scale_of([0.0, 1.0, 4.0]).height(1.0) == 0.25
    assert scale_of([1.0, 3.0, 5.0], logarithmic=False).height(3.0) == 0.5
    assert scale_of([0.05]).marks == {"0.05": 0}
    kinds = scale_of(["normal", "he", "glorot", "he"])
    assert kinds.marks == {"glorot": 0, "he": 0.5, "normal": 1}
    assert scale_of([True, False]).marks == {"false": 0, "true": 1}


def test_what_is_no_number_and_what_is_absent_stand_below_the_numbers() -> None:
    mixed = scale_of([None, 1.0, 4.0, MISSING, True, 1])
    heights = {value: mixed.marks[value] for value in ("4", "1", "none", "true", "absent")}
    assert heights["4"] == 1
    assert heights["1"] == 0 > max(heights["none"], heights["true"], heights["absent"])
    assert len({*heights.values()}) == 5
    # Python takes True for 1.
    assert mixed.height(True) != mixed.height(1) == mixed.height(1.0)
    kinds = scale_of(["he", MISSING])
    assert (kinds.height("he"), kinds.height(MISSING) < 0) == (0, True)


def test_many_numbers_have_five_marks() -> None:
    assert list(scale_of([float(2**power) for power in range(9)]).marks) == ["1", "4", "16", "64", "256"]
    linear = scale_of([float(number) for number in range(9)])
    assert list(linear.marks) == ["0", "2", "4", "6", "8"]
    assert [linear.height(value) for value in (0.0, 6.0)] == [0, 0.75]


def test_the_parallel_chart_of_every_kind_of_hyperparameter(tmp_path: Path) -> None:
    read = read_series(make_run_of_many_kinds(str(tmp_path / "run")))
    assert read.searched_dimensions == ["lr", "class_relu", "dropout", "initialisation", "initialisation_std"]
    chart = parallel_chart(read)
    assert chart is not None
    assert "Absent: the trial has no such hyperparameter." in chart.text
    canvas = Canvas(figure=Figure(), columns=3)
    chart.draw(canvas)
    (axes,) = canvas.figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "learning rate",
        "class relu",
        "dropout",
        "initialisation",
        "initialisation std",
        "test error, %",
    ]
    written = {text.get_text() for text in axes.texts}
    assert {"0.05", "0.1", "true", "false", "0", "glorot", "he", "normal", "0.01", "absent"} <= written
    assert len(canvas.tips) == 64
    # The lines of glorot end lower at the axis that they have no value of than all that have one.
    heights = {tip: line for line in axes.lines if (tip := canvas.tips.get(line.get_gid() or ""))}
    lacking = [line.get_ydata()[4] for tip, line in heights.items() if "normal" not in tip]
    having = [line.get_ydata()[4] for tip, line in heights.items() if "normal" in tip]
    assert max(lacking) < min(having)
    alone = series([trial(0, dropout=0.1), trial(1, dropout=0.2)], "model-c")
    assert parallel_chart(alone) is None


def test_a_long_curve_is_thinned_to_points_that_were_measured() -> None:
    curve = [(epoch, 1 / epoch) for epoch in range(1, 351)]
    thin = thinned(np.array(curve), 20, kept=(200,))
    assert set(thin) <= set(curve)
    assert len(thin) <= 22
    assert (thin[0], thin[-1]) == (curve[0], curve[-1])
    # Either side of the drop.
    assert {200, 201} <= {epoch for epoch, _ in thin}
    assert thinned(np.array(curve[:20]), 20) == curve[:20]


@pytest.mark.parametrize("order", [("t0000", "t0001"), ("t0001", "t0000")])
def test_curves_go_on_from_part_to_part(tmp_path: Path, order: tuple[str, str]) -> None:
    store = Store(str(tmp_path))
    store.write_run(document("model-c"))
    store.write_trials([trial(0, epochs_run=3), trial(1, epochs_run=3)])
    first, last = curve(order[0], [0.5, 0.4, 0.3, 0.2]), curve(order[1], [0.9, 0.8, 0.7])
    last[1]["test_error"] = None
    for part in (first[:1], first[1:] + last[:1], last[1:], first[3:]):
        store.append_epochs(part)
    read = read_series(store)
    assert list(read.epochs) == ["t0000", "t0001"]
    assert read.epochs[order[0]].tolist() == [[1, 0.5], [2, 0.4], [3, 0.3], [4, 0.2]]
    assert read.epochs[order[1]].tolist() == [[1, 0.9], [3, 0.7]]


def test_the_verdict_says_what_is_clear_and_what_is_not(tmp_path: Path) -> None:
    (sentence,) = verdicts(read_series(make_run(str(tmp_path / "run"))))
    assert sentence == (
        "On cifar10, all-cnn-c has the lowest test error, 9.20 % ± 0.66 (3 seeds): significantly lower than that of "
        "model-c; not significantly different from strided-cnn-c."
    )


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([], "No variant has a test error yet."),
        ([trial(0, state="running", test_error=None)], "No variant has a test error yet."),
        ([trial(0)], "model-c has a test error of 10.00 %, of one seed; nothing stands beside it."),
        (
            [trial(0), trial(1, variant="mine", test_error=0.2)],
            "On cifar10, model-c has the lowest test error, 10.00 %, of one seed: too few seeds to compare it with "
            "mine.",
        ),
        (
            seeds(0, "model-c", 0.1, 0.1001) + seeds(5, "mine", 0.5, 0.5001),
            "On cifar10, model-c has the lowest test error, 10.01 % ± 0.06 (2 seeds): significantly lower than every "
            "other.",
        ),
    ],
)
def test_verdicts_of_less(trials: list[dict[str, Any]], sentence: str) -> None:
    assert verdicts(series(trials, "model-c", "mine")) == [sentence]


def test_the_verdict_of_a_run_that_reads_no_test_error_says_so() -> None:
    trials = [trial(0, val_error=0.2, test_error=None)]
    assert verdicts(series(trials, "model-c", protocol="holdout", seeds=0)) == [
        "No test error was read, since seeds is 0."
    ]


def test_the_papers_settings_are_told_where_they_were_others() -> None:
    assert "epochs 10 (paper: 350)" in series([trial(0)], "model-c").other_settings
    assert series([trial(0)], "model-c", generated=True).other_settings == []
    assert series([trial(0, val_error=0.1)], "model-c", protocol="holdout").other_settings == []
