"""The run's progress as metrics on the cluster's own /metrics page, for Prometheus.

Written by the process that writes the record, from the record's rows alone, through Ray, which puts `ray_` before each
name and `_total` behind a counter's: `sweep_epochs` is scraped as `ray_sweep_epochs_total`. Nothing of the run reads
them, and nothing that goes wrong with them reaches it.
"""

import logging
import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, final
from urllib.parse import urlsplit

import ray.util.metrics

from sweep.record.schema import FINAL_STATES, STATES, TrialRow, cell_of
from sweep.record.selection import criterion_column
from sweep.study.study import Study

logger = logging.getLogger(__name__)

REFRESH_S = 5.0
"""Ray forgets a gauge that was not set again for two of its ten-second reports (Ray 2.60)."""


@final
@dataclass(frozen=True)
class Metric:
    """One metric: what it is called, what tells its series apart, and what it says."""

    name: str
    """Without `ray_` before it and, of a counter, `_total` behind it, which Ray adds."""
    kind: Literal["counter", "gauge"]
    tags: tuple[str, ...]
    about: str


EPOCHS = Metric("sweep_epochs", "counter", ("run", "cell"), "Epochs trained and recorded by this process.")
LAST_EPOCH = Metric(
    "sweep_last_epoch_timestamp_seconds",
    "gauge",
    ("run",),
    "Unix time of the last recorded epoch; before the first, of the start.",
)
EPOCH_SECONDS = Metric(
    "sweep_epoch_seconds",
    "gauge",
    ("run", "cell"),
    "Training time of an epoch, the mean over the epochs of the trial that reported last, in seconds.",
)
TRIALS = Metric(
    "sweep_trials", "gauge", ("run", "state"), "Trials by state; all states together are the planned trials."
)
PLANNED = Metric("sweep_planned_trials", "gauge", ("run",), "Trials of the run, both phases.")
BEST_ERROR = Metric(
    "sweep_best_error_ratio",
    "gauge",
    ("run", "cell"),
    "Lowest error of a configuration in a cell's search so far, the mean over its seeds, in [0, 1], running and "
    "stopped trials included.",
)
IMAGES = Metric(
    "sweep_images_per_second",
    "gauge",
    ("run", "cell"),
    "Training images per second, summed over the trials that are running.",
)

METRICS = (EPOCHS, LAST_EPOCH, EPOCH_SECONDS, TRIALS, PLANNED, BEST_ERROR, IMAGES)

Instrument = Callable[[float, dict[str, str]], None]
"""Where one metric's numbers go, with the tags of their series: a counter adds them, a gauge keeps the last."""

P = ParamSpec("P")


def ray_instrument(metric: Metric) -> Instrument:
    """Return one that shows its numbers on the /metrics page of this process's node, some ten seconds later."""
    # Ray's methods are not typed.
    instrument: Instrument = (
        ray.util.metrics.Counter(metric.name, metric.about, metric.tags).inc
        if metric.kind == "counter"
        else ray.util.metrics.Gauge(metric.name, metric.about, metric.tags).set
    )
    return instrument


def _harmless(method: Callable[Concatenate["RunMetrics", P], None]) -> Callable[Concatenate["RunMetrics", P], None]:
    """Have a method, one at a time, switch the metrics off where it fails: whatever it is, the run goes on."""

    @wraps(method)
    def guarded(self: "RunMetrics", /, *args: P.args, **kwargs: P.kwargs) -> None:
        with self._lock:
            try:
                if not self._is_off:
                    method(self, *args, **kwargs)
            except Exception as error:
                self._is_off = True
                logger.warning("No metrics from here on, the run goes on: %s: %s", type(error).__name__, error)

    return guarded


def run_name(location: str) -> str:
    """Return the name of the run whose folder or URI this is."""
    return Path(urlsplit(location).path if "://" in location else location).name


