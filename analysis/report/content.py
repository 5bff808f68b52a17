"""What a report says, as plain text and numbers: no HTML, no Markdown, no drawing."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from analysis.charts.chart_data import Series, verdicts
from analysis.charts.variants import rate_points
from analysis.checks import findings
from analysis.formats import MISSING, Mark, Row, as_cell, percent
from analysis.results import COUNTED_STATES, Trial, several_places
from analysis.tables import marks_of, notes, table_rows
from search_spaces.dimensions import in_words
from sweep.record.document import Execution, RunDocument
from sweep.record.params import read_params
from sweep.record.schema import FINAL_STATES

_MOST_POINTS_LISTED = 100
"""Rows of the table that stands for a chart."""


_MOST_RATES = 6
"""Learning rates that a cell lists one by one."""


@final
@dataclass(frozen=True, kw_only=True)
class Content:
    """A report without its pictures."""

    name: str
    """The run's."""
    verdicts: Sequence[str]
    facts: Sequence[tuple[str, str]]
    """A few figures of the whole run, with what they are."""
    rows: Sequence[Row]
    """The comparison table, as `python -m analysis table` prints it."""
    marks: Mapping[tuple[int, str], Mark]
    remarks: Sequence[str]
    findings: Sequence[str]
    failures: Sequence[Row]
    stopped: Sequence[Row]
    numbers: Mapping[str, Sequence[Row]]
    """By a chart's name, the numbers that it shows."""
    trials: Sequence[Row]
    """Every trial."""
    provenance: Sequence[tuple[str, str]]


def content_of(series: Series, name: str) -> Content:
    """Return what a report of the run `name` says."""
    evidence = series.evidence
    results, document = evidence.results, evidence.document
    remarks = notes(results, document)
    rows = table_rows(results, document)
    marks, marked = marks_of(results, document)
    return Content(
        name=name,
        verdicts=verdicts(series),
        facts=_facts(series),
        rows=rows,
        marks=marks,
        remarks=[*marked, *remarks],
        findings=findings(evidence),
        failures=_failures(series),
        stopped=_stopped(series),
        numbers=_numbers(series),
        trials=[_trial_row(series, trial) for trial in evidence.trials],
        provenance=provenance(document, evidence.trials),
    )


def _facts(series: Series) -> list[tuple[str, str]]:
    trials, document = series.evidence.trials, series.evidence.document
    states = Counter(trial["state"] for trial in trials)
    ended = sum(states[state] for state in FINAL_STATES)
    facts = [("trials have ended", f"{ended:,} of {document.planned_trials:,}")]
    facts += [(state, f"{states[state]:,}") for state in COUNTED_STATES[1:] if states[state]]
    facts.append(("epochs trained", f"{sum(trial['epochs_run'] or 0 for trial in trials):,}"))
    facts += [(what, amount) for what, amount, _ in _costs(document, trials)]
    return facts


def _costs(document: RunDocument, trials: Sequence[Trial]) -> list[tuple[str, str, str]]:
    """Return what was paid for, how much of it, and how that was reckoned."""
    seconds: dict[str, float] = {}
    for trial in trials:
        kind = "CPU" if (trial["device"] or "cpu") == "cpu" else "GPU"
        seconds[kind] = seconds.get(kind, 0.0) + (trial["duration_s"] or 0)
    workers = document.workers or 1  # 0: each trial trains in its own process
    found = []
    for kind, total in sorted(seconds.items()):
        asked = document.placement.gpus_per_trial if kind == "GPU" else None
        per_trial = float(workers if asked is None else asked)
        hours = total / 3600 * per_trial
        how = f"durations of all trials x {per_trial:g} {kind}{'' if per_trial == 1 else 's'} of each"
        found.append((f"{kind}-hours", f"{hours:.2f}" if hours < 100 else f"{hours:,.0f}", how))
    return found


def _failures(series: Series) -> list[Row]:
    return [
        {
            "trial": trial["trial_id"],
            "variant": trial["variant"],
            "state": trial["state"],
            **_configuration(series, trial),
            "seed": str(trial["seed"]),
            "epochs": str(trial["epochs_run"] or 0),
            "reason": trial["reason"] or MISSING,
        }
        for trial in series.evidence.trials
        if trial["state"] in ("diverged", "failed")
    ]


def _stopped(series: Series) -> list[Row]:
    return [
        {
            "variant": row.label,
            "trials": str(row.trials),
            "stopped": str(row.stopped),
            "epochs run": f"{row.epochs_run:,}",
            "epochs saved": f"{row.saved:,}",
            "saved %": f"{100 * row.saved / row.epochs_budget:.0f}" if row.epochs_budget else MISSING,
            "stopped at learning rate": _rates(row.stopped_rates),
        }
        for row in series.stopped
    ]


