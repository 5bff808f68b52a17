"""The state of the reproduction: each of the paper's own networks with its error, ours, and how ours came about."""

import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

from analysis.formats import MISSING, Row, as_cell, percent
from analysis.inference import binomial_half_width
from analysis.published import LARGE, PAPER, PAPER_ERRORS, Published, differences, settings_of
from analysis.results import COUNTED_STATES, Cell, VariantResult
from analysis.run_data import Evidence
from analysis.tables import LARGE_NOTE, PLUS_MINUS

BEGIN, END = "<!-- what `python -m analysis reproduction docs/reproduction/runs` writes: begin -->", "<!-- end -->"
"""Marks between which a document holds the table."""

NOT_RUN = "not run"

MOST_LISTED = 4
"""Learning rates that a row lists, as many as the paper tried; of more it gives the number."""

SELECTED_BY = {
    "paper": "the lowest mean test error of the learning rates tried, as the paper seems to have selected",
    "holdout": "the mean test error of the configuration with the lowest validation error, retrained on all "
    "training images",
}
"""By protocol."""

NO_ERROR = {"paper": "no trial completed", "holdout": "no confirmation trial completed"}
"""Why a network that a run has stays without an error, by protocol."""


@final
@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """One of the paper's networks as a run trained it, with the paper's settings."""

    run: str
    """The run's name."""
    evidence: Evidence
    result: VariantResult
    """Has an error."""

    @property
    def error(self) -> float:
        """The mean test error over the seeds, a fraction."""
        return statistics.fmean(self.result.errors)

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval: over the seeds by Student's t, of a single one that of its test images' draw."""
        if self.result.half_width is not None:
            return self.result.half_width
        return binomial_half_width(self.error, self.evidence.document.data[self.result.dataset].test_images)

    @property
    def protocol(self) -> str:
        """The study's."""
        return self.evidence.study.protocol

    @property
    def tried(self) -> list[float]:
        """The learning rates of the search with a trial that completed or diverged, the largest first."""
        rows = self.evidence.searched(self.result)
        return sorted({row["lr"] for row in rows if row["state"] in ("completed", "diverged")}, reverse=True)


def state_of(runs: Mapping[str, Evidence]) -> tuple[list[Row], list[str]]:
    """Return a row for each of the paper's own networks, in its order, and what a reader must know of them.

    The first run that has a completed trial of a network with the paper's settings gives its row.

    Args:
        runs: each run's record by its name, the first one first.
    """
    found: dict[Cell, Reproduced] = {}
    left_out, again = [], []
    for name, evidence in runs.items():
        comparable, reasons = _comparable(name, evidence)
        left_out += reasons
        later = [
            f"{_name(PAPER_ERRORS[cell])} {percent(comparable[cell].error)} %" for cell in comparable if cell in found
        ]
        if later:
            again.append(f"{name} has results too: {', '.join(later)}.")
        found |= {cell: one for cell, one in comparable.items() if cell not in found}
    return _rows(found), [*_notes(found), *again, *left_out]


