"""`python -m analysis table | report | figures | reproduction | published | shift | features`."""

import sys
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal

import pyarrow as pa
from cyclopts import Parameter

from analysis.checks import findings
from analysis.comparison import compare as compared
from analysis.files import write_between
from analysis.formats import render
from analysis.published import PAPER
from analysis.reproduction import BEGIN, END, state_of
from analysis.results import By
from analysis.run_data import read_evidence
from analysis.side_by_side import run_names, side_by_side
from analysis.tables import (
    comparison_notes,
    comparison_rows,
    generated_notes,
    marks_of,
    notes,
    published_rows,
    reported_note,
    reported_rows,
    table_rows,
)
from sweep.cli.app import OK, exit_with, new_app, run_app
from sweep.record.store import Store, runs_in

DAMAGED = 1
"""Exit status where what is printed is of a record's good rows alone."""

Format = Literal["markdown", "latex", "csv", "html"]
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]

app = new_app(
    name="python -m analysis", help="Comparison tables from the record of a run, and pictures from its networks."
)


@app.command
def table(*runs: str, format: Format = "markdown", by: By = "variant", compare: str | None = None) -> int:
    """Print a row per variant: its error, at which learning rate, and how its trials ended; findings below it.

    Args:
        runs: the run's folder or URI; several stand side by side, a group of columns for each.
        format: how the table is written; csv leaves out the remarks below it.
        by: one row per variant, or per variant and learning rate or seed.
        compare: a variant; the table then says of every other one whether its error differs significantly from this
            one's.
    """
    if not runs:
        raise ValueError("RUN must be the folder or URI of a run, got none.")
    if compare is not None and by != "variant":
        raise ValueError(f"by must be variant where variants are compared, got {by!r}; leave --by or --compare out.")
    if compare is not None and len(runs) > 1:
        raise ValueError(f"RUN must be a single one where variants are compared, got {len(runs)}; leave --compare out.")
    if len(runs) > 1:
        stores = [Store(run) for run in runs]
        names = run_names([store.location for store in stores])
        evidences = {name: read_evidence(store) for name, store in zip(names, stores, strict=True)}
        rows, beside, remarks = side_by_side(evidences, by)
        damages = [damage for each in evidences.values() for damage in each.damages]
        print(render(rows, [*damages, *remarks], format, beside, names))
        return _said(damages)
    evidence = read_evidence(Store(runs[0]))
    results = evidence.results_by(by)
    rows, remarks = table_rows(results, evidence.document, by), notes(results, evidence.document)
    marks, about = marks_of(results, evidence.document, by)
    if compare is not None:
        comparisons = compared(results, compare)
        rows, remarks = comparison_rows(comparisons), [*comparison_notes(comparisons), *remarks]
        marks, about = {}, []
    if evidence.reported:
        rows, marks, remarks = reported_rows(evidence.reported), {}, [reported_note(evidence)]
    else:
        remarks = [*about, *remarks, *findings(evidence)]
    print(render(rows, [*evidence.damages, *remarks], format, marks))
    return _said(evidence.damages)


@app.command
def report(run: str, /, *, format: Literal["html", "md"] = "html", output: str | None = None) -> int:
    """Write one page on a run that opens from disk: verdict, table, charts, findings, failures, provenance.

    Args:
        run: the run's folder or URI.
        format: html, with charts, or md, Markdown without.
        output: the file; report.html or report.md in the run's folder report by default.
    """
    # matplotlib and Jinja take half a second, which the tables need not wait for.
    from analysis.charts.chart_data import read_series
    from analysis.files import report_file, report_folder, write_file
    from analysis.report import build_report

    store = Store(run)
    # Pictures lie beside the report where it has its usual place.
    folder, name = (report_folder(store, None), f"report.{format}") if output is None else report_file(output)
    series = read_series(store)
    page = build_report(series, PurePosixPath(store.location).name, format, folder if output is None else None)
    print(write_file(folder, name, page.encode()))
    return _said(series.evidence.damages)


@app.command
def figures(run: str, /, *, format: Literal["pdf", "svg", "png"] = "pdf", output: str | None = None) -> int:
    """Draw a run's charts for a paper, 3.25 inches wide: comparison, sensitivity, learning curves, error by size.

    Args:
        run: the run's folder or URI.
        format: of the files.
        output: their folder; the run's folder report/figures by default.
    """
    from analysis.charts.chart_data import read_series
    from analysis.charts.export import PAPER_CHARTS, draw_for_paper
    from analysis.charts.variants import charts
    from analysis.files import report_folder, write_file

    store = Store(run)
    folder = report_folder(store, output, "report/figures")
    series = read_series(store)
    drawn = [chart for chart in charts(series) if chart.name in PAPER_CHARTS]
    if not drawn:
        raise ValueError(f"RUN must have a completed trial for there to be a figure, got {run}, which has none.")
    for chart in drawn:
        print(write_file(folder, f"{chart.name}.{format}", draw_for_paper(chart, format)), flush=True)
    return _said(series.evidence.damages)


@app.command
def published(*, format: Format = "markdown") -> None:
    """Print every error that the paper prints, its own and those that it compares with, and how sure each number is.

    Args:
        format: how the table is written.
    """
    print(render(published_rows(), [f"Source: {PAPER}, through transcriptions of it and papers that cite it."], format))


