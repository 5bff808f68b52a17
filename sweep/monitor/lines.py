"""What a run says in the terminal: the plan, a line for each trial that ended, what comes next."""

import math
from collections.abc import Iterable, Mapping
from typing import final

from rich.console import Console
from rich.table import Table

from sweep.execution.plan import Plan
from sweep.monitor.console import note, say
from sweep.monitor.optuna_journal import JOURNAL
from sweep.monitor.screen import Trials
from sweep.record.params import label
from sweep.record.progress import estimate_left, eta_in_words, outcome_in_words, trial_in_words
from sweep.record.schema import FINAL_STATES, TrialRow
from sweep.study.study import FIRST_FRESH_SEED, Study
from trainables.common.files import explain_os_error
from trainables.config import ArchitectureConfig
from trainables.recipe import recipe_of

ESTIMATES = 500
"""How often a run estimates the time that is left, at most."""

_COMPILED = {"auto": "compiled where a trial is long enough on a GPU", "yes": "compiled", "no": "not compiled"}


def show_plan(plan: Plan, location: str, console: Console, *, ended: int = 0) -> None:
    """Print cells, trials, epochs and what fits.

    Args:
        plan: what is to run.
        location: where the record is, or would be.
        console: where to print.
        ended: trials that ended in an earlier execution of the run.
    """
    study, base = plan.study, plan.study.base
    table = Table(title=f"Study {study.name}", title_justify="left", box=None, pad_edge=False)
    for heading in ("cell", "parameters", "trials"):
        table.add_column(heading, justify="left" if heading == "cell" else "right", no_wrap=True, overflow="fold")
    for cell, count in plan.parameters.items():
        variant = cell.rpartition("/")[2]
        phases = (study.points_of(variant), study.confirmed_of(variant))
        table.add_row(cell, f"{count:,}", " + ".join(f"{trials:,}" for trials in phases if trials))
    console.print(table)
    images = ", ".join(f"{name} {len(data.train):,} + {len(data.test):,}" for name, data in plan.datasets.items())
    size = plan.placement.workers
    each = f"each in {_count(size, 'worker')} of its own" if size else "each in a process of its own"
    lines = {
        **_space(study),
        "warm start": _warm_start(study),
        "images": f"{images} (training + test), {base.preprocessing}"
        + (f", placed into {base.canvas}x{base.canvas} px" if base.canvas else ""),
        "arithmetic": f"{base.precision}, {base.memory_format}"
        + (" (what is clearly faster where a trial runs)" if "auto" in (base.precision, base.memory_format) else "")
        + f", {_COMPILED[base.compiled]}",
        "training": _line(study, _training(study)),
        "network": _line(study, _network(base.architecture)),
        **_recipes(study),
        "protocol": f"{_protocol(study)}; early stopping: {_early_stopping(study)}",
        "total": f"{_count(plan.trials, 'trial')}, {_count(plan.epochs, 'epoch')}"
        + (f"; ended before: {_count(ended, 'trial')}" if ended else ""),
        "where": f"{plan.cluster.address} with {_count(plan.cluster.cpus, 'CPU')} and "
        f"{_count(plan.cluster.gpus, 'GPU')}{' once it has grown' if plan.cluster.grown else ''}: "
        f"{_count(plan.slots, 'trial')} at once, {each}",
        "waiting for": _waiting(plan),
        "record": location,
        "optuna journal": "left out, since the record is at a URI and a journal is kept in folders only"
        if "://" in location
        else f"{location}/{JOURNAL}",
    }
    show_notes(((heading, line) for heading, line in lines.items() if line), console)


def show_notes(notes: Iterable[tuple[str, str]], console: Console) -> None:
    """Print lines under their headings, below a plan."""
    for heading, line in notes:
        note(console, heading, line)


@final
class Progress:
    """Prints a line for each trial that ended, with the time that the rest may take."""

    def __init__(self, trials: Trials, console: Console) -> None:
        """Begin.

        Args:
            trials: the run's, told of each change before this is.
            console: where to print.
        """
        self._trials = trials
        self._console = console
        self._eta, self._said_at = "", -math.inf

    def trial_ended(self, row: TrialRow) -> None:
        """Print one trial's outcome, how many trials have ended, and when the rest may."""
        rows, planned = self._trials.seen(), self._trials.scope.planned
        ended = sum(each["state"] in FINAL_STATES for each in rows)
        # An estimate looks at every row: with 5,000 of them it takes 9 ms of the driver's time.
        if ended - self._said_at >= planned / ESTIMATES or ended == planned:
            # The place that the trial has left goes to one that waits.
            at_once = min(1 + sum(each["state"] == "running" for each in rows), planned - ended)
            self._eta = eta_in_words(self._trials.scope, estimate_left(self._trials.scope, rows, at_once=at_once))
            self._said_at = ended
        eta = self._eta
        say(
            self._console,
            f"[{ended}/{planned}] {outcome_in_words(row)}, {row['epochs_run']} epochs in {row['duration_s']:.0f} s"
            f"{f'; {eta}' if eta else ''}",
        )

    def trial_lost(self, row: TrialRow) -> None:
        """Print that a trial lost its node, or that it is retried for another reason."""
        is_node = row["fault"] == "node lost"
        what, where = ("node lost", "elsewhere") if is_node else ("retried", f"in isolation: {row['reason']}")
        note(self._console, what, f"{trial_in_words(row)} had {row['epochs_run']} epochs and resumes {where}")

    def record_troubled(self, error: OSError | None) -> None:
        """Print that the record cannot be written, or that it can be again."""
        message = "is written again" if error is None else f"cannot be written, retrying: {explain_os_error(error)}"
        note(self._console, "record", message)

    def trials_wait(self, waiting: int, running: int) -> None:
        """Print that trials wait for room on the cluster."""
        run = "runs" if running == 1 else "run"
        note(self._console, "waiting", f"{_count(waiting, 'trial')} for room on the cluster, while {running:,} {run}")


