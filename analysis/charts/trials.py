"""Charts of a run's trials: learning curves, early stopping, hyperparameters together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.charts.canvas import (
    ACCENT,
    INK,
    MUTED,
    PLAIN,
    WARN,
    Canvas,
    Chart,
    describe,
    draw_grid,
    legend_below,
)
from analysis.charts.chart_data import Line, Panel, Series
from analysis.formats import MISSING, counted
from analysis.tables import headings_of
from search_spaces import Scalar
from search_spaces.dimensions import exact, in_words
from sweep.record.params import read_params

MOST_PANELS = 24
"""Cells that one picture of learning curves shows."""

_MOST_MARKS = 6
"""Numbers that an axis has written at it one by one."""


def curves_chart(series: Series) -> Chart | None:
    """Return the learning curves of each cell, None where there are none."""
    panels = [panel for panel in series.panels if panel.lines][:MOST_PANELS]
    if not panels:
        return None
    left_out = sum(bool(panel.lines) for panel in series.panels) - len(panels)

    def draw(canvas: Canvas) -> None:
        columns = _side_by_side(len(panels), canvas.columns)
        rows = math.ceil(len(panels) / columns)
        grid = canvas.figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(panels):
                axes.set_axis_off()
                continue
            _draw_panel(canvas, axes, series, panels[place])
            if place + columns >= len(panels):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("epoch")
        canvas.figure.supylabel(f"{series.criterion}, %", fontsize="medium")
        legend_below(canvas, _legend(panels, bool(series.drops)))

    return Chart(
        name="learning-curves",
        title="Learning curves",
        text=f"The {series.criterion} of each trial of the search over its epochs, a panel per variant. The chosen "
        "trial is thick and orange, stopped and unfinished ones are faint, diverged and failed ones dashed; dotted "
        "lines are the epochs after which the learning rate drops."
        + (f" {left_out} more cells are not drawn." if left_out else ""),
        height=lambda columns: (
            0.8 + (1.15 if columns < 3 else 1.9) * math.ceil(len(panels) / _side_by_side(len(panels), columns))
        ),
        draw=draw,
    )


LOOKS: Mapping[str, Mapping[str, Any]] = {
    "chosen": {"color": ACCENT, "linewidth": 1.8, "zorder": 4},
    "completed": {"color": PLAIN, "linewidth": 0.8, "zorder": 3},
    "stopped or unfinished": {"color": MUTED, "linewidth": 0.6, "alpha": 0.5, "zorder": 1},
    "diverged or failed": {"color": WARN, "linewidth": 0.8, "linestyle": "--", "zorder": 2},
}
"""How the curve of a trial is drawn, by what became of it."""


def _kind(line: Line) -> str:
    if line.chosen:
        return "chosen"
    state = line.trial["state"]
    kinds = {"completed": "completed", "diverged": "diverged or failed", "failed": "diverged or failed"}
    return kinds.get(state, "stopped or unfinished")


def _legend(panels: Sequence[Panel], drops: bool) -> list[Line2D]:
    """Return an entry for each kind of line that is there."""
    found = {_kind(line) for panel in panels for line in panel.lines}
    handles = [Line2D([], [], label=kind, **look) for kind, look in LOOKS.items() if kind in found]
    if drops:
        handles.append(Line2D([], [], color=MUTED, linewidth=0.8, linestyle=":", label="learning rate drops"))
    return handles


def _side_by_side(panels: int, most: int) -> int:
    """Return how many panels make a row: four are better two by two than three and one."""
    return 2 if panels == 4 else min(most, panels)


def _draw_panel(canvas: Canvas, axes: Axes, series: Series, panel: Panel) -> None:
    for line in panel.lines:
        look = LOOKS[_kind(line)]
        (drawn,) = axes.plot(line.epochs, [100 * error for error in line.errors], **look)
        canvas.tip(drawn, describe(line.trial, line.errors[-1]))
    for drop in series.drops:
        axes.axvline(drop, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_title(panel.label, fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    draw_grid(axes, "y")


def early_stopping_chart(series: Series) -> Chart | None:
    """Return what early stopping saved, None where it stopped nothing."""
    rows = series.stopped[:-1]
    if not rows:
        return None

    def draw(canvas: Canvas) -> None:
        axes = canvas.figure.add_subplot()
        for place, row in enumerate(rows):
            (run,) = axes.barh([place], [row.epochs_run], color=PLAIN, height=0.6)
            (saved,) = axes.barh(
                [place], [row.saved], left=[row.epochs_run], color="none", edgecolor=ACCENT, height=0.6, hatch="////"
            )
            canvas.tip(run, f"{row.label}: {row.epochs_run:,} epochs run")
            canvas.tip(saved, f"{row.label}: {row.saved:,} epochs saved, {counted(row.stopped, 'trial')} stopped")
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("epochs of the search")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        draw_grid(axes, "x")

    return Chart(
        name="early-stopping",
        title="What early stopping saved",
        text="Epochs that the trials of the search ran, filled, and those that stopped trials were spared, hatched.",
        height=lambda _: 0.75 + 0.24 * len(rows),
        draw=draw,
    )


def parallel_chart(series: Series) -> Chart | None:
    """Return trials across their hyperparameters, None where fewer than two were searched."""
    names = series.searched_dimensions
    trials = [trial for panel in series.panels for trial in panel.trials]
    known = [(trial, error) for trial in trials if (error := series.error_of(trial)) is not None]
    if len(names) < 2 or len(known) < 2:
        return None
    known.sort(key=lambda pair: -pair[1])
    best: dict[str, Any] = {"color": ACCENT, "linewidth": 1.4, "alpha": 0.9, "zorder": 3}
    others: dict[str, Any] = {"color": MUTED, "linewidth": 0.5, "alpha": 0.35, "zorder": 2}
    lacks = any(name not in read_params(trial["params"]) for trial, _ in known for name in names)
    best_from = len(known) - max(1, len(known) // 10)

    def draw(canvas: Canvas) -> None:
        axes = canvas.figure.add_subplot()
        params = [read_params(trial["params"]) for trial, _ in known]
        scales = [scale_of([each.get(name, MISSING) for each in params]) for name in names]
        scales.append(scale_of([100 * error for _, error in known], logarithmic=False))
        for place, (trial, error) in enumerate(known):
            values = [*(params[place].get(name, MISSING) for name in names), 100 * error]
            heights = [scale.height(value) for scale, value in zip(scales, values, strict=True)]
            look = best if place >= best_from else others
            (drawn,) = axes.plot(range(len(scales)), heights, **look)
            canvas.tip(drawn, describe(trial, error))
        for place, scale in enumerate(scales):
            axes.axvline(place, color=INK, linewidth=0.8)
            for text, height in scale.marks.items():
                axes.annotate(text, (place, height), (3, 0), textcoords="offset points", va="center")
        axes.set_xticks(range(len(scales)), [*headings_of(names).values(), f"{series.criterion}, %"])
        axes.set_yticks([])
        axes.margins(x=0.08)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        legend_below(
            canvas,
            [
                Line2D([], [], color=ACCENT, linewidth=1.4, label="the best tenth"),
                Line2D([], [], color=MUTED, linewidth=0.5, label="all others"),
            ],
        )

    return Chart(
        name="parallel-coordinates",
        title="Hyperparameters together",
        text="Each line is a trial of the search that has an error, through its hyperparameters to that error, all "
        "variants together; the best tenth is thick and orange."
        + (f" {ABSENT.capitalize()}: the trial has no such hyperparameter." if lacks else ""),
        height=lambda _: 3.2,
        draw=draw,
    )


ABSENT = "absent"
"""Written at an axis where trials stand that have no such hyperparameter."""

_BELOW = 0.14
"""How far what is no number stands below the numbers, and below each other."""


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where values stand on an axis, from 0 to 1; what is no number beside numbers, and what is missing, below 0."""

    heights: Mapping[tuple[bool, Scalar], float]
    """By `exact` of a value."""
    marks: Mapping[str, float]
    """What is written at the axis, with its height."""

    def height(self, value: Scalar) -> float:
        """Return where a value stands."""
        return self.heights[exact(value)]


