"""One execution of a run, from options to table: what `sweep.run` does once it knows what it was asked."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, final

from rich.console import Console

from sweep.cluster import Cluster, address_of, connect, this_machine
from sweep.display import Progress, show_plan
from sweep.execution import run_trials
from sweep.options import RunOptions
from sweep.plan import Plan, check_study, make_plan, open_data
from sweep.provenance import describe_run
from sweep.records import FINAL_STATES
from sweep.store import Store, run_location
from sweep.studies import STUDIES, Study
from trainables.registry import load_plugins

Outcome = Literal["all ended", "some failed", "interrupted"]

ELSEWHERE = ("data", "plugins")
"""Settings that say where things lie, not what they are: a run may go on from other places."""


@final
class Interruption:
    """Whether the user asked for the end: with Ctrl-C, or with the signal that `ray job stop` sends."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        """Return whether it was asked for."""
        return self.is_set

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Take the first signal as a request; a second one does what it always does."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module's signature
            self.is_set = True
            # To the standard error's descriptor: the signal may have come in the middle of a print.
            os.write(2, b"Stopping the trials and closing the record: some seconds.\n")
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is needed to run: checked, connected, and its folder held by this process."""

    plan: Plan
    store: Store
    recorded: Mapping[str, Mapping[str, Any]]
    """Rows of `trials` by trial_id, of a run that goes on."""
    output: str
    name: str
    console: Console
    interruption: Interruption


def prepare(study_name: str | None, options: RunOptions, arguments: list[str], stack: ExitStack) -> Prepared | None:
    """Check everything, print the plan and begin the record; None where a dry run ends.

    Args:
        study_name: what was named on the command line.
        options: the rest of it.
        arguments: the command line as it was typed.
        stack: what must be given back at the end: the cluster and the run's folder.

    Raises:
        ValueError: something cannot be done; nothing was written then.
    """
    console = Console(soft_wrap=True)
    load_plugins(options.plugins or ())
    address = address_of(options.address)
    # A cluster is asked at once what it has; Ray starts here only after this machine was found to be enough.
    cluster = this_machine() if address is None else stack.enter_context(connect(address))
    if options.resume:
        name, store, study, document = _recorded_run(study_name, options)
        options = replace(options, **_recorded_placement(options, document))
    else:
        study = _choose_study(study_name, options, cluster, console)
        name, store = _new_run(study, options)
        document = None
    plan_on = partial(
        make_plan,
        study,
        parameters=check_study(study),
        datasets=open_data(study),
        workers=options.workers_per_trial,
        gpus=options.gpus_per_trial,
        max_concurrent=options.max_concurrent,
    )
    plan = plan_on(cluster=cluster)
    recorded: dict[str, dict[str, Any]] = {}
    if document is not None:
        _check_data(plan, document)
        recorded = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
    ended = sum(row["state"] in FINAL_STATES for row in recorded.values())
    if address is None and not options.dry_run:
        plan = plan_on(cluster=stack.enter_context(connect(None)))
    show_plan(plan, store.location, console, ended=ended)
    if options.dry_run:
        return None
    stack.enter_context(store.locked())
    interruption = stack.enter_context(Interruption().listening())
    if document is None:
        _begin(store, plan, name, options, arguments)
    elif store.read_study() != document:
        raise ValueError(f"The run must stay as it is while it is resumed, got another study.json in {store.location}.")
    return Prepared(
        plan=plan,
        store=store,
        recorded=recorded,
        output=options.output,
        name=name,
        console=console,
        interruption=interruption,
    )


def execute(prepared: Prepared) -> Outcome:
    """Run the trials, print a line for each and the table at the end."""
    plan, store = prepared.plan, prepared.store
    say = partial(prepared.console.print, highlight=False, soft_wrap=True, markup=False)
    interruption = prepared.interruption
    ended = sum(row["state"] in FINAL_STATES for row in prepared.recorded.values())
    progress = Progress(plan, prepared.console, done=ended)
    say(f"{'dashboard':>15}  {plan.cluster.dashboard or 'not known'}")
    try:
        rows = run_trials(
            plan, store, recorded=prepared.recorded, is_interrupted=interruption, on_end=progress.trial_ended
        )
    except KeyboardInterrupt:
        # A second Ctrl-C does not wait for the trials; the record was closed on the way here.
        rows = store.read_trials().to_pylist()
    states = Counter(row["state"] for row in rows if row["state"] in FINAL_STATES)
    if interruption() and states.total() < plan.trials:
        say(f"Interrupted; the record is whole. Go on with: {_resume_command(prepared)}")
        return "interrupted"
    _show_table(store)
    if states["failed"]:
        say(f"\nThe traceback of a failed trial is in {store.location}/tune/*/TRIAL_ID/error.txt.")
    return "some failed" if states["failed"] or states.total() < plan.trials else "all ended"


