import csv
import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest

from analysis import FORMATS, VariantResult, compare, render
from analysis.results import By
from analysis.tables import comparison_notes, comparison_rows, notes, table_rows
from search_spaces import Scalar
from sweep.record.document import RunDocument
from sweep.study.catalog import cifar10, cifar10_large
from sweep.study.options import RunOptions
from tests.standings import data, run_document
from trainables.data import DATASETS

STATES = {"completed": 4, "stopped": 0, "diverged": 0, "failed": 0, "running": 0, "pending": 0}


def result(variant: str = "all-cnn-c", **values: Any) -> VariantResult:
    fields: dict[str, Any] = {
        "dataset": "cifar10",
        "augmentation": "none",
        "lr": 0.05,
        "params": {"lr": 0.05},
        "tried": {"lr": {0.05, 0.1}},
        "seed": None,
        "errors": (0.09123,),
        "validation_error": None,
        "lost_seeds": 0,
        "chosen": ("t0",),
        "epochs": 350,
        "num_parameters": 1369738,
        "states": STATES,
    }
    return VariantResult(variant=variant, **(fields | values))


def study(
    *datasets: str, images: int = 50_000, planned: int = 4, protocol: str = "paper", **options: Any
) -> RunDocument:
    """Return study.json as a run of the paper's study writes it, but for the options given."""
    named = replace(cifar10(), protocol=protocol, datasets=datasets or ("cifar10",))
    found = {
        name: data(train_images=images, num_classes=DATASETS[name].num_classes, generated=DATASETS[name].generated)
        for name in named.datasets
    }
    return run_document(RunOptions(**options).apply(named), found, planned_trials=planned)


def test_a_row_of_the_table() -> None:
    (row,) = table_rows([result()], study())
    assert row == {
        "variant": "all-cnn-c",
        "best error %": "9.12",
        "learning rate": "0.05",
        "epochs": "350",
        "parameters": "1,369,738",
        "paper %": "9.08",
        "completed": "4",
        "stopped": "0",
        "diverged": "0",
        "failed": "0",
    }


def test_missing_values_are_dashes() -> None:
    (row,) = table_rows([result(errors=(), lr=None, num_parameters=None)], study())
    assert (row["best error %"], row["learning rate"], row["parameters"]) == ("-", "-", "-")


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({"dataset": "shapes"}, "paper"),
        ({"augmentation": "flip-shift", "variant": "model-a"}, "paper"),
        ({"dataset": "cifar100", "augmentation": "flip-shift"}, "paper"),
        ({}, "holdout"),
    ],
)
def test_the_papers_column_stands_only_where_data_augmentation_and_protocol_match(
    changes: dict[str, Any], protocol: str
) -> None:
    written = study(changes.get("dataset", "cifar10"), protocol=protocol)
    (row,) = table_rows([result(**changes)], written)
    assert "paper %" not in row
    assert not any(note.startswith("Paper:") for note in notes([result(**changes)], written))


def test_a_variant_that_the_paper_has_not_gets_a_dash_beside_one_that_it_has() -> None:
    rows = table_rows([result(), result("mine")], study())
    assert [row["paper %"] for row in rows] == ["9.08", "-"]


def test_columns_that_only_some_tables_need() -> None:
    pending = STATES | {"running": 1, "pending": 2}
    rows = table_rows(
        [
            result(errors=(0.08, 0.1)),
            result(dataset="cifar100", states=pending),
        ],
        study("cifar10", "cifar100"),
    )
    # The deviation is the root of two: one point either side, squared, over one. The interval is 12.7062 points.
    assert [row["sd"] for row in rows] == ["1.41", "-"]
    assert [row["± 95 %"] for row in rows] == ["12.71", "-"]
    assert [row["seeds"] for row in rows] == ["2", "1"]
    assert [row["data set"] for row in rows] == ["cifar10", "cifar100"]
    assert [row["unfinished"] for row in rows] == ["0", "3"]
    assert list(rows[0]) == list(rows[1])


TRIED: dict[str, set[Scalar]] = {
    "lr": {0.05},
    "weight_decay": {0.0, 0.001},
    "class_relu": {False, True},
    "initialisation": {"he", "glorot"},
    "options.depth": {2, 3},
}
CHOSEN: dict[str, Scalar] = {"lr": 0.05, "weight_decay": 0.0, "class_relu": False, "initialisation": "he"}
HEADINGS = ["class relu", "initialisation", "depth", "weight decay"]


