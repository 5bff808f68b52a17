"""The report's page, as HTML or Markdown."""

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.charts.chart_data import Series
from analysis.charts.export import draw_for_screen
from analysis.charts.variants import charts
from analysis.formats import TIE, Mark, Row, for_markdown, is_number, is_text, render
from analysis.report.content import Content, content_of
from analysis.report.svg import VARIABLES, themed

REPORT_FORMATS: tuple[str, ...] = ("html", "md")

WIDTH_INCHES = 9.4
"""Of a chart on the page, before it is fitted to the window."""

PICTURE_BYTES = 2_500_000
"""Of all pictures within the page together, so that it stays below 6 MB; further ones are linked."""


LONG = 50
"""Characters of a cell that take more than a line."""


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that another command made of the run's networks."""

    name: str
    source: Markup
    """A `data:` URI, or an empty text where it is linked only."""
    link: str


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A chart on the page."""

    name: str
    title: str
    text: str
    svg: Markup
    numbers: Sequence[Row]


def build_report(series: Series, name: str, form: str = "html", pictures: Path | None = None) -> str:
    """Return the report of a run.

    Args:
        series: the run's record.
        name: the run's.
        form: one of `REPORT_FORMATS`.
        pictures: the folder in which `shift` and `features` leave theirs, and the report comes to lie; None where the
            report lies elsewhere.

    Raises:
        ValueError: the format is none of these.
    """
    if form not in REPORT_FORMATS:
        raise ValueError(f"format must be one of {', '.join(REPORT_FORMATS)}, got {form!r}.")
    content = content_of(series, name)
    found = _pictures(pictures) if pictures else []
    if form == "md":
        return (
            _environment(False)
            .get_template("report.md")
            .render(
                content=content,
                table=lambda rows: render(rows, [], "markdown"),
                comparison=render(content.rows, [], "markdown", content.marks),
                pictures=found,
            )
        )
    environment = _environment(True)
    script = _asset(environment, "script.js")
    return environment.get_template("report.html").render(
        content=content,
        charts=_drawn(series, content),
        pictures=found,
        style=_asset(environment, "style.css"),
        script=script,
        # Nothing but this script may run, and nothing may be fetched, whatever a name in the record holds.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{_digest(script)}'",
        table=sortable,
    )


def sortable(rows: Sequence[Row], caption: str, marks: Mapping[tuple[int, str], Mark] | None = None) -> Markup:
    """Return a table whose headings are buttons that sort it; numbers sort as numbers, missing ones last.

    Args:
        rows: all with the same columns.
        caption: what it shows, for those who come to it by itself.
        marks: what stands out.
    """
    marks = marks or {}
    headings = list(rows[0]) if rows else []
    kinds = {heading: _kind(rows, heading) for heading in headings}
    out = [f"<table class='sortable'><caption>{html.escape(caption)}</caption><thead><tr>"]
    for heading in headings:
        kind = kinds[heading]
        out.append(
            f"<th scope='col' class='{kind}'><button type='button'>{html.escape(heading)}"
            "<span aria-hidden='true'></span></button></th>"
        )
    out.append("</tr></thead><tbody>")
    for place, row in enumerate(rows):
        out.append("<tr>")
        for column, (heading, value) in enumerate(row.items()):
            tag, scope = ("th", " scope='row'") if column == 0 else ("td", "")
            style = "" if kinds[heading] == "number" or column == 0 else f" class='{kinds[heading]}'"
            out.append(f"<{tag}{scope}{style}>{_cell(value, marks.get((place, heading)))}</{tag}>")
        out.append("</tr>")
    out.append("</tbody></table>")
    return Markup("".join(out))  # noqa: S704 - all that came from the record is escaped above


def _cell(value: str, mark: Mark | None) -> str:
    text = html.escape(value)
    return {"best": f"<strong>{text}</strong>", "tie": f"{text}<sup>{TIE}</sup>", None: text}[mark]


def _kind(rows: Sequence[Row], heading: str) -> str:
    """Return `number`, `text`, or `text long` where a sentence must be broken into lines."""
    if not is_text(heading) and all(is_number(row[heading]) for row in rows):
        return "number"
    return "text long" if max(len(row[heading]) for row in rows) > LONG else "text"


def _drawn(series: Series, content: Content) -> list[Drawn]:
    found = []
    for chart in charts(series):
        svg, tips = draw_for_screen(chart, WIDTH_INCHES)
        found.append(
            Drawn(
                name=chart.name,
                title=chart.title,
                text=chart.text,
                # ElementTree has escaped what is in it.
                svg=Markup(themed(svg, tips, chart.name, chart.title)),  # noqa: S704
                numbers=content.numbers.get(chart.name, ()),
            )
        )
    return found


def _pictures(folder: Path) -> list[Picture]:
    """Return the pictures in a report's folder, within the page as long as there is room."""
    room, found = PICTURE_BYTES, []
    for file in sorted(_png_files(folder)):
        size = file.stat().st_size
        inside = size <= room
        room -= size if inside else 0
        data = base64.b64encode(file.read_bytes()).decode() if inside else ""
        path = file.relative_to(folder).as_posix()
        source = Markup(f"data:image/png;base64,{data}") if data else Markup("")  # noqa: S704 - base 64 has no markup
        found.append(Picture(name=path, source=source, link=quote(path)))
    return found


def _png_files(folder: Path) -> Iterable[Path]:
    for pattern in ("*.png", "features/*.png"):
        # A link may lead out of the run.
        yield from (file for file in folder.glob(pattern) if file.is_file() and not file.is_symlink())


def _environment(is_html: bool) -> Environment:
    loader = PackageLoader("analysis.report", "templates")
    made = Environment(loader=loader, autoescape=is_html, undefined=StrictUndefined, trim_blocks=True)  # noqa: S701
    made.filters["plain"] = for_markdown
    return made


def _asset(environment: Environment, name: str) -> Markup:
    loader: Any = environment.loader
    text, _, _ = loader.get_source(environment, name)
    if name.endswith(".css"):
        missing = [variable for variable in VARIABLES.values() if f"{variable}:" not in text]
        assert not missing, f"the style has a value for each of the charts' colours, but not for {missing}"
    return Markup(text)  # noqa: S704 - our own file


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
