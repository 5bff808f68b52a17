import csv
import io
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.run_data import Evidence, read_evidence
from analysis.side_by_side import run_names, side_by_side
from tests.reported import document, make_run, make_run_of_many_kinds, seeds, trial


def evidence(trials: list[dict[str, object]], generated: bool = False) -> Evidence:
    return Evidence(document=document("model-c", "all-cnn-c", generated=generated), trials=trials)


def test_runs_have_short_names_that_differ() -> None:
    assert run_names(["/a/runs/first", "/a/runs/second/"]) == ["first", "second"]
    assert run_names(["/a/mon/run", "s3://bucket/tue/run?region=x"]) == ["mon/run", "tue/run"]
    with pytest.raises(ValueError, match="RUN must name each run once, got /a/b, /a/b"):
        run_names(["/a/b", "/a/b"])


def test_a_group_of_columns_for_each_run() -> None:
    first = evidence(seeds(0, "model-c", 0.1, 0.11) + seeds(5, "all-cnn-c", 0.2, 0.21))
    second = evidence([trial(0, test_error=0.3)])
    rows, marks, _ = side_by_side({"a": first, "b": second})
    assert [row["variant"] for row in rows] == ["model-c", "all-cnn-c"]
    assert [row["a: best error %"] for row in rows] == ["10.50", "20.50"]
    assert [row["b: best error %"] for row in rows] == ["30.00", "-"]
    assert rows[0]["a: paper %"] == "9.74"
    # Of each run by itself; one alone is no best.
    assert marks == {(0, "a: best error %"): "best"}


def test_by_learning_rate_and_by_seed() -> None:
    runs = {"a": evidence([trial(0), trial(1, lr=0.1, test_error=0.2)]), "b": evidence([trial(0, lr=0.1, seed=3)])}
    rows, marks, _ = side_by_side(runs, "lr")
    read = {row["learning rate"]: (row["a: error %"], row["b: error %"]) for row in rows if row["variant"] == "model-c"}
    assert read == {"0.1": ("20.00", "10.00"), "0.05": ("10.00", "-")}
    assert list(marks.values()) == ["best"]
    rows, marks, _ = side_by_side(runs, "seed")
    assert [row["seed"] for row in rows] == ["0", "3"]
    assert not marks


def test_what_each_run_searched_stands_beside_its_rate(tmp_path: Path) -> None:
    many = read_evidence(make_run_of_many_kinds(str(tmp_path / "run")))
    rows, _, remarks = side_by_side({"a": evidence([trial(0), trial(1, lr=0.1)]), "b": many})
    assert [heading for heading in rows[0] if heading.startswith("a: ")] == [
        *("a: best error %", "a: learning rate", "a: paper %"),
    ]
    headings = ("learning rate", "class relu", "dropout", "initialisation", "initialisation std")
    assert [[row[f"b: {heading}"] for heading in headings] for row in rows] == [
        ["0.05", "true", "0.1", "glorot", "-"],
        ["0.05", "true", "0.1", "normal", "0.05"],
    ]
    assert any(remark.startswith("b: F1 all 2 rows: the best dropout lies at the upper end") for remark in remarks)
    by_rate, _, _ = side_by_side({"a": evidence([trial(0)]), "b": many}, "lr")
    read = {(row["variant"], row["learning rate"]): row["b: initialisation std"] for row in by_rate}
    assert read["all-cnn-c", "0.1"] == "0.05"
    assert read["model-c", "0.1"] == "-"


def test_beside_generated_images_no_number_of_the_papers_in_any_column() -> None:
    rows, _, remarks = side_by_side({"a": evidence([trial(0)]), "b": evidence([trial(0)], generated=True)})
    assert not any("paper" in heading for heading in rows[0])
    assert not any(remark.startswith(("Paper:", "a: Paper:")) or "Not comparable" in remark for remark in remarks)
    assert "b: The data set cifar10 is generated: its errors say nothing about natural images." in remarks


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_run(str(tmp_path / "first")), make_run(str(tmp_path / "second"))
    assert main(["table", first.location, second.location, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[1]["first: best error %"] == rows[1]["second: best error %"] == "9.20"
    assert main(["table", first.location, second.location]) == 0
    out = capsys.readouterr().out
    assert "**9.20**" in out
    assert "9.40 †" in out
    assert "10.80 †" not in out
    assert "Bold: the lowest error of each data set and augmentation." in out


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(str(tmp_path / "first")).location
    for arguments, said in (
        (["table"], "RUN must be the folder or URI of a run, got none."),
        (["table", run, run], "RUN must name each run once, got"),
        (["table", run, run + "x", "--compare", "model-c"], "RUN must be a single one where variants are compared"),
    ):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