def _choose_study(name: str | None, options: RunOptions, cluster: Cluster, console: Console) -> Study:
    if name is None:
        name = "cifar10" if cluster.gpus else "quickstart"
        has = f"has {cluster.gpus} GPUs" if cluster.gpus else "has no GPU"
        console.print(f"No study was named: running {name}, since {cluster.address} {has}.", highlight=False)
    if options.data is None:
        # A run that goes on keeps the location that it recorded.
        options = replace(options, data=os.environ.get("SWEEP_DATA") or None)
    return options.apply(STUDIES[name]())


def _new_run(study: Study, options: RunOptions) -> tuple[str, Store]:
    name = f"{study.name}-{datetime.now():%Y%m%d-%H%M%S}" if options.name is None else options.name
    store = Store(run_location(options.output, name))
    if "://" not in store.location:
        path = Path(store.location)
        nearest = next(place for place in (path, *path.parents) if place.exists())
        if not nearest.is_dir():
            raise ValueError(f"output and name must lead to a folder, got {str(path)!r}: {nearest} is a file.")
        if not os.access(nearest, os.W_OK):
            raise ValueError(f"output must be a folder that can be written to, got {options.output!r}.")
    if store.exists():
        go_on = shlex.join(["--resume", "--output", options.output, "--name", name])
        raise ValueError(
            f"name must be that of a new run, got {name!r}, which is there already; go on with it by {go_on}."
        )
    if not store.is_empty():
        raise ValueError(f"name must be that of a new run, got {name!r}, whose folder {store.location} is not empty.")
    return name, store


def _begin(store: Store, plan: Plan, name: str, options: RunOptions, arguments: list[str]) -> None:
    if store.exists():  # another process was faster
        raise ValueError(f"name must be that of a new run, got {name!r}, which has just been begun.")
    try:
        store.write_study(describe_run(plan, arguments))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"output must be where this user can write, got {options.output!r} ({reason}).") from error


def _recorded_run(study_name: str | None, options: RunOptions) -> tuple[str, Store, Study, dict[str, Any]]:
    if options.name is None:
        raise ValueError("name must say which run to resume, got none; add --name NAME.")
    store = Store(run_location(options.output, options.name))
    document = store.read_study()
    try:
        load_plugins(options.plugins if options.plugins is not None else document["study"]["base"]["plugins"])
        recorded = Study.from_dict(document["study"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{store.location}/study.json must hold a study, got one that cannot be read ({error})."
        ) from error
    if study_name is not None and study_name != recorded.name:
        raise ValueError(f"The study must be the recorded one, {recorded.name}, got {study_name!r}.")
    study = options.apply(recorded)
    was = RunOptions.describe(recorded)
    for setting, value in RunOptions.describe(study).items():
        if value != was[setting] and setting not in ELSEWHERE:
            raise ValueError(f"{setting} must be as recorded, {was[setting]}, got {value}; leave the option out.")
    return options.name, store, study, document


def _recorded_placement(options: RunOptions, document: Mapping[str, Any]) -> dict[str, Any]:
    asked = document.get("placement", {})
    workers = asked.get("workers_per_trial")
    if options.workers_per_trial not in (None, workers):
        # How a trial is split decides which units its dropout drops.
        raise ValueError(
            f"workers_per_trial must be as recorded, {workers or 'auto'}, got {options.workers_per_trial}; "
            "leave the option out."
        )
    return {name: value for name, value in asked.items() if getattr(options, name) is None}


def _check_data(plan: Plan, document: Mapping[str, Any]) -> None:
    for name, data in plan.datasets.items():
        checksum = document["data"].get(name, {}).get("checksum")
        if data.checksum != checksum:
            raise ValueError(
                f"The images of {name} must be those that the run began with, of checksum {str(checksum)[:12]}, "
                f"got {data.checksum[:12]}; name their place with --data."
            )


def _resume_command(prepared: Prepared) -> str:
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return shlex.join([python, "-m", "sweep.run", "--resume", "--output", prepared.output, "--name", prepared.name])


def _show_table(store: Store) -> None:
    # A process of its own: analysis knows the record, and nothing here knows analysis.
    print(flush=True)
    subprocess.run([sys.executable, "-m", "analysis", "table", store.location], check=False)
