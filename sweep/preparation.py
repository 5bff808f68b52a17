"""All that comes before the trials of a run: check what was asked, read the record, print the plan, begin the record.

`new_run` and `resume_run` are the two ways in; what follows is `sweep.session.execute`.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from rich.console import Console

from sweep.cluster.connect import Cluster, connect, find_cluster, this_machine
from sweep.cluster.preflight import check_nodes
from sweep.cluster.runtime_env import check_output
from sweep.execution.deadline import Deadline
from sweep.execution.plan import Plan, check_study, data_location, make_plan, named_study, open_data, place
from sweep.execution.restart import restarted, without_checkpoint
from sweep.monitor.console import PipeSafeConsole, note, say
from sweep.monitor.lines import show_notes, show_plan
from sweep.monitor.trackers import check_logs
from sweep.record.damage import salvage_record
from sweep.record.schema import FINAL_STATES, TrialRow
from sweep.record.store import Store, run_location
from sweep.resume.provenance import changes, describe_resumption, describe_run
from sweep.resume.recorded import (
    Recorded,
    check_only,
    check_same,
    recorded_placement,
    recorded_run,
    what_ended,
    with_recorded_arithmetic,
)
from sweep.resume.remaining import left_to_run
from sweep.resume.repair import mend
from sweep.search.confirm import planned_trials
from sweep.search.earlier_runs import warm_started, with_selected_rates
from sweep.signals import Interruption
from sweep.study.file import StudyFile
from sweep.study.options import RunOptions
from sweep.study.study import Study
from trainables.common.files import explain_os_error
from trainables.common.registry import load_plugins

Outcome = Literal["all ended", "some failed", "interrupted", "out of time"]


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command line asks for, and what must be given back when it is done."""

    named: Study | str | None
    """The study's name, the study of a file, or None."""
    options: RunOptions
    arguments: Sequence[str]
    """The command line as it was typed."""
    deadline: Deadline
    """When all has to have ended."""
    stack: ExitStack
    """Gives back the cluster and the run's folder."""
    console: Console = field(default_factory=lambda: PipeSafeConsole(soft_wrap=True))


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is needed to run: checked, connected, and its folder held by this process."""

    plan: Plan
    store: Store
    recorded: Mapping[str, TrialRow]
    """Rows of `trials` by trial_id, of a run that goes on."""
    request: Request
    """With the name that was given or made up, as one of its options."""
    interruption: Interruption
    leave_cluster: Callable[[], None]
    """Lets go of the cluster: the Ray that was started here ends."""


def prepare(
    study_name: str | None, options: RunOptions, arguments: Sequence[str], deadline: Deadline, stack: ExitStack
) -> Prepared | Outcome:
    """Check everything, print the plan and begin the record; how it ended where nothing is to be run.

    Raises:
        ValueError: something cannot be done; nothing was written then.
    """
    _check_together(options)
    file = StudyFile.named_by(study_name)
    if not options.resume or file is not None:
        load_plugins(options.plugins or ())
    named = study_name if file is None else file.read()
    if file is not None and options.plugins is not None:
        options = replace(options, plugins=(*options.plugins, file.path))
    request = Request(named=named, options=options, arguments=arguments, deadline=deadline, stack=stack)
    return resume_run(request) if options.resume else new_run(request)


def _check_together(options: RunOptions) -> None:
    """Refuse options that do not go together."""
    if options.plugins == ():
        raise ValueError("plugins must name at least one Python file, got none.")
    if options.rates_from is not None and any(name.rpartition(":")[2] == "lr" for name in options.typed):
        raise ValueError(f"rates_from must be left out where learning rates are given, got {options.rates_from}.")
    needs = {
        "extend": (options.extend, "the run that it adds to, got it alone"),
        "retry_failed": (options.retry_failed, "the run whose trials failed, got it alone"),
        "only": (options.only is not None, "the run some of whose variants it names"),
    }
    for name, (is_given, which) in needs.items():
        if is_given and not options.resume:
            raise ValueError(f"{name} must be given with --resume --name NAME, {which}.")


def new_run(request: Request) -> Prepared | Outcome:
    """Begin a run.

    Raises:
        ValueError: something cannot be done; nothing was written then.
    """
    cluster, joined = _cluster(request)
    study = _choose_study(request.named, request.options, cluster, request.console)
    options, store = _new_store(study, request.options)
    if options.rates_from is not None:
        study = with_selected_rates(study, options.rates_from)
    if options.warm_start is not None:
        study = warm_started(study, options.warm_start)
    request = replace(request, options=options)
    plan = _plan(request, study, store, cluster, joined)
    _show(request, plan, store)
    if options.dry_run:
        return "all ended"
    request.stack.enter_context(store.locked(partial(say, request.console)))

    def begin() -> dict[str, TrialRow]:
        if store.exists():  # another process was faster
            raise ValueError(f"name must be that of a new run, got {options.name!r}, which has just been begun.")
        store.write_run(describe_run(plan, request.arguments))
        return {}

    return _prepared(request, plan, store, joined, begin)


def resume_run(request: Request) -> Prepared | Outcome:
    """Resume a run, or extend it.

    Raises:
        ValueError: something cannot be done; the record is as it was then.
    """
    options, console = request.options, request.console
    run = recorded_run(request.named, options)
    check_only(options.only, run.study)
    store = run.store
    if run.is_done():
        if not options.dry_run and salvage_record(store).damages:
            # An ended run is left alone, except for what its checkpoints can put back.
            with store.locked(partial(say, console)):
                _repair(store, console)
        return _say_ended(run, options, console)
    cluster, joined = _cluster(request)
    if not options.dry_run:
        # Before the record is read for good: another process may just have extended it, or written the last rows.
        request.stack.enter_context(store.locked(partial(say, console)))
        _repair(store, console)
        run = recorded_run(request.named, options)
    request = replace(request, options=recorded_placement(options, run.document))
    recorded = run.trials()
    study = with_recorded_arithmetic(run.study, recorded.values())
    plan = _plan(request, study, store, cluster, joined, run)
    _show(request, plan, store, ended=sum(row["state"] in FINAL_STATES for row in recorded.values()))
    show_notes(_notes(run, plan, recorded, request.options), console)
    if options.dry_run:
        return "all ended"

    def begin() -> dict[str, TrialRow]:
        document = describe_resumption(
            run.document,
            plan,
            request.arguments,
            study=run.study,
            changed=run.changed,
            planned_trials=planned_trials(study, list(recorded.values())),
        )
        rows = restarted(store, recorded, options.only)
        store.write_run(document)
        return rows

    return _prepared(request, plan, store, joined, begin)


def _cluster(request: Request) -> tuple[Cluster, ExitStack]:
    """Return the cluster that is to be joined, or this machine, and what lets go of it."""
    found = find_cluster(request.options.address)
    joined = request.stack.enter_context(ExitStack())
    if found is None:
        # Ray starts here only after this machine was found to be enough.
        return this_machine(), joined
    say(request.console, f"Joining the Ray cluster at {found.address}, named by {found.by}.")
    return joined.enter_context(connect(found.address)), joined


def _plan(
    request: Request, study: Study, store: Store, cluster: Cluster, joined: ExitStack, run: Recorded | None = None
) -> Plan:
    """Return the checked plan, on a cluster that is connected unless this is a dry run."""
    options = request.options
    placement: dict[str, Any] = {
        "workers": options.workers_per_trial,
        "gpus": options.gpus_per_trial,
        "max_concurrent": options.max_concurrent,
    }
    if options.log is not None:
        check_logs(options.log, store.location)
    parameters = check_study(study)
    place(cluster, **placement)  # before data are read or downloaded
    plan_on = partial(make_plan, study, parameters=parameters, datasets=open_data(study), **placement)
    plan = plan_on(cluster=cluster)
    if run is not None:
        check_same(plan, run.document)
    if cluster.is_this_machine and not options.dry_run:
        plan = plan_on(cluster=joined.enter_context(connect(None)))
    return plan


def _show(request: Request, plan: Plan, store: Store, *, ended: int = 0) -> None:
    show_plan(plan, store.location, request.console, ended=ended)
    if request.options.time_limit is not None:
        ends = f"trials stop after their epoch, by {request.deadline.training_ends_at:%H:%M:%S}"
        show_notes([("time limit", ends)], request.console)


def _prepared(
    request: Request, plan: Plan, store: Store, joined: ExitStack, begin: Callable[[], Mapping[str, TrialRow]]
) -> Prepared:
    """Check the nodes, take signals as requests, and begin the record by `begin`, which returns rows by trial_id."""
    check_nodes(store.location, data_location(plan.study))
    interruption = Interruption(request.deadline)
    request.stack.callback(interruption.stop_listening)
    interruption.listen()
    try:
        recorded = begin()
    except OSError as error:
        raise ValueError(
            f"output must be where this user can write, got {request.options.output!r} ({explain_os_error(error)})."
        ) from error
    return Prepared(
        plan=plan,
        store=store,
        recorded=recorded,
        request=request,
        interruption=interruption,
        leave_cluster=joined.close,
    )


def _repair(store: Store, console: Console) -> None:
    for sentence in mend(store):
        note(console, "repaired", sentence)


def _say_ended(run: Recorded, options: RunOptions, console: Console) -> Outcome:
    rows = run.trials().values()
    say(console, what_ended(rows, options))
    if not options.dry_run:
        show_table(run.store, console)
    return "some failed" if any(row["state"] == "failed" for row in rows) else "all ended"


def _notes(
    run: Recorded, plan: Plan, recorded: Mapping[str, TrialRow], options: RunOptions
) -> Iterator[tuple[str, str]]:
    """Yield what is to be said of a run that goes on, each line under its heading."""
    for difference in run.changed:
        yield "extended", str(difference)
    for change in changes(run.document, plan):
        yield "note", change
    lost = without_checkpoint(run.store, recorded, options.only)
    again = sum(bool(recorded[trial_id]["epochs_run"]) for trial_id in lost)
    if again:
        count = "1 unfinished trial has" if again == 1 else f"{again} unfinished trials have"
        yield "note", f"{count} no checkpoint: training starts again from epoch 1"
    if options.dry_run:
        wanted = run.wanted(recorded)
        recorded = {key: row | {"epochs_run": 0} if key in lost else row for key, row in recorded.items()}
        for line in left_to_run(plan.study, recorded, wanted, options.only):
            yield "left to run", line


def _choose_study(name: Study | str | None, options: RunOptions, cluster: Cluster, console: Console) -> Study:
    if name is None:
        name = "cifar10" if cluster.gpus else "quickstart"
        has = "has a GPU" if cluster.gpus else "has no GPU"
        say(console, f"No study was named: running {name}, since {cluster.address} {has}.")
    if options.data is None:
        # A run that goes on keeps the location that it recorded.
        options = replace(options, data=os.environ.get("SWEEP_DATA") or None)
    return options.apply(name if isinstance(name, Study) else named_study(name))


def _new_store(study: Study, options: RunOptions) -> tuple[RunOptions, Store]:
    """Return the options with a name, and the store of a run that is not there yet."""
    name = f"{study.name}-{datetime.now():%Y%m%d-%H%M%S}" if options.name is None else options.name
    check_output(options.output)
    store = Store(run_location(options.output, name))
    if "://" not in store.location:
        _check_writable(Path(store.location), options.output)
    if store.exists():
        go_on = shlex.join(["--resume", "--output", options.output, "--name", name])
        raise ValueError(
            f"name must be that of a new run, got {name!r}, which is there already; go on with it by {go_on}."
        )
    if not store.is_empty():
        raise ValueError(f"name must be that of a new run, got {name!r}, whose folder {store.location} is not empty.")
    return replace(options, name=name), store


def _check_writable(folder: Path, output: str) -> None:
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise ValueError(f"output must be a folder that can be made, got {output!r} ({error.strerror}).") from error
    if not nearest.is_dir():
        raise ValueError(f"output and name must lead to a folder, got {str(folder)!r}: {nearest} is a file.")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"output must be a folder that can be written to, got {output!r}.")


def show_table(store: Store, console: Console, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Print the table of a run, and call `meanwhile` while it is made."""
    # A process of its own: analysis knows the record, and nothing here knows analysis.
    console.print()
    sys.stdout.flush()
    words = [sys.executable, "-m", "analysis", "table", store.location]
    # Ctrl-C is for this process alone: the table's would end in a traceback while its modules are loaded.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        table = subprocess.Popen(words)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with table:
        try:
            meanwhile()
            table.wait()
        except KeyboardInterrupt:
            table.kill()
            raise
