"""What all charts share: the figure that they are drawn on, colours, markers, legends, and how things are told.

Nothing is told by colour alone: markers differ, lines differ in width or dash, names stand at axes or in a legend.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.results import Trial
from sweep.record.params import describe as describe_params

INK, MUTED, GRID = "#1a1a1a", "#6b6b6b", "#d9d9d9"
ACCENT, PLAIN, WARN = "#d55e00", "#0072b2", "#cc79a7"
COLOURS = (PLAIN, ACCENT, "#009e73", WARN, "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, told apart by all common kinds of colour vision, without its yellow, too pale on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*", "p")


@final
@dataclass(kw_only=True)
class Canvas:
    """A figure to draw on, and what a reader is told of the things on it."""

    figure: Figure
    columns: int = 3
    """Panels side by side."""
    tips: dict[str, str] = field(default_factory=dict)
    """A sentence by the `gid` of an artist, shown where a pointer is on it."""

    def tip(self, artist: Artist, text: str) -> None:
        """Let an artist tell something."""
        gid = f"tip-{len(self.tips)}"
        artist.set_gid(gid)
        self.tips[gid] = text
        # What is clipped to its axes takes no room beside them. To find that out of each of 20,000 took a tenth of
        # the whole report's time.
        if artist.get_clip_on():
            artist.set_in_layout(False)


@final
@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart of a run that has something to show."""

    name: str
    """Of letters and hyphens: a file's name too."""
    title: str
    text: str
    """What it shows and how to read it, for those who see it and those who do not."""
    height: Callable[[int], float]
    """Inches, by the number of panels side by side."""
    draw: Callable[[Canvas], None]


def describe(trial: Trial, error: float | None) -> str:
    """Return a trial in a line: what it was and how it ended."""
    shown = "no error" if error is None else f"{100 * error:.2f} %"
    return (
        f"{trial['variant']}, {configuration(trial)}, seed {trial['seed']}: {trial['state']} after "
        f"{trial['epochs_run'] or 0} of {trial['epochs_budget']} epochs, {shown}"
    )


def configuration(trial: Trial) -> str:
    """Return a trial's hyperparameters in words."""
    return describe_params(trial["params"], ", ", long=True) or f"learning rate {trial['lr']:g}"


def style(place: int) -> tuple[str, str]:
    """Return colour and marker of the variant at a place, alike in all charts."""
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def handle(colour: str, marker: str, label: str, hollow: bool = False) -> Line2D:
    """Return a legend's entry for a marker."""
    face = "none" if hollow else colour
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle="", markersize=4, label=label)


def legend_below(canvas: Canvas, handles: Sequence[Line2D]) -> None:
    """Draw a legend below everything else."""
    narrow = canvas.columns < 3
    canvas.figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 2 if narrow else 5),
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.2,
    )


def draw_grid(axes: Axes, which: Any) -> None:
    """Draw a faint grid, `x`, `y` or `both`, and no frame."""
    axes.grid(axis=which, color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