@pytest.mark.parametrize("form", list(FORMATS))
def test_what_was_searched_stands_beside_the_rate(form: str) -> None:
    # The first has no depth, as where it depends on another value; the second has no configuration at all.
    results = [result(tried=TRIED, params=CHOSEN), result("model-a", lr=None, params={}, tried={})]
    rows = table_rows(results, study())
    assert list(rows[0])[2:7] == ["learning rate", *HEADINGS]
    assert [[row[name] for name in HEADINGS] for row in rows] == [["false", "he", "-", "0"], ["-"] * 4]
    text = render(rows, [], form)
    assert all(name in text for name in HEADINGS)


def test_searched_values_in_csv_are_values_and_a_missing_one_is_empty() -> None:
    rows = table_rows([result(tried=TRIED, params=CHOSEN)], study())
    (read,) = csv.DictReader(io.StringIO(render(rows, [], "csv")))
    assert [read[name] for name in HEADINGS] == ["false", "he", "", "0"]


@pytest.mark.parametrize(("name", "heading"), [("weight_decay", "weight decay"), ("initialisation", "initialisation")])
def test_what_was_not_searched_has_no_column(name: str, heading: str) -> None:
    alone = TRIED | {name: {"glorot"}}
    (row,) = table_rows([result(tried=alone)], study())
    assert set(HEADINGS) - set(row) == {heading}
    # Two variants that were tried at one value each were searched all the same.
    other = result("model-a", tried=TRIED | {name: {"he"}})
    assert all(heading in row for row in table_rows([result(tried=alone), other], study()))


def test_an_option_of_a_variant_named_as_another_column_does_not_take_its_place() -> None:
    tried: dict[str, set[Scalar]] = {"dropout": {0.0, 0.1}, "options.dropout": {0.2, 0.3}, "options.epochs": {1, 2}}
    params: dict[str, Scalar] = {"dropout": 0.1, "options.dropout": 0.2, "options.epochs": 2}
    (row,) = table_rows([result(tried=tried, params=params)], study())
    assert (row["dropout"], row["options.dropout"]) == ("0.1", "0.2")
    assert (row["epochs"], row["options.epochs"]) == ("350", "2")


def test_rows_by_learning_rate_and_by_seed() -> None:
    (row,) = table_rows([result()], study(), "lr")
    assert "error %" in row
    assert "best error %" not in row
    (row,) = table_rows([result(seed=7)], study(), "seed")
    assert row["seed"] == "7"


@pytest.mark.parametrize(
    ("protocol", "by", "heading"),
    [
        ("paper", "variant", "best error %"),
        ("paper", "lr", "error %"),
        ("paper", "seed", "best error %"),
        ("holdout", "variant", "mean test error %"),
        ("holdout", "lr", "mean test error %"),
        ("holdout", "seed", "test error %"),
    ],
)
def test_the_heading_says_what_the_error_is(protocol: str, by: By, heading: str) -> None:
    (row,) = table_rows([result(seed=7)], study(protocol=protocol), by)
    assert [name for name in row if "error %" in name] == [heading]
    assert row[heading] == "9.12"


def test_a_run_as_long_and_wide_as_the_papers_is_comparable() -> None:
    found = notes([result()], study())
    assert not any("Not comparable" in note for note in found)
    assert "Paper: Springenberg et al. 2015, arXiv 1412.6806v3, Table 3." in found
    assert "Errors are test errors after the last epoch of completed trials." in found


def test_under_holdout_the_validation_error_stands_beside_the_test_error() -> None:
    written = study(protocol="holdout")
    rows = table_rows([result(validation_error=0.1), result("model-a", errors=())], written)
    assert [row["validation %"] for row in rows] == ["10.00", "-"]
    (note,) = [note for note in notes([result()], written) if note.startswith("Errors are")]
    assert "chosen on images held out of training" in note
    assert "validation %" not in table_rows([result()], study())[0]


def test_where_no_test_error_is_read_the_note_says_so() -> None:
    written = study(protocol="holdout", seeds=0)
    (row,) = table_rows([result(errors=(), validation_error=0.1)], written)
    assert (row["mean test error %"], row["validation %"]) == ("-", "10.00")
    found = notes([result(errors=(), validation_error=0.1)], written)
    assert found[0].startswith("No test error was read, since seeds is 0. Validation errors are those of the selected ")
    assert not any("fresh seeds" in note or "sampling error" in note for note in found)


