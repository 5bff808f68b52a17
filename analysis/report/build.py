"""The report's page, as HTML or Markdown."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from analysis.charts.chart_data import Series
from analysis.charts.export import draw_for_screen
from analysis.charts.variants import charts
from analysis.formats import TIE, Row, for_markdown, is_number, is_text, render
from analysis.report.content import content_of
from analysis.report.svg import themed

WIDTH_INCHES = 9.4
"""Of a chart on the page, before it is fitted to the window."""

PICTURE_BYTES = 2_500_000
"""Of all pictures within the page together, so that it stays below 6 MB; further ones are linked."""

LONG = 50
"""Characters of a cell that take more than a line."""


def build_report(series: Series, name: str, form: str = "html", pictures: Path | None = None) -> str:
    """Return the report of a run.

    Args:
        series: the run's record.
        name: the run's.
        form: `html` or `md`.
        pictures: the folder in which `shift` and `features` leave theirs, and the report comes to lie; None where the
            report lies elsewhere.
    """
    environment = Environment(
        loader=PackageLoader("analysis.report", "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["plain"] = for_markdown
    page = environment.get_template(f"report.{form}")
    content = content_of(series, name)
    found = _pictures(pictures) if pictures else []
    if form == "md":
        comparison = render(content.rows, [], "markdown", content.marks)
        return page.render(
            content=content, pictures=found, comparison=comparison, table=lambda rows: render(rows, [], "markdown")
        )
    drawn = [(chart, draw_for_screen(chart, WIDTH_INCHES)) for chart in charts(series)]
    script = _asset("script.js")
    return page.render(
        content=content,
        charts=[chart for chart, _ in drawn],
        # ElementTree has escaped what is in it.
        svgs={chart.name: Markup(themed(*svg, chart.name, chart.title)) for chart, svg in drawn},  # noqa: S704
        pictures=found,
        style=_asset("style.css"),
        script=script,
        # Nothing but this script may run, and nothing may be fetched, whatever a name in the record holds.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}'",
        kinds_of=_kinds_of,
        tie=TIE,
    )


def _kinds_of(rows: Sequence[Row]) -> dict[str, str]:
    """Return for each heading `number`, `text`, or `text long` where a sentence must be broken into lines."""
    kinds = {}
    for heading in rows[0] if rows else ():
        cells = [row[heading] for row in rows]
        is_long = max(map(len, cells)) > LONG
        kinds[heading] = "text long" if is_long else "text"
        if not is_text(heading) and all(map(is_number, cells)):
            kinds[heading] = "number"
    return kinds


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """Return the path of each picture in a report's folder and its `data:` URI, empty where there is no room for it."""
    room, found = PICTURE_BYTES, []
    for file in sorted(_png_files(folder)):
        data = file.read_bytes()
        inside = len(data) <= room
        room -= len(data) if inside else 0
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}" if inside else ""
        found.append((file.relative_to(folder).as_posix(), source))
    return found


def _png_files(folder: Path) -> Iterator[Path]:
    for pattern in ("*.png", "features/*.png"):
        # A link may lead out of the run.
        yield from (file for file in folder.glob(pattern) if file.is_file() and not file.is_symlink())


def _asset(name: str) -> Markup:
    return Markup(files("analysis.report").joinpath("templates", name).read_text("utf-8"))  # noqa: S704 - our own file


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
