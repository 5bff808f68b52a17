"""What charts show, as plain numbers: the same ones that the table prints. Knows nothing of drawing."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.comparison import compare
from analysis.published import differences, settings_of
from analysis.results import COUNTED_STATES, Trial, VariantResult, cell_of
from analysis.run_data import Evidence, evidence_of, read_record
from analysis.tables import headings_of, published_of, searched_beside_the_rate
from sweep.record.params import names_in
from sweep.record.selection import criterion_column
from sweep.record.store import Store
from sweep.study.study import Study

MAX_POINTS = 60_000
"""Of all learning curves together, so that a thousand trials still make a file that opens at once."""

FEWEST_POINTS, MOST_POINTS = 20, 200
"""Of one curve: fewer lose its shape, more are finer than a screen."""


@final
@dataclass(frozen=True, kw_only=True)
class Bar:
    """A variant's error as a chart shows it. Errors are fractions in [0, 1]."""

    label: str
    error: float
    half_width: float | None
    """Half of the 95 % interval of the mean over the seeds; None with fewer than two."""
    seeds: int
    paper: float | None
    """The paper's error of the same cell by the same protocol; None where it printed none."""
    parameters: int | None
    images_per_s: float | None
    """Median over the cell's completed trials; None where none was measured."""
    best: bool
    """Whether it is the lowest of its data set and augmentation, of two or more."""


@final
@dataclass(frozen=True, kw_only=True)
class Line:
    """The learning curve of one trial."""

    trial: Trial
    epochs: Sequence[int]
    errors: Sequence[float]
    """The criterion's, fractions in [0, 1], as long as `epochs`."""
    chosen: bool
    """Whether the cell's choice fell on it."""


@final
@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is drawn of one cell."""

    label: str
    trials: Sequence[Trial]
    """Of the search."""
    lines: Sequence[Line]


@final
@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What early stopping did in one cell, or in all."""

    label: str
    trials: int
    stopped: int
    epochs_run: int
    epochs_budget: int
    """Epochs that the trials of the search that have ended would have run without early stopping."""
    saved: int
    """Epochs that stopped trials did not run."""
    stopped_rates: Sequence[float]
    """Learning rate of each stopped trial."""