def test_the_draw_of_the_test_images_is_quantified() -> None:
    # An error of one half on 10,000 images has a standard error of half a point; a lower one has less.
    found = notes([result(errors=(0.5, 0.1)), result(dataset="cifar100", errors=())], study("cifar10", "cifar100"))
    (note,) = [note for note in found if "sampling error" in note]
    assert note == "Test-set sampling error of cifar10: up to ±0.50 points (binomial standard error, n = 10,000)."
    assert any(note.startswith("± 95 %: half of the interval") for note in found)
    assert not any("Student's t" in note for note in notes([result()], study()))


def test_a_row_of_a_comparison() -> None:
    # Welch's test of these is worked out in test_inference.py: 2 degrees of freedom, p 0.1056, interval of 6.0849.
    both = [result(errors=(0.0, 0.02)), result("model-a", errors=(0.04, 0.06)), result("mine")]
    comparisons = compare(both, "all-cnn-c")
    assert comparison_rows(comparisons) == [
        {
            "variant": "model-a",
            "seeds": "2",
            "error %": "5.00",
            "all-cnn-c %": "1.00",
            "difference": "+4.00",
            "± 95 %": "6.08",
            "p": "0.11",
            "p (Holm)": "0.11",
            "difference is": "not significant",
        },
        {
            "variant": "mine",
            "seeds": "1",
            "error %": "9.12",
            "all-cnn-c %": "1.00",
            "difference": "+8.12",
            "± 95 %": "-",
            "p": "-",
            "p (Holm)": "-",
            "difference is": "not known: fewer than 2 seeds",
        },
    ]
    first, _ = comparison_notes(comparisons)
    assert first.startswith("Differences are to all-cnn-c (2 seeds), in points of error")
    assert first.endswith("corrected for their number, 1.")


def test_comparisons_of_several_cells_name_them() -> None:
    cells = [result(name, dataset=dataset) for dataset in ("cifar10", "cifar100") for name in ("a", "b")]
    rows = comparison_rows(compare(cells, "a"))
    assert [(row["data set"], row["augmentation"], row["variant"]) for row in rows] == [
        ("cifar10", "none", "b"),
        ("cifar100", "none", "b"),
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epochs": 10}, "epochs 10 (paper: 350)"),
        ({"width": 0.25}, "width 0.25 (paper: 1)"),
        ({"images": 4000}, "training images 4,000 (paper: 50,000)"),
        ({"learning_rates": (0.05,)}, "learning_rates 0.05 (paper: 0.25/0.1/0.05/0.01)"),
        (
            {"search": "random", "trials_per_cell": 4},
            "learning_rates log-uniform [0.001, 0.25] (paper: 0.25/0.1/0.05/0.01)",
        ),
        ({"set": ("preprocessing=standardise",)}, "preprocessing standardise (paper: gcn-zca)"),
        ({"set": ("weight_decay=0.0005",)}, "weight_decay 0.0005 (paper: 0.001)"),
        ({"vary": ("weight_decay=0.001,0.0005",)}, "weight_decay 0.001/0.0005 (paper: 0.001)"),
        ({"early_stopping": "asha"}, "early_stopping asha (paper: none)"),
        ({"set": ("class_relu=false", "dropout=0.1")}, "dropout 0.1 (paper: 0.5), class_relu no (paper: yes)"),
        ({"vary": ("class_relu=true,false",)}, "class_relu yes/no (paper: yes)"),
        ({"vary": ("max_grad_norm=none,5",)}, "max_grad_norm 5/none (paper: none)"),
        ({"vary": ("canvas=none,64",)}, "canvas 64/none (paper: none)"),
        ({"vary": ("all-cnn-c:dropout=0.1",)}, "dropout 0.1 (paper: 0.5)"),
    ],
)
def test_another_recipe_than_the_papers_is_not_comparable(changes: dict[str, Any], text: str) -> None:
    (note,) = [note for note in notes([result()], study(**changes)) if note.startswith("Not comparable")]
    assert note == f"Not comparable with the paper's numbers: {text}."


def test_only_the_variant_that_searches_by_itself_is_not_comparable() -> None:
    written = study(vary=("all-cnn-c:dropout=0.1,0.2",))
    found = [note for note in notes([result(), result("model-a")], written) if note.startswith("Not comparable")]
    assert found == ["Not comparable with the paper's number of all-cnn-c: dropout 0.2/0.1 (paper: 0.5)."]


