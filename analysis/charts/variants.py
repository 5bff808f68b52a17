"""Charts of a run, drawn by matplotlib on a figure that the caller makes: the report's and a paper's are the same."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from analysis.charts.canvas import (
    ACCENT,
    INK,
    PLAIN,
    Canvas,
    Chart,
    describe,
    draw_grid,
    handle,
    legend_below,
    style,
)
from analysis.charts.chart_data import Bar, Panel, Series
from analysis.charts.trials import curves_chart, early_stopping_chart, parallel_chart
from analysis.formats import counted


def charts(series: Series) -> list[Chart]:
    """Return the charts that a run has something for, in the order in which they are read."""
    return [
        chart
        for chart in (
            _comparison(series),
            _against(series, "parameters", "parameters", "parameters"),
            _against(series, "images_per_s", "speed", "training images per second"),
            _sensitivity(series),
            curves_chart(series),
            early_stopping_chart(series),
            parallel_chart(series),
        )
        if chart is not None
    ]


def _comparison(series: Series) -> Chart | None:
    bars = series.bars
    if not bars:
        return None
    papers = any(bar.paper is not None for bar in bars)

    def draw(canvas: Canvas) -> None:
        axes = canvas.figure.add_subplot()
        for place, bar in enumerate(bars):
            colour = ACCENT if bar.best else PLAIN
            (point,) = axes.plot([100 * bar.error], [place], "o", color=colour, markersize=5, zorder=3)
            canvas.tip(point, _bar_tip(bar))
            if bar.half_width is not None:
                axes.plot(_interval(bar), [place, place], "-", color=colour, linewidth=1.5)
            if bar.paper is not None:
                (diamond,) = axes.plot(
                    [100 * bar.paper], [place], "D", color=INK, markerfacecolor="none", markersize=5, zorder=3
                )
                canvas.tip(diamond, f"{bar.label} in the paper: {100 * bar.paper:.2f} %")
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(*_percent_limits(bars))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("test error, %")
        draw_grid(axes, "x")
        if papers:
            theirs = "the paper, with other settings" if series.other_settings else "the paper"
            legend_below(canvas, [handle(PLAIN, "o", "this run"), handle(INK, "D", theirs, hollow=True)])

    return Chart(
        name="comparison",
        title="Test error of each variant",
        text="A dot is the mean test error of a variant's chosen configuration, its line the 95 % interval of the mean "
        "over the seeds, cut off at 0 and 100 %; without a line there was one seed. The lowest is in orange."
        + (" An open diamond is the paper's number." if papers else "")
        + (f" Its settings were others: {', '.join(series.other_settings)}." if series.other_settings else ""),
        height=lambda _: (1.0 if papers else 0.75) + 0.24 * len(bars),
        draw=draw,
    )


def _against(series: Series, attribute: str, name: str, unit: str) -> Chart | None:
    bars = [(place, bar, x) for place, bar in enumerate(series.bars) if (x := getattr(bar, attribute)) is not None]
    spread = [x for _, _, x in bars]
    if len({*spread}) < 2:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.figure.add_subplot()
        handles: list[Line2D] = []
        taken: Counter[float] = Counter()
        for place, bar, x in bars:
            colour, marker = style(place)
            # Variants of one size stand side by side, so that no interval hides another.
            aside = ScaledTranslation(5 * taken[x] / 72, 0, canvas.figure.dpi_scale_trans)
            where, taken[x] = axes.transData + aside, taken[x] + 1
            (point,) = axes.plot([x], [100 * bar.error], marker, color=colour, markersize=5, zorder=3, transform=where)
            canvas.tip(point, f"{_bar_tip(bar)}; {x:,.0f} {unit}")
            if bar.half_width is not None:
                axes.plot([x, x], _interval(bar), "-", color=colour, linewidth=1, transform=where)
            handles.append(handle(colour, marker, bar.label))
        # Artists with a transform of their own do not widen the axes.
        room = 0.08 * (max(spread) - min(spread))
        axes.set_xlim(min(spread) - room, max(spread) + 1.5 * room)
        axes.set_ylim(*_percent_limits([bar for _, bar, _ in bars]))
        axes.set_ylabel("test error, %")
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        draw_grid(axes, "both")
        legend_below(canvas, handles)

    return Chart(
        name=f"error-{name}",
        title=f"Test error against {unit}",
        text="Mean test error with its 95 % interval over the seeds"
        + (
            "; the speed is the median over the variant's completed trials, and depends on what else the machine did."
            if name == "speed"
            else "."
        ),
        height=lambda _: 2.6 + 0.17 * math.ceil(len(bars) / 3),
        draw=draw,
    )


def rate_points(series: Series, panel: Panel) -> list[tuple[float, float, int]]:
    """Return rate, lowest error and how many trials were completed there, by rate, of one cell.

    The error is the lowest over the configurations at that rate of the mean over their seeds, as a choice sees it.
    """
    groups: dict[float, dict[str, list[float]]] = {}
    for trial in panel.trials:
        error = series.error_of(trial)
        if trial["state"] == "completed" and error is not None:
            groups.setdefault(trial["lr"], {}).setdefault(trial["params"], []).append(error)
    return [
        (rate, min(statistics.fmean(errors) for errors in by.values()), sum(len(errors) for errors in by.values()))
        for rate, by in sorted(groups.items())
    ]


def _sensitivity(series: Series) -> Chart | None:
    panels = [(place, panel) for place, panel in enumerate(series.panels) if panel.trials]
    if "lr" not in series.searched_dimensions or not any(rate_points(series, panel) for _, panel in panels):
        return None
    spaces = [series.study.space_of(variant) for variant in series.study.variants]
    listed = all("lr" not in space or space["lr"].listed() is not None for space in spaces)

    def draw(canvas: Canvas) -> None:
        axes = canvas.figure.add_subplot()
        handles = []
        for place, panel in panels:
            colour, marker = style(place)
            points = rate_points(series, panel)
            rates, errors = [rate for rate, _, _ in points], [100 * error for _, error, _ in points]
            if listed:  # between values that were drawn there may be others of other configurations
                axes.plot(rates, errors, "-", color=colour, linewidth=1)
            for rate, error, count in points:
                (dot,) = axes.plot([rate], [100 * error], marker, color=colour, markersize=4)
                at = f"{panel.label} at learning rate {rate:g}"
                canvas.tip(dot, f"{at}: {100 * error:.2f} % ({counted(count, 'trial')})")
            lost = [trial for trial in panel.trials if trial["state"] in ("diverged", "failed")]
            for trial in lost:
                # Above the axes' upper edge: there is no error to place it by.
                shift = 1.03 + 0.02 * (place % 3)
                (cross,) = axes.plot(
                    [trial["lr"]], [shift], "x", color=colour, markersize=4, transform=axes.get_xaxis_transform()
                )
                cross.set_clip_on(False)
                canvas.tip(cross, describe(trial, None))
            handles.append(handle(colour, marker, panel.label))
        axes.set_xscale("log")
        _plain_rates(axes, sorted({trial["lr"] for _, panel in panels for trial in panel.trials}) if listed else None)
        axes.set_xlabel("learning rate")
        axes.set_ylabel(f"{series.criterion}, %")
        draw_grid(axes, "both")
        legend_below(canvas, handles)

    return Chart(
        name="sensitivity",
        title="Sensitivity to the learning rate",
        text=f"The {series.criterion} after the last epoch of completed trials at each learning rate: the mean over "
        "seeds, the lowest of other hyperparameters that were searched. A cross above the frame is a trial that "
        "diverged or failed.",
        height=lambda _: 2.7 + 0.17 * math.ceil(len(panels) / 3),
        draw=draw,
    )


def _bar_tip(bar: Bar) -> str:
    interval = "" if bar.half_width is None else f" ± {100 * bar.half_width:.2f}"
    return f"{bar.label}: {100 * bar.error:.2f} %{interval}, {counted(bar.seeds, 'seed')}"


def _interval(bar: Bar) -> tuple[float, float]:
    """Return the ends of a bar's interval, %, its error twice where it has none."""
    return 100 * (bar.error - (bar.half_width or 0)), 100 * (bar.error + (bar.half_width or 0))


def _percent_limits(bars: Sequence[Bar]) -> tuple[float, float]:
    """Return limits of an axis of errors, %, that hold every interval as far as there are such errors."""
    shown = [end for bar in bars for end in _interval(bar)]
    shown += [100 * bar.paper for bar in bars if bar.paper is not None]
    low, high = max(0.0, min(shown)), min(100.0, max(shown))
    room = 0.05 * (high - low) or 1.0
    return max(0.0, low - room), min(100.0, high + room)


def _plain_rates(axes: Axes, rates: Sequence[float] | None) -> None:
    """Write learning rates as people do, 0.05, where listed ones were searched at these themselves."""
    if rates is not None and len(rates) <= 8:
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _thousands(value: float, _: int | None) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