@final
class RunMetrics:
    """Follows the rows of `trials`. Each change records a few numbers, however many trials there are."""

    def __init__(
        self,
        run: str,
        study: Study,
        planned: int,
        recorded: Mapping[str, TrialRow],
        *,
        make: Callable[[Metric], Instrument] = ray_instrument,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin with what has ended so far.

        Args:
            run: the run's name, the tag `run` of every series.
            study: what is searched.
            planned: trials of the run, both phases.
            recorded: rows of `trials` by trial_id, of a run that goes on.
            make: returns where a metric's numbers go.
            clock: seconds since 1970.
        """
        self._run = run
        self._planned = planned
        self._column = criterion_column(study.protocol)
        self._make = make
        self._clock = clock
        self._is_off = False
        self._instruments: dict[str, Instrument] = {}
        self._shown: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()
        # What was not final when the run was cut off waits to be taken up again.
        ended = {key: row for key, row in recorded.items() if row["state"] in FINAL_STATES}
        self._states: dict[str, str] = {key: row["state"] for key, row in ended.items()}
        self._counts = Counter(self._states.values())
        self._epochs: dict[str, int] = {key: row["epochs_run"] for key, row in recorded.items()}
        # By cell and configuration: each seed's error by trial_id, and their mean. By cell, the lowest mean.
        self._errors: dict[str, dict[str, dict[str, float]]] = {}
        self._means: dict[str, dict[str, float]] = {}
        self._best: dict[str, float] = {}
        self._speeds: dict[str, dict[str, float]] = {}
        self._begin(recorded)

    @_harmless
    def update(self, row: TrialRow) -> None:
        """Note what has changed in a row of `trials`: begun, an epoch further, or ended."""
        self._note_state(row)
        trial_id, cell = row["trial_id"], cell_of(row)
        fresh = row["epochs_run"] - self._epochs.get(trial_id, 0)
        if fresh > 0:
            self._epochs[trial_id] = row["epochs_run"]
            self._record(EPOCHS, fresh, cell=cell)
            self._record(LAST_EPOCH, self._clock())
            self._record(EPOCH_SECONDS, row["train_s"] / row["epochs_run"], cell=cell)
            if row[self._column] is not None:  # after an epoch without a measurement the last one's error stays
                self._note_error(row, row[self._column])
        speeds = self._speeds.setdefault(cell, {})
        if row["state"] != "running":
            speeds.pop(trial_id, None)
        elif fresh > 0 and row["images_per_s"] is not None:
            speeds[trial_id] = row["images_per_s"]
        self._record(IMAGES, sum(speeds.values()), cell=cell)

    @_harmless
    def plan(self, planned: int) -> None:
        """Note how many trials the run has, now that it is known."""
        self._planned = planned
        self._show_plan()

    @_harmless
    def refresh(self) -> None:
        """Set every gauge again to what it shows."""
        for (name, tags), value in self._shown.items():
            self._instruments[name](value, dict(tags))

    def keep_shown(self, ended: threading.Event) -> None:
        """Refresh the gauges until the event, as a thread does; a process that dies is soon seen no more."""
        while not ended.wait(REFRESH_S):
            self.refresh()

    @_harmless
    def _begin(self, recorded: Mapping[str, TrialRow]) -> None:
        self._instruments = {metric.name: self._make(metric) for metric in METRICS}
        self._record(LAST_EPOCH, self._clock())
        for state in STATES:
            self._record(TRIALS, self._counts[state], state=state)
        self._show_plan()
        for row in recorded.values():
            self._note_error(row, row[self._column])

    def _note_state(self, row: TrialRow) -> None:
        before, now = self._states.get(row["trial_id"], "pending"), row["state"]
        if before == now:
            return
        self._states[row["trial_id"]] = now
        for state, step in ((before, -1), (now, 1)):
            # Most of the pending trials have no row yet: they are what is left of the plan.
            if state != "pending":
                self._counts[state] += step
                self._record(TRIALS, self._counts[state], state=state)
        self._show_pending()
        if now in ("diverged", "failed"):
            self._note_error(row, None)

    def _note_error(self, row: TrialRow, error: float | None) -> None:
        # What confirms chooses nothing, and its test errors are for the table, which shows their mean.
        if row["phase"] != "search":
            return
        cell, params = cell_of(row), row["params"]
        seeds = self._errors.setdefault(cell, {}).setdefault(params, {})
        seeds.pop(row["trial_id"], None)
        if error is not None and row["state"] not in ("diverged", "failed"):
            seeds[row["trial_id"]] = error
        means, shown = self._means.setdefault(cell, {}), self._best.get(cell, math.inf)
        before, now = means.get(params, math.inf), statistics.fmean(seeds.values()) if seeds else math.inf
        means[params] = now
        # Only where the best one got worse or is out are the others looked at.
        best = self._best[cell] = min(means.values()) if before == shown else min(now, shown)
        if math.isinf(best):  # no trial is left
            self._shown.pop((BEST_ERROR.name, self._tags(cell=cell)), None)
        elif best != shown:
            self._record(BEST_ERROR, best, cell=cell)

    def _show_plan(self) -> None:
        self._record(PLANNED, self._planned)
        self._show_pending()

    def _show_pending(self) -> None:
        self._record(TRIALS, max(0, self._planned - self._counts.total()), state="pending")

    def _record(self, metric: Metric, value: float, **tags: str) -> None:
        key = self._tags(**tags)
        self._instruments[metric.name](value, dict(key))
        if metric.kind == "gauge":
            self._shown[metric.name, key] = value

    def _tags(self, **tags: str) -> tuple[tuple[str, str], ...]:
        return (("run", self._run), *tags.items())
