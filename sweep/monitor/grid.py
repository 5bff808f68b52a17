"""A run as a grid: a row per cell, a column per learning rate, drawn from the record's rows alone.

Nothing here looks at a clock, a terminal or a file: the same rows and the same size give the same lines.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.text import Text

from search_spaces.dimensions import in_words
from sweep.record.params import label, read_params
from sweep.record.progress import (
    WORDS,
    CellStanding,
    Place,
    Row,
    Scope,
    arrange,
    count_states,
    progress_parts,
)

STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "stopped": "yellow",
    "diverged": "magenta",
    "completed": "green",
    "failed": "bold red",
}

BARS = " ▏▎▍▌▋▊▉█"
COLUMNS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = "  .....##"
PLAIN_COLUMNS = " ..::||##"
LONGEST_BAR = 12
LONGEST_NAME = 28
LONGEST_VALUE = 18
SHORTEST_NAME = 8
ERROR_WIDTH = 7
"""Of a letter, an error such as 100.0 and a mark."""

EVENTS = 5
"""Last events that are shown at most, where there is room."""


def draw(
    scope: Scope,
    rows: Sequence[Row],
    *,
    width: int,
    height: int | None = None,
    unicode: bool = True,
    title: str = "",
    dashboard: str = "",
    events: Sequence[str] = (),
) -> Group:
    """Return the grid as lines that are at most `width` wide, and at most `height` of them.

    Args:
        scope: what the run is to do.
        rows: of `trials`.
        width: columns of the terminal.
        height: its lines; None for as many as there are to say.
        unicode: whether the terminal can show bars of block characters.
        title: how the run is, in words, behind its name.
        dashboard: address of Ray's dashboard.
        events: what happened last, in words, the oldest first.
    """
    counts = count_states(scope, rows)
    head = _head(scope, rows, title, dashboard)
    legend = _legend(counts, width)
    spare = 1_000_000 if height is None else height - len(head) - 2  # the grid's heading, and the legend
    tail = min(len(events), EVENTS, max(1, spare - len(scope.cells) - 1)) if spare > 2 else 0
    space = 1 if tail and spare - tail > len(scope.cells) else 0
    grid = _grid(scope, rows, width=width, most=spare - tail - space, unicode=unicode)
    lines = [*head, *grid, legend, *[Text()] * space]
    lines += [Text(printable(event)) for event in events[len(events) - tail :]]
    return Group(*(_cut(line, width) for line in lines[:height]))


def shows_blocks(console: Console) -> bool:
    """Return whether a console can show bars of block characters."""
    return (console.encoding or "").startswith("utf")


def printable(text: str) -> str:
    """Return a text on one line without what a terminal would obey instead of showing."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shorten(name: str, width: int) -> str:
    """Return a name in exactly so many columns: what is too long loses its middle, for names often end differently."""
    name = printable(name)
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    end = (width - 1) // 2
    start, rest = set_cell_size(name, width - 1 - end), name
    while cell_len(rest) > end:
        rest = rest[1:]
    return set_cell_size(f"{start}…{rest}", width)


def _cut(line: Text, width: int) -> Text:
    line.no_wrap, line.overflow, line.end = True, "crop", "\n"
    if line.cell_len > width:
        line.truncate(width, overflow="crop")
    return line


def _head(scope: Scope, rows: Sequence[Row], words: str, dashboard: str) -> list[Text]:
    title = Text(printable(scope.run), style="bold")
    for part in (scope.study, words):
        title.append(f"  {printable(part)}" if part else "", style="not bold")
    error = "validation" if scope.column == "val_error" else "test"
    return [
        title,
        Text("   ".join(progress_parts(scope, rows))),
        Text(_devices(rows) + (f"   dashboard {printable(dashboard)}" if dashboard else "")),
        Text(f"{error} error in %, epoch of {scope.epochs:,}; * lowest of its row", style="dim"),
    ]