@final
@dataclass(frozen=True, kw_only=True)
class Series:
    """A run's record as charts and reports look at it."""

    evidence: Evidence
    epochs: Mapping[str, np.ndarray[Any, Any]]
    """By trial_id, `(epochs, 2)`: epoch and the criterion's error, in order, without epochs that have none."""

    @property
    def study(self) -> Study:
        """What was run."""
        return self.evidence.study

    @property
    def criterion(self) -> str:
        """What the choice was made by, in words."""
        return "validation error" if criterion_column(self.study.protocol) == "val_error" else "test error"

    @cached_property
    def drops(self) -> list[int]:
        """Epochs after which the learning rate drops, in a full-length trial."""
        return list(self.study.base.drop_epochs)

    @cached_property
    def bars(self) -> list[Bar]:
        """A bar per cell that has an error, in the study's order."""
        results = self.evidence.results
        papers = published_of(results, self.evidence.document)
        lowest = {id(result) for result in best_of_each(results)}
        return [
            Bar(
                label=self.evidence.label(result),
                error=result.error,
                half_width=result.half_width,
                seeds=result.num_seeds,
                paper=paper.error_percent / 100 if paper else None,
                parameters=result.num_parameters,
                images_per_s=self._speed(result),
                best=id(result) in lowest,
            )
            for result, paper in zip(results, papers, strict=True)
            if result.error is not None
        ]

    @cached_property
    def other_settings(self) -> list[str]:
        """The settings, in words, that differ from the paper's where its numbers stand beside the run's."""
        results, document = self.evidence.results, self.evidence.document
        found: list[str] = []
        for result, entry in zip(results, published_of(results, document), strict=True):
            if entry:
                images = document.data[result.dataset].train_images
                found += differences(self.study, result.variant, images, settings_of(entry))
        return list(dict.fromkeys(found))

    @cached_property
    def panels(self) -> list[Panel]:
        """A panel per cell, in the study's order."""
        points = min(MOST_POINTS, max(FEWEST_POINTS, MAX_POINTS // max(1, len(self.evidence.trials))))
        panels = []
        for result in self.evidence.results:
            trials = self.evidence.searched(result)
            lines = []
            for trial in trials:
                if trial["trial_id"] in self.epochs:
                    epochs, errors = zip(*thinned(self.epochs[trial["trial_id"]], points, self.drops), strict=True)
                    chosen = trial["trial_id"] in result.chosen
                    lines.append(Line(trial=trial, epochs=epochs, errors=errors, chosen=chosen))
            panels.append(Panel(label=self.evidence.label(result), trials=trials, lines=lines))
        return panels

    @cached_property
    def searched_dimensions(self) -> list[str]:
        """Hyperparameters of which the search tried several values."""
        results = self.evidence.results
        rates = {value for result in results for value in result.tried.get("lr", ())}
        return [*(["lr"] if len(rates) > 1 else []), *searched_beside_the_rate(results)]

    @cached_property
    def headings(self) -> dict[str, str]:
        """The heading of each hyperparameter that a trial has, by its name; the learning rate's comes first."""
        names = names_in(trial["params"] for trial in self.evidence.trials)
        return headings_of(["lr", *(name for name in names if name != "lr")])

    def error_of(self, trial: Trial) -> float | None:
        """Return the error that a choice looks at, after the trial's last epoch."""
        return trial[criterion_column(self.study.protocol)]

    @cached_property
    def stopped(self) -> list[Stopped]:
        """What early stopping did, a row per cell and one for all; empty where nothing was stopped."""
        rows = [self._stopped(panel.label, panel.trials) for panel in self.panels]
        if not any(row.stopped for row in rows):
            return []
        return [*rows, self._stopped("all", [trial for panel in self.panels for trial in panel.trials])]

    def _stopped(self, label: str, trials: Iterable[Trial]) -> Stopped:
        ended = [trial for trial in trials if trial["state"] in COUNTED_STATES]
        stopped = [trial for trial in ended if trial["state"] == "stopped"]
        return Stopped(
            label=label,
            trials=len(ended),
            stopped=len(stopped),
            epochs_run=sum(trial["epochs_run"] or 0 for trial in ended),
            epochs_budget=sum(trial["epochs_budget"] or 0 for trial in ended),
            saved=sum((trial["epochs_budget"] or 0) - (trial["epochs_run"] or 0) for trial in stopped),
            stopped_rates=[trial["lr"] for trial in stopped],
        )

    def _speed(self, result: VariantResult) -> float | None:
        speeds = [
            trial["images_per_s"]
            for trial in self.evidence.trials
            if trial["state"] == "completed" and trial["images_per_s"] and cell_of(trial) == result.cell
        ]
        return statistics.median(speeds) if speeds else None


def read_series(store: Store) -> Series:
    """Return a run's record with its learning curves.

    Raises:
        ValueError: there is no run, or its record cannot be read.
    """
    document, record = read_record(store)
    # Arrow keeps what it has freed, of a large record more than the record itself, and charts need as much again.
    pa.default_memory_pool().release_unused()
    evidence = evidence_of(store, document, record)
    return Series(evidence=evidence, epochs=curves_of(record.epochs, criterion_column(evidence.study.protocol)))


def curves_of(table: pa.Table, column: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the learning curve of each trial, `(epochs, 2)`: as Python's numbers all at once would take gigabytes.

    Args:
        table: of epochs, in order of `trial_id`, a dictionary, and `epoch`.
        column: the error that the curves are of; epochs without it are left out.
    """
    table = table.filter(pc.is_valid(table[column])).unify_dictionaries()
    points = np.column_stack([table["epoch"].to_numpy(), table[column].to_numpy()])
    names = table["trial_id"].combine_chunks()
    if not len(names):
        return {}
    runs = pc.run_end_encode(names.indices, run_end_type=pa.int64())
    curves = np.split(points, runs.run_ends.to_numpy()[:-1])
    return dict(zip(names.dictionary.take(runs.values).to_pylist(), curves, strict=True))


def thinned(curve: np.ndarray[Any, Any], points: int, kept: Sequence[int] = ()) -> list[tuple[int, float]]:
    """Return about so many points of a curve, evenly spaced, with its ends and the epochs `kept` and after them.

    Averages would hide the spikes that tell a rate is too high; these are points that were measured.

    Args:
        curve: `(epochs, 2)`, epoch and error, in order of the epoch.
        points: how many at the most, beside those kept.
        kept: epochs after which something happens, a drop of the learning rate.
    """
    if len(curve) > points:
        places = {round(step * (len(curve) - 1) / (points - 1)) for step in range(points)}
        near = {epoch + beside for epoch in kept for beside in (0, 1)}
        curve = curve[[place in places or epoch in near for place, epoch in enumerate(curve[:, 0].tolist())]]
    return [(int(epoch), error) for epoch, error in curve.tolist()]


def best_of_each(results: Sequence[VariantResult]) -> list[VariantResult]:
    """Return the result with the lowest error of each data set and augmentation that has two or more errors."""
    groups: dict[tuple[str, str], list[VariantResult]] = {}
    for result in results:
        if result.error is not None:
            groups.setdefault(result.cell[:2], []).append(result)
    return [min(group, key=lambda r: r.error or 0.0) for group in groups.values() if len(group) > 1]


def verdicts(series: Series) -> list[str]:
    """Return in a sentence for each data set and augmentation which variant has the lowest error, and how surely."""
    results = series.evidence.results
    best = best_of_each(results)
    if not best:
        known = [result for result in results if result.error is not None]
        if not known:
            yet = series.study.reads_test_errors
            return ["No variant has a test error yet." if yet else "No test error was read, since seeds is 0."]
        return [
            f"{series.evidence.label(one)} has a test error of {_in_words(one)}; nothing stands beside it."
            for one in known
        ]
    return [_verdict(one, [r for r in results if r.cell[:2] == one.cell[:2]]) for one in best]


def _verdict(best: VariantResult, results: Sequence[VariantResult]) -> str:
    others = compare(results, best.variant)
    place = best.dataset if best.augmentation == "none" else f"{best.dataset} with {best.augmentation}"
    head = f"On {place}, {best.variant} has the lowest test error, {_in_words(best)}"
    with_error = [other for other in others if other.result.error is not None]
    worse, alike, unknown = (
        [other.result.variant for other in with_error if other.is_clear is wanted] for wanted in (True, False, None)
    )
    parts = []
    if worse:
        every = len(worse) == len(with_error)
        parts.append(f"significantly lower than {'every other' if every else f'that of {_listed(worse)}'}")
    if alike:
        parts.append(f"not significantly different from {_listed(alike)}")
    if unknown:
        parts.append(f"too few seeds to compare it with {_listed(unknown)}")
    return f"{head}{': ' if parts else ''}{'; '.join(parts)}."


def _in_words(result: VariantResult) -> str:
    assert result.error is not None, "only results with an error come here"
    if result.half_width is None:
        return f"{100 * result.error:.2f} %, of one seed"
    return f"{100 * result.error:.2f} % ± {100 * result.half_width:.2f} ({result.num_seeds} seeds)"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