def _rates(rates: Sequence[float]) -> str:
    """Return learning rates in words, each with how often it is there, or from the lowest to the highest of many."""
    counts = Counter(rates)
    if len(counts) > _MOST_RATES:
        return f"{min(counts):.3g} to {max(counts):.3g}"
    return ", ".join(f"{rate:g} ({count})" for rate, count in sorted(counts.items())) or MISSING


def _numbers(series: Series) -> dict[str, list[Row]]:
    comparison = [
        {
            "variant": bar.label,
            "test error %": percent(bar.error),
            "± 95 %": percent(bar.half_width),
            "seeds": str(bar.seeds),
            "parameters": as_cell(bar.parameters, ","),
            "images/s": as_cell(bar.images_per_s, ",.0f"),
            **({} if all(b.paper is None for b in series.bars) else {"paper %": percent(bar.paper)}),
        }
        for bar in series.bars
    ]
    rates = [
        {
            "variant": panel.label,
            "learning rate": f"{rate:g}",
            f"{series.criterion} %": percent(error),
            "completed": str(count),
        }
        for panel in series.panels
        for rate, error, count in rate_points(series, panel)
    ]
    return {
        "comparison": comparison,
        "error-parameters": comparison,
        "error-speed": comparison,
        "sensitivity": rates[:_MOST_POINTS_LISTED],
    }


def _trial_row(series: Series, trial: Trial) -> Row:
    several = several_places(series.evidence.results)
    place = {"data set": trial["dataset"], "augmentation": trial["augmentation"]} if several else {}
    return {
        **place,
        "variant": trial["variant"],
        "phase": trial["phase"],
        **_configuration(series, trial),
        "seed": str(trial["seed"]),
        "state": trial["state"],
        "epochs": f"{trial['epochs_run'] or 0}/{trial['epochs_budget']}",
        "validation %": percent(trial["val_error"]),
        "test %": percent(trial["test_error"]),
        "seconds": as_cell(trial["duration_s"], ",.0f"),
        "images/s": as_cell(trial["images_per_s"], ",.0f"),
    }


def _configuration(series: Series, trial: Trial) -> Row:
    params = {"lr": trial["lr"], **read_params(trial["params"])}
    # A trial may lack a hyperparameter that another has, and all rows have the same columns.
    return {heading: in_words(params[name]) if name in params else MISSING for name, heading in series.headings.items()}


def provenance(document: RunDocument, trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Return by which command, code and packages, on what and with which data a run was made."""
    lines = []
    for number, execution in enumerate(document.executions):
        lines += _origin(execution, f"resumed {number}: " if number else "")
    for name, data in document.data.items():
        made = ", generated" if data.generated else ""
        sizes = f"{data.train_images:,} training images, {data.test_images:,} test images"
        lines.append((f"data {name}", f"{sizes}{made}; checksum {data.checksum}"))
    kinds = Counter(
        ", ".join(
            [str(trial[name]) for name in ("node", "device", "precision", "memory_format") if trial[name]]
            + ["compiled"] * bool(trial["compiled"])
        )
        for trial in trials
    )
    lines += [("trained on", f"{kind}: {count} trials") for kind, count in kinds.most_common(10) if kind]
    lines += [(what, f"{amount} ({how})") for what, amount, how in _costs(document, trials)]
    lost = sum(trial["preemptions"] or 0 for trial in trials)
    if lost:
        lines.append(("nodes lost", f"{lost} times a trial lost its node and was begun again"))
    return lines


def _origin(entry: Execution, prefix: str) -> list[tuple[str, str]]:
    code, hardware = entry.code, entry.hardware
    altered = {True: ", altered since", False: ", unaltered", None: ""}[code.altered]
    gpu = f", {hardware.gpu}" if hardware.gpu else ""
    system = f"{hardware.machine}, {hardware.system}"
    lines = [
        ("begun", entry.created),
        ("command", shlex.join(entry.command)),
        ("code", f"commit {code.commit}{altered}" if code.commit else "not recorded"),
        ("packages", ", ".join(f"{name} {version}" for name, version in entry.packages.items())),
        ("hardware", f"{hardware.cpus} CPUs, {hardware.gpus} GPUs{gpu}; {system}"),
    ]
    if entry.gpu_sharing:
        lines.append(("GPUs shared by", entry.gpu_sharing))
    return [(f"{prefix}{what}", text) for what, text in lines]
