"""Rows of text as Markdown, LaTeX, CSV or HTML. Whatever a cell holds, it cannot become more than text there."""

import csv
import html
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Literal

from tabulate import tabulate

Row = dict[str, str]
Mark = Literal["best", "tie"]
Marks = Mapping[tuple[int, str], Mark]
"""What stands out, by number of row and heading."""

MISSING = "-"
TIE = "†"
"""Stands after a number that ties with the best."""

SEPARATOR = ": "
"""Between the group of a column and its heading, where the headings of some columns have groups."""

_TEXT_COLUMNS = {
    "data set",
    "augmentation",
    "variant",
    "method",
    "place",
    "known from",
    "difference is",
    "state",
    "trial",
    "network",
    "data",
    "device",
    "run",
}

# Characters for private use: what tabulate escapes cannot come out as one of these.
_BEST, _END, _TIE = "\ue000", "\ue001", "\ue002"
_DRAWN: Mapping[str, tuple[str, str, str]] = {
    "github": ("**", "**", f" {TIE}"),
    "html": ("<strong>", "</strong>", f"<sup>{TIE}</sup>"),
    "latex_booktabs": (r"\textbf{", "}", r"$^{\dagger}$"),
}


def render(
    rows: Sequence[Row],
    remarks: Sequence[str],
    form: str,
    marks: Marks | None = None,
    groups: Sequence[str] = (),
) -> str:
    """Return rows and remarks as `markdown`, `latex`, `csv` or `html`.

    Args:
        rows: all with the same columns in the same order.
        remarks: what stands below; csv leaves them out.
        form: the format.
        marks: what stands out; csv leaves it out.
        groups: of the columns whose headings begin with one of these and `SEPARATOR`, which LaTeX and HTML print once
            above them.

    Raises:
        ValueError: the format is none of these.
    """
    if form not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {form!r}.")
    return FORMATS[form](rows, remarks, marks or {}, groups)


def _markdown(rows: Sequence[Row], remarks: Sequence[str], marks: Marks, _: Sequence[str]) -> str:
    escaped = [{for_markdown(key): for_markdown(value) for key, value in row.items()} for row in rows]
    keys = {(place, for_markdown(key)): mark for (place, key), mark in marks.items()}
    return "\n\n".join([_tabulate(escaped, "github", keys), *remarks])


def for_markdown(text: str) -> str:
    """Return a text that is no more than text in a cell of a Markdown table."""
    # A bar ends a cell, and a browser reads a tag in Markdown as HTML's.
    return text.replace("|", "\\|").replace("<", "&lt;")


def _latex(rows: Sequence[Row], remarks: Sequence[str], marks: Marks, groups: Sequence[str]) -> str:
    table = _tabulate(rows, "latex_booktabs", marks, groups)
    spans = _spans(rows, groups)
    if any(name for name, _ in spans):
        cells, rules, column = [], [], 1
        for name, width in spans:
            # What tabulate escapes is escaped alike here.
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_for_latex(name)}}}")
            if name:
                rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            column += width
        head, rule, body = table.partition("\\toprule\n")
        table = f"{head}{rule}{' & '.join(cells)} \\\\\n{' '.join(rules)}\n{body}"
    comments = (" ".join(remark.split()) for remark in remarks)
    return "\n".join([table, *(f"% {remark}" for remark in comments)])


def _for_latex(text: str) -> str:
    return tabulate([[text]], tablefmt="latex_booktabs").splitlines()[2].removesuffix("\\\\").strip() if text else ""


def _html(rows: Sequence[Row], remarks: Sequence[str], marks: Marks, groups: Sequence[str]) -> str:
    table = _tabulate(rows, "html", marks, groups)
    spans = _spans(rows, groups)
    if any(name for name, _ in spans):
        cells = "".join(f'<th colspan="{width}">{html.escape(name)}</th>' for name, width in spans)
        table = table.replace("<thead>\n", f"<thead>\n<tr>{cells}</tr>\n", 1)
    return "\n".join([table, *(f"<p>{html.escape(remark)}</p>" for remark in remarks)])


def _csv(rows: Sequence[Row], remarks: Sequence[str], marks: Marks, groups: Sequence[str]) -> str:  # noqa: ARG001 - a table of numbers for programs
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: "" if value == MISSING else value.replace(",", "") for key, value in row.items()} for row in rows
        )
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Sequence[Row], Sequence[str], Marks, Sequence[str]], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "html": _html,
}
"""Renderers by the name of their format."""


def group_of(heading: str, groups: Sequence[str]) -> str:
    """Return the group that a column's heading names, or an empty text."""
    return next((name for name in groups if heading.startswith(name + SEPARATOR)), "")


def is_text(heading: str, groups: Sequence[str] = ()) -> bool:
    """Return whether a column holds words, which begin at its left."""
    group = group_of(heading, groups)
    return (heading.removeprefix(group + SEPARATOR) if group else heading) in _TEXT_COLUMNS


def is_number(text: str) -> bool:
    """Return whether a cell holds a number, `3/6` among them, or misses one."""
    try:
        float("nan" if text == MISSING else text.replace(",", "").partition("/")[0])
    except ValueError:
        return False
    return True


def as_cell(value: float | None, spec: str = "") -> str:
    """Return a number as a table shows it, `MISSING` where there is none."""
    return MISSING if value is None else format(value, spec)


def percent(error: float | None) -> str:
    """Return an error, a fraction, in percent."""
    return MISSING if error is None else f"{100 * error:.2f}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number of things in words: `1 seed`, `2 seeds`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _spans(rows: Sequence[Row], groups: Sequence[str]) -> list[tuple[str, int]]:
    """Return each run of columns of one group, with its number of columns."""
    names = [group_of(heading, groups) for heading in rows[0]] if rows else []
    return [(name, len(list(same))) for name, same in groupby(names)]


def _tabulate(rows: Sequence[Row], form: str, marks: Marks, groups: Sequence[str] = ()) -> str:
    headings = list(rows[0]) if rows else []
    plain = [heading.removeprefix(f"{group_of(heading, groups)}{SEPARATOR}") for heading in headings]
    align = ["left" if is_text(heading, groups) else "right" for heading in headings]
    cells = [
        [_marked(value, marks.get((place, heading)), form) for heading, value in row.items()]
        for place, row in enumerate(rows)
    ]
    text = tabulate(cells, headers=plain, tablefmt=form, disable_numparse=True, colalign=align)
    for sign, drawn in zip((_BEST, _END, _TIE), _DRAWN[form], strict=True):
        text = text.replace(sign, drawn)
    return text


def _marked(value: str, mark: Mark | None, form: str) -> str:
    # Markdown has nothing to escape, and its columns keep their width when the signs are there from the start.
    best, end, tie = _DRAWN[form] if form == "github" else (_BEST, _END, _TIE)
    # A name that holds one of the signs could otherwise begin what it does not end.
    clean = value.translate(dict.fromkeys(map(ord, (_BEST, _END, _TIE))))
    return {"best": f"{best}{clean}{end}", "tie": f"{clean}{tie}", None: clean}[mark]
