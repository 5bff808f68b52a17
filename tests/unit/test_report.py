import gc
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.charts.canvas import Canvas, Chart
from analysis.charts.export import draw_for_paper, draw_for_screen
from analysis.networks.pictures import Tile, draw_page
from analysis.report.svg import VARIABLES
from sweep.record.params import write_params
from sweep.record.store import Store
from tests.reported import SCRIPT, make_run, make_run_of_many_kinds, trial
from tests.standings import execution


class Page(HTMLParser):
    """What a browser would make of a page: its tables, text and tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._caption, self._in = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "caption":
            self._caption, self._in = "", "caption"
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._caption][-1].append("")
            self._in = "cell"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("caption", "td", "th"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in == "caption":
            self._caption += data
        elif self._in == "cell":
            self.tables[self._caption][-1][-1] += data


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return make_run(str(tmp_path / "runs" / "first"))


def report(run: Store, *arguments: str) -> str:
    assert main(["report", run.location, *arguments]) == 0
    form = arguments[arguments.index("--format") + 1] if "--format" in arguments else "html"
    return (Path(run.location) / "report" / f"report.{form}").read_text()


def test_the_reports_numbers_are_the_tables(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(report(run))
    capsys.readouterr()
    assert main(["table", run.location, "--format", "csv"]) == 0
    head, *rows = (line.split(",") for line in capsys.readouterr().out.splitlines())
    shown = [[cell.replace(",", "").removesuffix("†") for cell in row] for row in page.tables["A row per variant"]]
    assert shown == [head, *rows]
    # The chart's own table, too.
    (numbers,) = (table for name, table in page.tables.items() if name == "Test error of each variant")
    assert [row[1] for row in numbers[1:]] == [row[1] for row in shown[1:]] == ["10.80", "9.20", "9.40"]


def test_what_a_report_says(run: Store) -> None:
    text = " ".join(Page(report(run)).text.split())
    for said in (
        "On cifar10, all-cnn-c has the lowest test error, 9.20 % ± 0.66 (3 seeds)",
        "F6 the run: uncommitted changes on top of c0ffee",
        "python -m sweep.run cifar10 --name 'a b'",
        "commit c0ffee, altered since",
        "torch 2.14.1",
        "2 CPUs, 0 GPUs; x86_64, linux",
        "50,000 training images, 10,000 test images; checksum 0123abcd",
        # Twelve trials of 360 s.
        "1.20 (durations of all trials x 1 CPU of each)",
        "Springenberg et al. 2015",
    ):
        assert said in text


def test_failures_stand_with_their_reasons_and_stopped_trials_with_what_was_saved(run: Store) -> None:
    page = Page(report(run))
    failures = page.tables["Trials that diverged or failed, with the reason"]
    assert [row[-1] for row in failures[1:]] == ["the loss became NaN", f"RuntimeError: {SCRIPT} & more"]
    stopped = page.tables["Whom early stopping stopped, and what it saved"]
    assert stopped[1] == ["model-c", "6", "1", "36", "6", "10", "0.01 (1)"]
    assert stopped[2][-1] == "-"


def test_what_there_is_nothing_of_has_no_section(tmp_path: Path) -> None:
    store = make_run(str(tmp_path / "run"))
    store.write_trials([trial(0), trial(1, variant="all-cnn-c", test_error=0.09)])
    tags = Page(report(store)).tags
    names = {attributes.get("id") for tag, attributes in tags if tag == "section"}
    assert not names & {"failures", "early-stopping", "pictures", "parallel-coordinates", "sensitivity"}
    assert {"comparison", "trials", "provenance", "learning-curves"} <= names


def test_parallel_coordinates_come_with_a_second_dimension(run: Store) -> None:
    assert "parallel-coordinates" not in report(run)
    rows = [row | {"params": write_params({"lr": row["lr"], "weight_decay": 0.001})} for row in run.trial_rows()]
    other = rows[0] | {"params": write_params({"lr": 0.05, "weight_decay": 0.01}), "trial_id": "z", "epochs_run": 0}
    run.write_trials([other, *rows])
    assert 'id="parallel-coordinates"' in report(run)


def test_a_report_of_every_kind_of_hyperparameter(tmp_path: Path) -> None:
    store = make_run_of_many_kinds(str(tmp_path / "run"))
    page = Page(report(store))
    searched = ["learning rate", "class relu", "dropout", "initialisation", "initialisation std"]
    head, *rows = page.tables["A row per variant"]
    assert head[2:7] == searched
    assert [row[2:7] for row in rows] == [
        ["0.05", "true", "0.1", "glorot", "-"],
        ["0.05", "true", "0.1", "normal", "0.05"],
    ]
    head, *rows = page.tables["A row per trial"]
    first = head.index("learning rate")
    assert head[first : first + 5] == searched
    assert {len(row) for row in rows} == {len(head)}
    # Each trial's values stand under their own headings, also where one has fewer.
    shown = [tuple(row[first : first + 5]) for row in rows]
    assert shown.count(("0.1", "false", "0", "he", "-")) == shown.count(("0.1", "true", "0.1", "normal", "0.01")) == 2
    head, only = page.tables["Trials that diverged or failed, with the reason"]
    read = dict(zip(head, only, strict=True))
    assert [read[name] for name in searched] == ["0.05", "true", "0", "he", "-"]
    assert 'id="parallel-coordinates"' in report(store)
    assert "| initialisation std |" in " ".join(report(store, "--format", "md").split())


def test_a_run_without_trials_has_a_report(run: Store) -> None:
    run.write_trials([])
    shutil.rmtree(Path(run.location) / "epochs")
    assert "No variant has a test error yet." in report(run)
    assert "No variant has a test error yet." in report(run, "--format", "md")


def strange(run: Store) -> Store:
    document = run.read_run()
    began = document.executions[0]
    odd_start = replace(
        began,
        command=(*began.command, SCRIPT),
        code=replace(began.code, commit=SCRIPT),
        packages={**began.packages, SCRIPT: SCRIPT},
    )
    run.write_run(
        replace(
            document,
            study=replace(document.study, variants=(*document.study.variants, SCRIPT)),
            executions=(odd_start,),
            data={**document.data, SCRIPT: document.data["cifar10"]},
        )
    )
    rows = run.read_trials().to_pylist()
    odd = {"variant": SCRIPT, "reason": SCRIPT, "node": SCRIPT, "device": SCRIPT, "precision": SCRIPT}
    odd["params"] = write_params({"lr": 0.05, "dropout": SCRIPT, SCRIPT: SCRIPT})
    run.write_trials(
        [
            *rows,
            rows[0] | odd | {"trial_id": "x", "epochs_run": 0},
            rows[0] | odd | {"trial_id": "y", "state": "failed", "epochs_run": 0},
        ]
    )
    return run


def test_nothing_of_the_record_becomes_a_tag(run: Store) -> None:
    page = Page(report(strange(run)))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.text.count("run by a name") > 5
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_nothing_of_the_record_becomes_a_tag_in_markdown(run: Store) -> None:
    text = report(strange(run), "--format", "md")
    assert "run by a name" in text
    assert "<img" not in text


def test_the_page_asks_for_nothing(run: Store) -> None:
    for tag, attributes in Page(report(run)).tags:
        source = attributes.get("src") or attributes.get("href") or ""
        assert source == "" or source.startswith(("#", "data:image/png;base64,")), tag
        assert "url(http" not in (attributes.get("style") or "")
    assert "@import" not in report(run)


def test_charts_are_pictures_with_names_and_ids_of_their_own(run: Store) -> None:
    page = Page(report(run))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert {picture["role"] for picture in pictures} == {"img"}
    assert [picture["aria-label"] for picture in pictures][:2] == [
        "Test error of each variant",
        "Test error against parameters",
    ]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len({*ids})
    used = re.findall(r"(?:url\(|href=\")#([\w-]+)", report(run))
    assert {*used} - {"main"} <= {*ids}


def test_the_same_record_gives_the_same_page(run: Store) -> None:
    assert report(run) == report(run)


def test_pictures_of_other_commands_come_in_and_too_many_are_linked(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(run.location) / "report"
    (folder / "features").mkdir(parents=True)
    png = draw_page("a title", [Tile(x=0, y=0, picture=np.zeros((2, 2, 3)))], [])
    (folder / "shift.png").write_bytes(png)
    (folder / "features" / "a b.png").write_bytes(png)
    (folder / "secret.png").symlink_to("/etc/hostname")
    page = Page(report(run))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    monkeypatch.setattr("analysis.report.build.PICTURE_BYTES", len(png))
    page = Page(report(run))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    assert "shift.png" in [attributes.get("href") for tag, attributes in page.tags if tag == "a"]
    assert "features/a%20b.png" in report(run, "--format", "md")
    # Elsewhere the pictures are not beside it.
    assert main(["report", run.location, "--output", str(folder.parent / "else.html")]) == 0
    assert "<img" not in (folder.parent / "else.html").read_text()


def test_gpu_hours_count_the_gpus_of_a_trial(run: Store) -> None:
    rows = run.read_trials().to_pylist()
    run.write_trials([row | {"device": "NVIDIA A100"} for row in rows])
    document = run.read_run()
    run.write_run(replace(document, placement=replace(document.placement, gpus_per_trial=0.25)))
    assert "GPU-hours" in report(run)
    assert "0.30 (durations of all trials x 0.25 GPUs of each)" in report(run)
    run.write_run(replace(document, workers=4))
    assert "4.80 (durations of all trials x 4 GPUs of each)" in report(run)


def test_how_gpus_were_shared_is_told_for_each_execution_that_shared_them(run: Store) -> None:
    assert "GPUs shared by" not in report(run, "--format", "md")
    sharing = (execution(gpu_sharing="time-slicing"), execution(gpu_sharing="mps"), execution())
    run.write_run(replace(run.read_run(), executions=sharing))
    lines = [line for line in report(run, "--format", "md").splitlines() if "GPUs shared by" in line]
    assert lines == ["- GPUs shared by: time-slicing", "- resumed 1: GPUs shared by: mps"]


def test_the_file_is_where_it_was_asked_for(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "page.html"
    assert main(["report", run.location, "--output", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    assert file.read_text().startswith("<!doctype html>")
    assert main(["report", run.location]) == 0
    assert capsys.readouterr().out.strip() == str(Path(run.location) / "report" / "report.html")


def test_bad_input(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (["report", str(tmp_path / "none")], "A run's folder must exist and hold study.json"),
        (["report", run.location, "--output", str(tmp_path)], "output must be a file, got"),
        (["report", run.location, "--output", "s3://bucket/page.html"], "output must be a local file, got"),
        (["report", run.location, "--output", str(tmp_path / "file" / "page.html")], "output must be a folder that"),
        (["report", run.location, "--format", "docx"], "docx"),
        (["figures", str(tmp_path / "none")], "A run's folder must exist and hold study.json"),
        (["figures", run.location, "--output", str(tmp_path / "file")], "output must be a folder that"),
    ):
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line


def test_figures_for_a_paper(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(run.location) / "report" / "figures"
    assert main(["figures", run.location]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    names = ["comparison", "error-parameters", "sensitivity", "learning-curves"]
    assert sorted(written) == sorted(folder / f"{name}.pdf" for name in names)
    for file in written:
        data = file.read_bytes()
        # 3.25 inches are 234 points; TrueType, not type 3.
        assert re.search(rb"/MediaBox \[ 0 0 234 ", data)
        assert b"/Type3" not in data
    before = {file: file.read_bytes() for file in written}
    assert main(["figures", run.location]) == 0
    assert {file: file.read_bytes() for file in written} == before


def test_garbage_is_collected_again_after_a_chart() -> None:
    seen = []

    def draw(canvas: Canvas) -> None:
        seen.append(gc.isenabled())
        raise ValueError("nothing to draw")

    chart = Chart(name="none", title="None", text="", height=lambda _: 1.0, draw=draw)
    for drawn in (lambda: draw_for_screen(chart, 1.0), lambda: draw_for_paper(chart, "svg")):
        with pytest.raises(ValueError, match="nothing to draw"):
            drawn()
        assert gc.isenabled()
    assert seen == [False, False]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figures_in_other_formats(run: Store, tmp_path: Path, form: str) -> None:
    assert main(["figures", run.location, "--format", form, "--output", str(tmp_path / "out")]) == 0
    file = tmp_path / "out" / f"comparison.{form}"
    if form == "svg":
        root = ET.fromstring(file.read_text())  # noqa: S314
        assert root.attrib["width"] == "234pt"
    else:
        from PIL import Image

        with Image.open(file) as picture:
            assert picture.width == 3.25 * 300


def test_a_run_without_an_error_has_no_figure(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run.write_trials([])
    assert main(["figures", run.location]) == 2
    assert "RUN must have a completed trial" in capsys.readouterr().err


def test_the_command_line_loads_no_drawing_for_a_table(run: Store) -> None:
    code = (
        "import sys, json; from analysis.__main__ import main; main(['table', sys.argv[1]]);"
        "print(json.dumps(sorted({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run.location], capture_output=True, text=True, check=True, env=os.environ
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_templates_are_package_data() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[2]
    tools: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "analysis.report" in tools["packages"]
    assert tools["package-data"]["analysis.report"] == ["templates/*"]


def test_the_style_has_a_value_for_each_colour_of_the_charts() -> None:
    style = files("analysis.report").joinpath("templates", "style.css").read_text("utf-8")
    assert {f"{variable}:" for variable in VARIABLES.values()} <= {*re.findall(r"--[\w-]+:", style)}