def large_study(**options: Any) -> RunDocument:
    """Return a study.json of the Large ALL-CNN's study, but for the options given."""
    named = replace(cifar10_large(), protocol="paper")
    return run_document(RunOptions(**options).apply(named), planned_trials=4)


def test_the_large_networks_row_claims_no_recipe_that_the_paper_does_not_give() -> None:
    large = result("large-all-cnn", augmentation="heavy", lr=0.01)
    (row,) = table_rows([large], large_study())
    assert row["paper %"] == "4.41"
    found = notes([large], large_study(epochs=3))
    assert "Paper: Springenberg et al. 2015, arXiv 1412.6806v3 (memory only)." in found
    assert not any("paper:" in note for note in found)
    assert any(
        note.startswith("The paper does not say how it trained and augmented for large-all-cnn") for note in found
    )
    (note,) = [n for n in notes([large], large_study(width=0.1, set=("canvas=130",))) if n.startswith("Not comparable")]
    assert note == (
        "Not comparable with the paper's number of large-all-cnn: canvas 130 (paper: 126), width 0.1 (paper: 1)."
    )


def test_another_canvas_makes_a_run_incomparable() -> None:
    assert not any("Not comparable" in note for note in notes([result()], study()))
    assert any("canvas 64 (paper: none)" in note for note in notes([result()], study(set=("canvas=64",))))


def test_what_the_paper_leaves_open_makes_no_run_incomparable() -> None:
    open_points = study(
        batch_size=256, vary=("initialisation=he,glorot",), set=("strided_dropout=false",), seed=3, seeds=2
    )
    assert not any("Not comparable" in note for note in notes([result()], open_points))


def test_generated_images_stand_beside_no_published_number() -> None:
    both = study("cifar10", "shapes")
    results = [result(), result(dataset="shapes")]
    assert all("paper %" not in row for row in table_rows(results, both))
    assert not any("Paper" in note for note in notes(results, both))


def test_shapes_say_that_they_are_generated() -> None:
    found = notes([result(dataset="shapes")], study("shapes"))
    assert "The data set shapes is generated: its errors say nothing about natural images." in found
    assert not any("Not comparable" in note for note in found)
    assert not any("generated" in note for note in notes([result()], study()))


def test_a_run_that_goes_on_says_how_far_it_is() -> None:
    assert "4 of 9 planned trials have ended." in notes([result()], study(planned=9))
    assert not any("planned" in note for note in notes([result()], study(planned=4)))


def test_markdown() -> None:
    text = render(table_rows([result(), result("model-a")], study()), ["A remark."], "markdown")
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")][:2] == ["variant", "best error %"]
    assert [cell.strip() for cell in lines[2].strip("|").split("|")][:2] == ["all-cnn-c", "9.12"]
    assert lines[-2:] == ["", "A remark."]
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_latex() -> None:
    text = render(table_rows([result()], study()), ["A remark."], "latex")
    assert r"\begin{tabular}" in text
    assert r"best error \%" in text
    assert text.splitlines()[-1] == "% A remark."


def test_csv_reads_back_as_numbers() -> None:
    rows = table_rows([result(), result("model-a", errors=())], study())
    read = list(csv.DictReader(io.StringIO(render(rows, ["A remark."], "csv"))))
    assert [row["variant"] for row in read] == ["all-cnn-c", "model-a"]
    assert (float(read[0]["best error %"]), int(read[0]["parameters"])) == (9.12, 1369738)
    assert read[1]["best error %"] == ""
    assert list(read[0]) == list(rows[0])


def test_html_is_well_formed_whatever_it_holds() -> None:
    rows = table_rows([result("a<b>&c")], study())
    tree = ET.fromstring(f"<body>{render(rows, ['Rates < 1 & > 0.', 'Second.'], 'html')}</body>")  # noqa: S314
    cells = [(cell.text or "").strip() for cell in tree.iter("td")]
    assert cells[:2] == ["a<b>&c", "9.12"]
    assert [paragraph.text for paragraph in tree.iter("p")] == ["Rates < 1 & > 0.", "Second."]


@pytest.mark.parametrize("form", list(FORMATS))
def test_no_row_renders_in_every_format(form: str) -> None:
    assert isinstance(render([], ["A remark."], form), str)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^format must be one of markdown, latex, csv, html, got 'xlsx'\.$"):
        render([], [], "xlsx")