def _comparable(name: str, evidence: Evidence) -> tuple[dict[Cell, Reproduced], list[str]]:
    """Return the results of a run that may stand beside the paper's, and a sentence for each reason why others may not.

    Whatever learning rates were tried is comparable: the row says which.
    """
    data = evidence.document.data
    if any(each.generated for each in data.values()):
        return {}, [f"{name} is left out: its images are generated."]
    comparable: dict[Cell, Reproduced] = {}
    reasons: dict[str, list[str]] = {}
    for result in evidence.results:
        entry = PAPER_ERRORS.get(result.cell)
        if entry is None:
            continue
        settings = {name: value for name, value in settings_of(entry).items() if name != "learning_rates"}
        different = differences(evidence.study, result.variant, data[result.dataset].train_images, settings)
        if different:
            reasons.setdefault(", ".join(different), []).append(_name(entry))
        elif result.error is not None:
            comparable[result.cell] = Reproduced(run=name, evidence=evidence, result=result)
        elif any(result.states[state] for state in COUNTED_STATES):
            reasons.setdefault(NO_ERROR[evidence.study.protocol], []).append(_name(entry))
    if not comparable and not reasons:
        return {}, [f"{name} is left out: no trial of one of the paper's networks has ended."]
    if not comparable and len(reasons) == 1:
        return {}, [f"{name} is left out: {reason}." for reason in reasons]
    return comparable, [f"{name} is left out for {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _data(entry: Published) -> str:
    return entry.dataset if entry.augmentation == "none" else f"{entry.dataset} {entry.augmentation}"


def _name(entry: Published) -> str:
    """Return a network's name in a sentence; ALL-CNN-C has three rows."""
    return entry.method if entry.table == "Table 3" else f"{entry.method} on {_data(entry)}"


def _rows(found: Mapping[Cell, Reproduced]) -> list[Row]:
    several_runs = len({one.run for one in found.values()}) > 1
    rows = []
    for cell, entry in PAPER_ERRORS.items():
        one = found.get(cell)
        row = {
            "network": entry.method,
            "data": _data(entry),
            "paper %": f"{entry.error_percent:.2f}",
            "ours %": percent(one.error) if one else NOT_RUN,
        }
        # Where nothing was run, all that follows would be empty.
        if found:
            row |= _how(one, entry) if one else dict.fromkeys(_HOW, MISSING)
        if several_runs:
            row["run"] = one.run if one else MISSING
        rows.append(row)
    return rows


_HOW = ("difference", PLUS_MINUS, "seeds", "learning rate", "epochs", "device", "s/trial")


def _how(one: Reproduced, entry: Published) -> Row:
    """Return how far our error is from the paper's and how it came about, under the headings of `_HOW`."""
    result, trials = one.result, one.result.trials
    seconds = [trial["duration_s"] for trial in trials if trial["duration_s"] is not None]
    iterations = one.evidence.study.base.iterations
    cells = (
        f"{100 * one.error - entry.error_percent:+.2f}",
        percent(one.half_width),
        f"{result.num_seeds} of {result.num_seeds + result.lost_seeds}" if result.lost_seeds else str(result.num_seeds),
        _rate(one),
        f"{iterations:,} steps" if iterations else str(result.epochs),
        " and ".join(sorted({trial["device"].removeprefix("NVIDIA ") for trial in trials if trial["device"]}))
        or MISSING,
        as_cell(statistics.fmean(seconds) if seconds else None, ",.0f"),
    )
    return dict(zip(_HOW, cells, strict=True))


def _rate(one: Reproduced) -> str:
    """Return the selected learning rate and those that it was selected from: `0.05 (of 0.1/0.05)`."""
    tried = "/".join(f"{rate:g}" for rate in one.tried) if len(one.tried) <= MOST_LISTED else str(len(one.tried))
    return f"{one.result.lr:g} (of {tried})" if len(one.tried) > 1 else f"{one.result.lr:g}"


def _notes(found: Mapping[Cell, Reproduced]) -> list[str]:
    memory = [entry.method for entry in PAPER_ERRORS.values() if entry.confidence == "memory"]
    notes = [f"Paper: {PAPER}; the number of {', '.join(memory)} is known from memory only."]
    if found:
        notes += [*_protocol_notes(found.values()), _interval_note(found.values())]
        notes.append(
            "Difference: ours less the paper's, in points. Learning rate: the selected one, of those tried where there "
            "were several. s/trial: training and evaluation, mean over the seeds."
        )
    if any(one.result.lost_seeds for one in found.values()):
        notes.append("Seeds such as 2 of 3: the others diverged, failed or were stopped, and the mean leaves them out.")
    if any(one.result.variant == LARGE for one in found.values()):
        notes.append(LARGE_NOTE)
    if any(cell[0] == "cifar100" and one.protocol == "paper" and len(one.tried) > 1 for cell, one in found.items()):
        notes.append(
            "On CIFAR-100 the paper used the learning rate found on CIFAR-10: the lowest of several test errors "
            "flatters ours there."
        )
    return notes


def _protocol_notes(shown: Collection[Reproduced]) -> list[str]:
    notes = []
    for protocol, selection in SELECTED_BY.items():
        names = dict.fromkeys(one.run for one in shown if one.protocol == protocol)
        if names:
            notes.append(f"Protocol {protocol} ({', '.join(names)}): ours is {selection}.")
    return notes


def _interval_note(shown: Collection[Reproduced]) -> str:
    kinds = {one.result.num_seeds > 1 for one in shown}
    texts = {
        True: "with several seeds the Student t interval of their mean, which covers no other draw of test images",
        False: "with 1 seed the binomial sampling interval of the test images alone, which covers no other seed",
    }
    return (
        f"{PLUS_MINUS}: half of an interval around ours: {'; '.join(texts[kind] for kind in texts if kind in kinds)}."
    )