def _line(study: Study, words: Mapping[str, str]) -> str:
    """Return what trials have in common: words by hyperparameter, without those that every cell searches."""
    spaces = [study.space_of(variant) for variant in study.variants]
    return ", ".join(
        text
        for name, text in words.items()
        if text and not all(name in space and not space[name].condition for space in spaces)
    )


def _training(study: Study) -> dict[str, str]:
    base = study.base
    return {
        "epochs": _count(base.epochs, "epoch"),
        "": _schedule(study),
        "batch_size": f"batches of {base.batch_size:,}",
        "weight_decay": f"weight decay {base.weight_decay:g}",
    }


def _network(network: ArchitectureConfig) -> dict[str, str]:
    return {
        "width": f"width {network.width:g}",
        "input_dropout": f"dropout {network.input_dropout:g} on the input",
        "dropout": f"dropout {network.dropout:g} after downsampling",
        "initialisation": f"{network.initialisation} initialisation",
        "class_relu": "ReLU on the class layer" if network.class_relu else "no ReLU on the class layer",
    }


def _space(study: Study) -> dict[str, str]:
    """Return a line for each dimension of the search, the first with how it is searched."""
    lines = {_heading(name): str(dimension) for name, dimension in study.space.items()}
    for variant, space in study.spaces.items():
        lines |= {f"{variant}: {label(name)}": str(dimension) for name, dimension in space.items()}
    return lines | {"search": f"{study.search}, {_count(study.search_seeds, 'seed')} from {study.base.seed}"}


def _heading(name: str) -> str:
    return {"lr": "learning rates", "batch_size": "batch sizes", "weight_decay": "weight decays"}.get(name, label(name))


def _waiting(plan: Plan) -> str:
    if plan.slots_now == plan.slots:
        return ""
    up = len(plan.cluster.nodes)
    return (
        f"nodes: the {_count(up, 'node')} up now {'has' if up == 1 else 'have'} room for "
        f"{_count(plan.slots_now, 'trial')}, and the cluster grows as trials ask for more"
    )


def _warm_start(study: Study) -> str:
    if study.warm_start is None:
        return ""
    points, skipped = study.warm_start.points, study.warm_start.skipped
    cells = _count(len({point.cell for point in points}), "cell")
    return f"{_count(len(points), 'trial')} of {study.warm_start.run} in {cells}, {skipped:,} skipped"


def _recipes(study: Study) -> dict[str, str]:
    """Return a line for each recipe that a variant of the study names: its settings in words."""
    named = {recipe_of(variant) for variant in study.variants}
    return {
        f"recipe {recipe.name}": ", ".join(_setting(name, value) for name, value in recipe.settings.items())
        for recipe in study.recipes
        if recipe.name in named
    }


def _setting(name: str, value: object) -> str:
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value:g}" if isinstance(value, int | float) else f"{words} {value}"


def _protocol(study: Study) -> str:
    if study.protocol == "paper":
        return "paper, errors on the test images"
    tune = (
        f"holdout: tune on {100 - 100 * study.validation:g} % of the training set, validate on "
        f"{100 * study.validation:g} % (last-epoch error)"
    )
    if not study.confirm_seeds:
        return f"{tune}; no test error is read, since seeds is 0"
    several = f" {study.confirm_top} configurations" if study.confirm_top > 1 else " configuration"
    return (
        f"{tune}; then retrain the best{several} of each cell on all of it, {_count(study.confirm_seeds, 'seed')} from "
        f"{study.base.seed + FIRST_FRESH_SEED}"
    )


def _early_stopping(study: Study) -> str:
    if study.early_stopping == "none":
        return "none"
    if not study.rungs:
        return f"{study.early_stopping}, which stops nothing in {_count(study.base.epochs, 'epoch')}"
    judged_by = " by the error of averaged weights" if study.early_stopping == "halving" else ""
    rungs = ", ".join(map(str, study.rungs))
    return f"{study.early_stopping}, one in {study.keep_one_in} goes on{judged_by} after epoch {rungs}"


def _schedule(study: Study) -> str:
    """Return how the learning rate changes, as far as no cell searches that."""
    base, searched = study.base, study.searched
    parts = []
    if base.warmup_epochs and "warmup_epochs" not in searched:
        parts.append(f"rising over the first {base.warmup_epochs:g}")
    # Of a few epochs several drops can fall on one, and one on the end, where it changes nothing.
    are_shares = "epochs" in searched
    drops = [drop for drop in base.drops if drop < 1] if are_shares else base.drop_epochs
    for drop in sorted({drop for drop in drops if are_shares or drop < base.epochs}):
        passed = sum(other <= drop for other in drops)
        how = "lower" if "drop_factor" in searched else f"x {base.drop_factor**passed:.3g}"
        parts.append(f"{how} after {f'{100 * drop:.3g} %' if are_shares else drop}")
    if parts:
        return f"learning rate {', '.join(parts)}"
    return "" if "warmup_epochs" in searched else "constant learning rate"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
