import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from analysis import render
from analysis.formats import Mark
from tests.reported import SCRIPT

ROWS = [{"variant": "model-c", "error %": "9.74"}, {"variant": "all-cnn-c", "error %": "9.08"}]
MARKS: dict[tuple[int, str], Mark] = {(1, "error %"): "best", (0, "error %"): "tie"}


@pytest.mark.parametrize(
    ("form", "best", "tie"),
    [
        ("markdown", "**9.08**", "9.74 †"),
        ("latex", r"\textbf{9.08}", r"9.74$^{\dagger}$"),
        ("html", "<strong>9.08</strong>", "9.74<sup>†</sup>"),
    ],
)
def test_the_best_is_bold_and_a_tie_has_a_dagger(form: str, best: str, tie: str) -> None:
    text = render(ROWS, [], form, MARKS)
    assert best in text
    assert tie in text
    plain = render(ROWS, [], form)
    assert best not in plain
    assert tie not in plain


def test_csv_holds_numbers_alone() -> None:
    assert render(ROWS, ["a remark"], "csv", MARKS) == "variant,error %\nmodel-c,9.74\nall-cnn-c,9.08"


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_name_cannot_become_a_tag(form: str) -> None:
    text = render([{"variant": SCRIPT, "error %": "1"}], [], form, {(0, "variant"): "best"})
    assert "<img" not in text
    assert "&lt;img" in text


def test_a_name_cannot_end_a_cell_or_begin_what_stands_out() -> None:
    assert "a\\|b" in render([{"variant": "a|b"}], [], "markdown")
    assert "<strong>" not in render([{"variant": "\ue000a"}], [], "html")
    assert r"a\_b\&c" in render([{"variant": "a_b&c"}], [], "latex")


GROUPED = [{"variant": "model-c", "first_run: error %": "9.74", "first_run: seeds": "3", "b: error %": "9.08"}]


def test_columns_of_a_group_stand_below_its_name() -> None:
    groups = ["first_run", "b"]
    latex = render(GROUPED, [], "latex", {(0, "b: error %"): "best"}, groups)
    assert r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{first\_run} & \multicolumn{1}{c}{b} \\" in latex
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in latex
    assert "first_run:" not in latex
    table = ET.fromstring(render(GROUPED, [], "html", {}, groups))  # noqa: S314
    head = table.find("thead")
    assert head is not None
    rows = [[(cell.text or "", cell.get("colspan")) for cell in row] for row in head]
    assert rows[0] == [("", "1"), ("first_run", "2"), ("b", "1")]
    assert len(rows[1]) == 4
    assert "first_run: error %" in render(GROUPED, [], "csv", {}, groups)


def test_latex_is_what_latex_takes(tmp_path: Path) -> None:
    pdflatex = shutil.which("pdflatex")
    if not pdflatex:
        pytest.skip("needs LaTeX: apt-get install texlive-latex-base texlive-latex-recommended")
    odd = [{"variant": r"a_b & 5% $x$ \end {c} #~^ <d>", "± 95 %": "1", "error %": "2"}]
    tables = [
        render(odd, ["a remark\nof two lines %"], "latex", {(0, "error %"): "best", (0, "± 95 %"): "tie"}),
        render(GROUPED, [], "latex", {}, ["first_run", "b"]),
    ]
    body = "\n\n".join(tables)
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "table.tex").write_text(source)
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