@app.command
def reproduction(*runs: str, format: Format = "markdown", write: Names = ()) -> int:
    """Print a row per network of the paper: its error, ours, and how ours came about, or "not run".

    Args:
        runs: runs, or folders that hold runs, as folders or URIs; a network's row is the first run's that has it.
        format: how the table is written; csv leaves out the remarks below it.
        write: documents in which the table replaces what stands between its two marks; it is then not printed.
    """
    if write and format != "markdown":
        raise ValueError(f"format must be markdown where the table is written into a document, got {format!r}.")
    stores, remarks = [], []
    for run in runs:
        found = [store] if (store := Store(run)).exists() else runs_in(store)
        stores += found
        remarks += [] if found else [f"No run lies in {run}."]
    names = run_names([store.location for store in stores]) if stores else []
    evidences = {name: read_evidence(store) for name, store in zip(names, stores, strict=True)}
    damages = [damage for evidence in evidences.values() for damage in evidence.damages]
    rows, notes_below = state_of(evidences)
    text = render(rows, [*damages, *notes_below, *remarks], format)
    for document in write:
        write_between(document, BEGIN, END, text)
        print(document)
    if not write:
        print(text)
    return _said(damages)


@app.command
def shift(
    run: str,
    /,
    *,
    data: str | None = None,
    variants: Names = (),
    max_shift: int = 8,
    images: int = 1000,
    format: Format = "markdown",
    output: str | None = None,
) -> int:
    """Print how many answers of each variant's best network stay when the image is shifted; draw it as a chart.

    Args:
        run: the run's folder or URI.
        data: where the images lie, if not where the run read them.
        variants: the variants to measure; all by default.
        max_shift: largest shift, px.
        images: test images to measure with.
        format: how the table is written; csv leaves out the remarks below it.
        output: folder for shift.png and shift.csv; the run's folder report by default.
    """
    # torch and matplotlib take seconds, which the tables above need not wait for.
    from analysis.files import report_folder, write_file
    from analysis.networks.opened import load_images, load_subjects
    from analysis.networks.shift import REMARKS, check_max_shift, draw_shift, measure, shift_csv, shift_table

    store = Store(run)
    folder = report_folder(store, output)
    check_max_shift(max_shift)
    rows = [
        row
        for subject in load_subjects(store, variants)
        for row in measure(subject, load_images(subject, data, images), max_shift)
    ]
    written = [write_file(folder, "shift.png", draw_shift(rows)), write_file(folder, "shift.csv", shift_csv(rows))]
    remarks = [f"{rows[0].images:,} test images.", *REMARKS, *generated_notes(store.read_run())]
    remarks.append(f"Written: {', '.join(map(str, written))}.")
    damages = read_evidence(store).damages
    print(render(shift_table(rows), [*damages, *remarks], format))
    return _said(damages)


@app.command
def features(
    run: str,
    /,
    *,
    variant: Names = (),
    layer: Names = (),
    method: Literal["guided", "deconvnet", "plain"] = "guided",
    without_image: Annotated[bool, Parameter(negative=())] = False,
    filters: int | None = None,
    patches: int = 10,
    images: int = 2000,
    data: str | None = None,
    output: str | None = None,
) -> int:
    """Draw what the filters of each variant's best network respond to; print a line per file.

    Args:
        run: the run's folder or URI.
        variant: the variants to look into; all by default.
        layer: conv1, conv2 and so on; by default a low one, a middle one and the last but the class layer.
        method: the rule by which a ReLU passes the signal down.
        without_image: deconvnet from a lone unit, without an image, for layers below every pool; by default the first
            three.
        filters: how many of a layer's, its first ones; by default 8, without an image 24.
        patches: how many images per filter.
        images: test images to search.
        data: where the images lie, if not where the run read them.
        output: folder for the pictures; the run's folder report/features by default.
    """
    from analysis.files import report_folder, write_file
    from analysis.networks.features import draw_features
    from analysis.networks.opened import check_counts, load_subjects

    store = Store(run)
    folder = report_folder(store, output, "report/features")
    check_counts(filters=filters, patches=patches, images=images)
    pages = draw_features(
        load_subjects(store, variant),
        layers=layer,
        method=method,
        without_image=without_image,
        filters=filters,
        patches=patches,
        images=images,
        data=data,
    )
    for name, page in pages:
        print(write_file(folder, name, page), flush=True)
    return _said(read_evidence(store).damages)


def _said(damages: Sequence[str]) -> int:
    """Say what is damaged where csv and a list of files have no room for it, and return the exit status."""
    for damage in damages:
        print(f"damaged: {damage}", file=sys.stderr)
    return DAMAGED if damages else OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    That is 0, 1 where a record is damaged, 2 for bad input, 130 after Ctrl-C.
    """
    # A record is read once, by one thread: Arrow's own pool gains nothing by keeping what it has freed, and takes its
    # pages from the system anew, which made a quarter of the time of a large table.
    pa.set_memory_pool(pa.system_memory_pool())
    return run_app(app, arguments)


if __name__ == "__main__":
    exit_with(main)
