"""Several runs in one table: a row per variant, learning rate or seed, a group of columns per run."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from analysis.checks import findings
from analysis.formats import MISSING, SEPARATOR, Mark, Row
from analysis.results import By, VariantResult
from analysis.run_data import Evidence
from analysis.tables import (
    PLUS_MINUS,
    error_heading,
    headings_of,
    marks_of,
    notes,
    searched_beside_the_rate,
    table_rows,
)


def run_names(locations: Sequence[str]) -> list[str]:
    """Return a short name for each run: its folder's, with more of the path before it where two would be alike."""
    parts = [PurePosixPath(location.partition("?")[0].rstrip("/")).parts for location in locations]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len({*names}) == len(names):
            return names
    raise ValueError(f"RUN must name each run once, got {', '.join(locations)}.")


def side_by_side(
    runs: Mapping[str, Evidence], by: By = "variant"
) -> tuple[list[Row], dict[tuple[int, str], Mark], list[str]]:
    """Return the rows of all runs together, what stands out in them, and remarks and findings of each run.

    The paper's numbers stand there only where no run has generated images: they are beside all columns of a row.

    Args:
        runs: each run's record by its name.
        by: what makes a row.
    """
    generated = any(data.generated for run in runs.values() for data in run.document.data.values())
    cells: dict[tuple[Any, ...], Row] = {}
    marks: dict[tuple[tuple[Any, ...], str], Mark] = {}
    headings: list[str] = []
    remarks: dict[str, list[str]] = {}
    for name, evidence in runs.items():
        results = evidence.results_by(by)
        rows_of = table_rows(results, evidence.document, by)
        shown = _columns(evidence, results, rows_of, by, generated)
        marked, about = marks_of(results, evidence.document, by)
        headings += [f"{name}{SEPARATOR}{heading}" for heading in shown]
        for place, (result, row) in enumerate(zip(results, rows_of, strict=True)):
            key = _key(result, by)
            cells.setdefault(key, {}).update({f"{name}{SEPARATOR}{heading}": row[heading] for heading in shown})
            marks |= {(key, f"{name}{SEPARATOR}{h}"): mark for (where, h), mark in marked.items() if where == place}
        for remark in [*about, *notes(results, evidence.document, paper=not generated), *findings(evidence)]:
            remarks.setdefault(remark, []).append(name)
    several = len({key[:2] for key in cells}) > 1
    rows = [
        {
            **({"data set": key[0], "augmentation": key[1]} if several else {}),
            "variant": key[2],
            **({"learning rate": f"{key[3]:g}"} if by == "lr" else {"seed": str(key[3])} if by == "seed" else {}),
            **{heading: values.get(heading, MISSING) for heading in headings},
        }
        for key, values in cells.items()
    ]
    places = {key: place for place, key in enumerate(cells)}
    said = [
        text if len(names) == len(runs) else f"{', '.join(names)}{SEPARATOR}{text}" for text, names in remarks.items()
    ]
    return rows, {(places[key], heading): mark for (key, heading), mark in marks.items()}, said


def _key(result: VariantResult, by: By) -> tuple[Any, ...]:
    return (*result.cell, *{"variant": (), "lr": (result.lr,), "seed": (result.seed,)}[by])


def _columns(
    evidence: Evidence, results: Sequence[VariantResult], rows: Sequence[Row], by: By, generated: bool
) -> list[str]:
    """Return the headings of one run that stand beside another's."""
    wanted = [error_heading(evidence.study.protocol, by), PLUS_MINUS, "seeds"]
    wanted += [] if by == "seed" else ["validation %"]
    wanted += ["learning rate"] if by == "variant" else []
    wanted += headings_of(searched_beside_the_rate(results)).values()
    wanted += [] if generated else ["paper %"]
    return [heading for heading in wanted if rows and heading in rows[0]]