def scale_of(values: Sequence[Scalar], *, logarithmic: bool = True) -> Scale:
    """Return an axis for values of any kind.

    Args:
        values: those of all trials, `MISSING` where a trial has none.
        logarithmic: whether numbers stand by their logarithm, where all are above 0.
    """
    logarithmic = logarithmic and all(value > 0 for value in values if _is_number(value))
    numbers = sorted({float(value) for value in values if _is_number(value)})
    others = sorted({exact(value): value for value in values if not _is_number(value)}.values(), key=in_words)
    kinds = [value for value in others if value != MISSING]
    heights = _number_heights(numbers, logarithmic)
    if not numbers:
        heights = {exact(value): place / max(1, len(kinds) - 1) for place, value in enumerate(kinds)}
    below = [value for value in others if exact(value) not in heights]
    heights |= {exact(value): -_BELOW * place for place, value in enumerate(below, start=1)}
    marks = _number_marks(numbers, logarithmic) | {
        ABSENT if value == MISSING else in_words(value): heights[exact(value)] for value in others
    }
    return Scale(heights=heights, marks=marks)


def _is_number(value: Scalar) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_heights(numbers: Sequence[float], logarithmic: bool) -> dict[tuple[bool, Scalar], float]:
    if len(numbers) < 2:
        return {exact(number): 0.0 for number in numbers}
    low, high = numbers[0], numbers[-1]
    if logarithmic:
        return {exact(number): math.log(number / low) / math.log(high / low) for number in numbers}
    return {exact(number): (number - low) / (high - low) for number in numbers}


def _number_marks(numbers: Sequence[float], logarithmic: bool) -> dict[str, float]:
    if len(numbers) <= _MOST_MARKS:
        return {f"{number:.4g}": height for (_, number), height in _number_heights(numbers, logarithmic).items()}
    low, high = numbers[0], numbers[-1]
    quarters = [step / 4 for step in range(5)]
    return {
        f"{low * (high / low) ** part if logarithmic else low + (high - low) * part:.4g}": part for part in quarters
    }
