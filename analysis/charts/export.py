"""Files of a run's charts for a paper, and the settings that a paper and the report draw with."""

import io
from collections.abc import Mapping
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.charts.canvas import INK, MUTED, Canvas, Chart
from sweep.cli.garbage import collector_off

FigureFormat = Literal["pdf", "svg", "png"]

COLUMN_INCHES = 3.25
"""A column of a two-column page."""

PAPER_CHARTS = ("comparison", "sensitivity", "learning-curves", "error-parameters")

_DPI = 300

_COMMON: dict[Any, Any] = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.6,
    # The same numbers give the same file.
    "svg.hashsalt": "all-cnn-sweep",
}

_PAPER: dict[Any, Any] = {
    "font.size": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    # TrueType: journals refuse matplotlib's usual type 3, whose text cannot be edited either.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}

_SCREEN: dict[Any, Any] = {"font.size": 9, "axes.linewidth": 0.6, "svg.fonttype": "none"}

# No date and no version of matplotlib, with which the same numbers would give other files.
_METADATA: Mapping[str, Mapping[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


@collector_off()
def draw_for_paper(chart: Chart, form: FigureFormat) -> bytes:
    """Return a chart as a file of a column's width, its text 7 to 8 pt."""
    with rc_context({**_COMMON, **_PAPER}):
        canvas = Canvas(figure=_figure(COLUMN_INCHES, chart.height(2)), columns=2)
        chart.draw(canvas)
        return _saved(canvas, form)


@collector_off()
def draw_for_screen(chart: Chart, width: float) -> tuple[str, dict[str, str]]:
    """Return a chart as SVG with text as text, and by the id of each thing on it what it tells.

    Args:
        chart: what to draw.
        width: inches.
    """
    with rc_context({**_COMMON, **_SCREEN}):
        canvas = Canvas(figure=_figure(width, chart.height(3)), columns=3)
        chart.draw(canvas)
        # The page's own background, light or dark, shows through.
        return _saved(canvas, "svg", transparent=True).decode(), canvas.tips


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _saved(canvas: Canvas, form: FigureFormat, transparent: bool = False) -> bytes:
    out = io.BytesIO()
    canvas.figure.savefig(out, format=form, dpi=_DPI, metadata=dict(_METADATA[form]), transparent=transparent)
    return out.getvalue()