def _devices(rows: Sequence[Row]) -> str:
    running = [row for row in rows if row["state"] == "running"]
    devices = Counter(printable(row["device"]) for row in running if row["device"])
    nodes = len({row["node"] for row in running if row["node"]})
    parts = [f"{count:,} on {device}" for device, count in devices.most_common()]
    starting = len(running) - devices.total()
    if starting:
        parts.append(f"{starting:,} starting")
    where = f", {nodes:,} {'node' if nodes == 1 else 'nodes'}" if nodes else ""
    return f"running: {', '.join(parts) or 'none'}{where}"


def _legend(counts: Mapping[str, int], width: int) -> Text:
    line = Text()
    for word in WORDS:
        line.append(word[0], style=f"{STYLES[word]} underline").append(
            f"{word[1:]} {counts[word]:,}  ", style=STYLES[word]
        )
    if line.cell_len <= width + 2:
        return line
    return Text("  ").join(Text(f"{word[0]}{counts[word]:,}", style=STYLES[word]) for word in WORDS)


def _grid(scope: Scope, rows: Sequence[Row], *, width: int, most: int, unicode: bool) -> list[Text]:
    """Return the heading and at most `most` lines below it."""
    several = (f"{n}/{n}" for n in (max(map(max, scope.places)), scope.confirming) if n > 1)
    epochs = max(map(len, (str(scope.epochs), *several)))
    heads = [*scope.heads, *(["confirm"] if scope.confirming else [])]
    name, boxes = min(LONGEST_NAME, max(map(cell_len, scope.labels))), len(heads)
    # First names give way, then bars with epochs; where errors alone have no room, each cell is one line of numbers.
    least = min(name, SHORTEST_NAME)
    widths = (ERROR_WIDTH + 1 + epochs, ERROR_WIDTH)
    needed = next((width_of for width_of in widths if least + boxes * (width_of + 1) <= width), 0)
    shown, said = _chosen(arrange(scope, rows, places=needed > 0), most)
    if not needed:
        return [*_summary(scope, shown, width=width, unicode=unicode), *said]
    name = min(name, width - boxes * (needed + 1))
    box = min((width - name) // boxes - 1, ERROR_WIDTH + 2 + epochs + LONGEST_BAR)
    corner = shorten(label(scope.dimension) if scope.dimension else "point", name)
    lines = [Text(corner + "".join(f" {head[:box]:<{box}}" for head in heads), style="bold")]
    for standing in shown:
        line = Text(shorten(standing.label, name))
        for place in standing.places:
            # A cell with fewer points than others has no trial there.
            line.append(" ").append_text(_box(place, box, epochs, unicode=unicode) if place.trials else Text(" " * box))
        if standing.confirm:
            line.append(" ").append_text(_box(standing.confirm, box, epochs, unicode=unicode))
        lines.append(line)
    return [*lines, *said]


def _chosen(standings: Sequence[CellStanding], most: int) -> tuple[list[CellStanding], list[Text]]:
    """Return the cells that there is room for, those with running trials before others, and a line on the rest."""
    if len(standings) <= most:
        return list(standings), []
    order = sorted(range(len(standings)), key=lambda index: _rank(standings[index]))
    room = max(0, most - 1)
    rest = order[room:]
    over = sum(_rank(standings[index]) == 2 for index in rest)
    said = Text(f"and {len(rest):,} more, {over:,} of them ended", style="dim")
    return [standings[index] for index in sorted(order[:room])], [said][: max(0, most)]


def _rank(standing: CellStanding) -> int:
    places = [standing.search, *([standing.confirm] if standing.confirm else [])]
    if any(place.states["running"] for place in places):
        return 0
    return 2 if all(place.ended == place.trials for place in places) else 1


def _box(place: Place, width: int, epochs: int, *, unicode: bool) -> Text:
    """Return letter, error, mark, bar and epoch in exactly `width` columns, as many of them as fit."""
    if not place.trials:
        return Text(set_cell_size("none", width), style="dim")
    best = place.best(completed=False)
    error = f"{100 * best[0]:.1f}" if best else "-" if place.state in ("diverged", "failed") else ""
    text = f"{place.state[0]}{error:>5}{'*' if place.is_best else ' '}"
    bar = width - ERROR_WIDTH - 1 - epochs
    if bar >= 0:
        several = place.trials > 1
        count = f"{place.ended}/{place.trials}" if several else str(place.epochs) if place.epochs else ""
        drawn = _column(place.share, unicode=unicode) if bar < 3 else f" {_bar(place.share, bar - 1, unicode=unicode)}"
        text += f"{drawn}{count:>{epochs}}" if bar < 3 else f"{count:>{epochs}}{drawn}"
    return Text(
        set_cell_size(text, width), style=f"bold {STYLES[place.state]}" if place.is_best else STYLES[place.state]
    )


def _column(share: float, *, unicode: bool) -> str:
    return (COLUMNS if unicode else PLAIN_COLUMNS)[_eighths(share, 1)]


def _bar(share: float, length: int, *, unicode: bool) -> str:
    parts = BARS if unicode else PLAIN_BARS
    full, rest = divmod(_eighths(share, length), 8)
    return f"{parts[8] * full}{parts[rest] if rest else ''}".ljust(length)


def _eighths(share: float, length: int) -> int:
    # What has begun shows something, and what is whole alone is full.
    parts = 8 * length
    return parts if share >= 1 else min(parts - 1, max(1, round(share * parts))) if share > 0 else 0


def _summary(scope: Scope, standings: Sequence[CellStanding], *, width: int, unicode: bool) -> list[Text]:
    """Return a line of numbers for each cell: its best error, where, and how its trials are."""
    digits = len(f"{max(scope.points):,}")
    state = max(2, digits) + 1
    fixed = 7 + 2 * digits + 2 + (5 + 2 * len(str(scope.confirming)) if scope.confirming else 0)
    name = max(SHORTEST_NAME, min(LONGEST_NAME, max(map(cell_len, scope.labels)), width - fixed - 1))
    room = width - name - fixed
    named = "at rate" if scope.named == "lr" else f"at {label(scope.named)}" if scope.named else ""
    at = max(9, min(LONGEST_VALUE, len(named)))
    states = WORDS if room > at + len(WORDS) * (state + 1) else ()
    bar = min(LONGEST_BAR, room - (at + 1) * (room > at) - len(states) * (state + 1) - 1)
    # Each has its width, 0 where it is left out, and the words of the heading.
    columns = [(6, "best"), (at * (room > at), named[:at]), (2 * digits + 1, "ended"), (bar * (bar > 1), "")]
    columns += [(state, word[0]) for word in states] + ([(5, " conf")] if scope.confirming else [])
    heading = "".join(f" {words:>{size}}" for size, words in columns if size)
    lines = [Text(" " * name + heading, style="bold")]
    for standing in standings:
        search, best, confirm = standing.search, standing.best, standing.confirm
        cells = [
            (f"{100 * best[0]:.1f}" if best else "-", ""),
            (_value_at(scope, best[1])[:at] if best else "", ""),
            (f"{search.ended:,}/{search.trials:,}", ""),
            (_bar(search.ended / max(1, search.trials), bar, unicode=unicode), STYLES[search.state]),
        ]
        counts = ((word, search.waiting if word == "waiting" else search.states[word]) for word in states)
        cells += [(f"{word[0]}{count:,}" if count else "", STYLES[word]) for word, count in counts]
        if confirm is not None:
            cells.append((f" {confirm.state[0]}{confirm.ended}/{confirm.trials}", STYLES[confirm.state]))
        line = Text(shorten(standing.label, name))
        for (size, _), (words, style) in zip(columns, cells, strict=True):
            line.append(f" {words:>{size}}" if size else "", style=style)
        lines.append(line)
    return lines


def _value_at(scope: Scope, params: str) -> str:
    value = read_params(params).get(scope.named, "") if scope.named else ""
    return f"{value:.3g}" if isinstance(value, float) else in_words(value)
