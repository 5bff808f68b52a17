"""One execution of a run, from options to table: what `sweep.run` does once it knows what it was asked."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from rich.console import Console

from sweep.cluster.connect import Cluster, connect, end_own_cluster, find_cluster, this_machine
from sweep.cluster.liveness import ClusterLostError, cluster_watched
from sweep.cluster.preflight import check_nodes
from sweep.cluster.runtime_env import check_output
from sweep.cluster.sharing import mps_on_nodes
from sweep.cluster.tunnel import tunnel_command
from sweep.execution.deadline import Deadline
from sweep.execution.plan import Plan, check_study, data_location, make_plan, named_study, open_data, place
from sweep.execution.restart import without_checkpoint
from sweep.execution.tune import run_trials
from sweep.monitor.console import PipeSafeConsole, note, say
from sweep.monitor.lines import Progress, show_notes, show_plan
from sweep.monitor.prometheus import run_name
from sweep.monitor.screen import Look, Trials, View, shown
from sweep.monitor.trackers import check_logs, make_trackers
from sweep.record.damage import salvage_record
from sweep.record.document import RunDocument
from sweep.record.params import describe, write_params
from sweep.record.progress import Scope
from sweep.record.rows import reopened
from sweep.record.schema import FINAL_STATES, TrialRow
from sweep.record.store import Store, run_location
from sweep.resume.provenance import changes, describe_resumption, describe_run, with_gpu_sharing
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
from sweep.search.selected_rates import with_selected_rates
from sweep.search.warm_start import warm_started
from sweep.signals import Interruption
from sweep.study.file import StudyFile
from sweep.study.options import RunOptions
from sweep.study.study import Study, params_of
from trainables.common.files import explain_os_error
from trainables.common.registry import load_plugins
from trainables.config import TrialConfig

Outcome = Literal["all ended", "some failed", "interrupted", "out of time"]


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is needed to run: checked, connected, and its folder held by this process."""

    plan: Plan
    store: Store
    recorded: Mapping[str, TrialRow]
    """Rows of `trials` by trial_id, of a run that goes on."""
    options: RunOptions
    """With the name that was given or made up."""
    console: Console
    interruption: Interruption
    deadline: Deadline
    leave_cluster: Callable[[], None]
    """Lets go of the cluster: the Ray that was started here ends."""


def prepare(
    study_name: str | None, options: RunOptions, arguments: list[str], deadline: Deadline, stack: ExitStack
) -> Prepared | Outcome:
    """Check everything, print the plan and begin the record; how it ended where nothing is to be run.

    Args:
        study_name: what was named on the command line.
        options: the rest of it.
        arguments: the command line as it was typed.
        deadline: when all has to have ended.
        stack: what must be given back at the end: the cluster and the run's folder.

    Raises:
        ValueError: something cannot be done; nothing was written then.
    """
    console = PipeSafeConsole(soft_wrap=True)
    if options.plugins == ():
        raise ValueError("plugins must name at least one Python file, got none.")
    if options.extend and not options.resume:
        raise ValueError("extend must be given with --resume --name NAME, the run that it adds to, got it alone.")
    if options.retry_failed and not options.resume:
        raise ValueError(
            "retry_failed must be given with --resume --name NAME, the run whose trials failed, got it alone."
        )
    if options.rates_from is not None and any(name.rpartition(":")[2] == "lr" for name in options.typed):
        raise ValueError(f"rates_from must be left out where learning rates are given, got {options.rates_from}.")
    if options.only is not None and not options.resume:
        raise ValueError("only must be given with --resume --name NAME, the run some of whose variants it names.")
    file = StudyFile.named_by(study_name)
    if not options.resume or file is not None:
        load_plugins(options.plugins or ())
    named: Study | str | None = study_name
    if file is not None:
        named = file.read()
        if options.plugins is not None:
            options = replace(options, plugins=(*options.plugins, file.path))
    run = recorded_run(named, options) if options.resume else None
    if run is not None:
        check_only(options.only, run.study)
    if run is not None and run.is_done():
        if not options.dry_run and salvage_record(run.store).damages:
            # An ended run is left alone, except for what its checkpoints can put back.
            with run.store.locked(partial(say, console)):
                _mend(run.store, console)
        return _say_ended(run, options, console)
    found = find_cluster(options.address)
    address = None
    if found is not None:
        address = found.address
        say(console, f"Joining the Ray cluster at {address}, named by {found.by}.")
    # A cluster is asked at once what it has; Ray starts here only after this machine was found to be enough.
    joined = stack.enter_context(ExitStack())
    cluster = this_machine() if address is None else joined.enter_context(connect(address))
    recorded: dict[str, TrialRow] = {}
    if run is not None:
        store = run.store
        if not options.dry_run:
            # Before the record is read for good: another process may just have extended it, or written the last rows.
            stack.enter_context(store.locked(partial(say, console)))
            _mend(store, console)
            run = recorded_run(named, options)
        options = recorded_placement(options, run.document)
        recorded = run.trials()
        study = with_recorded_arithmetic(run.study, recorded.values())
    else:
        study = _choose_study(named, options, cluster, console)
        options, store = _new_run(study, options)
        if options.rates_from is not None:
            study = with_selected_rates(study, options.rates_from)
        if options.warm_start is not None:
            study = warm_started(study, options.warm_start)
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
    if address is None and not options.dry_run:
        plan = plan_on(cluster=joined.enter_context(connect(None)))
    show_plan(plan, store.location, console, ended=_count_ended(recorded.values()))
    if options.time_limit is not None:
        show_notes([("time limit", f"trials stop after their epoch, by {deadline.training_ends_at:%H:%M:%S}")], console)
    if run is not None:
        show_notes(_notes(run, plan, recorded, options), console)
    if options.dry_run:
        return "all ended"
    interruption = Interruption(deadline)
    stack.callback(interruption.stop_listening)
    if run is None:
        stack.enter_context(store.locked(partial(say, console)))
        check_nodes(store.location, data_location(study))
        interruption.listen()
        _begin(store, plan, options, arguments)
    else:
        check_nodes(store.location, data_location(study))
        interruption.listen()
        document = describe_resumption(
            run.document,
            plan,
            arguments,
            study=run.study,
            changed=run.changed,
            planned_trials=planned_trials(study, list(recorded.values())),
        )
        _write_study(store, document, options)
    return Prepared(
        plan=plan,
        store=store,
        recorded=recorded,
        options=options,
        console=console,
        interruption=interruption,
        deadline=deadline,
        leave_cluster=joined.close,
    )


def _count_ended(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["state"] in FINAL_STATES for row in rows)


def _mend(store: Store, console: Console) -> None:
    for sentence in mend(store):
        note(console, "mended", sentence)


def _say_ended(run: Recorded, options: RunOptions, console: Console) -> Outcome:
    rows = run.trials().values()
    say(console, what_ended(rows, options))
    if not options.dry_run:
        _show_table(run.store, console)
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
        for line in left_to_run(plan.study, recorded, run.wanted(recorded), options.only):
            yield "left to run", line


def execute(prepared: Prepared) -> Outcome:
    """Run the trials, print a line for each and the table at the end."""
    plan, store = prepared.plan, prepared.store
    console = prepared.console
    interruption = prepared.interruption
    rows_before = list(prepared.recorded.values())
    progress = Progress(plan, console, done=_count_ended(rows_before))
    progress.planned = planned_trials(plan.study, rows_before)
    note(console, "dashboard", plan.cluster.dashboard or "not known")
    if plan.cluster.dashboard and plan.cluster.address != "this machine":
        note(console, "from elsewhere", tunnel_command(plan.cluster.dashboard))
    trackers = make_trackers(prepared.options.log or (), store, plan.study, partial(say, console))
    try:
        with (
            closing(trackers),
            cluster_watched(partial(_give_up, prepared)),
            _gpus_shared(plan, store, partial(say, console)),
            _shown(prepared) as view,
        ):
            rows = run_trials(
                plan,
                store,
                recorded=prepared.recorded,
                is_interrupted=lambda: interruption() or bool(store.lost_to),
                on_end=progress.trial_ended,
                on_loss=progress.trial_lost,
                on_wait=progress.trials_wait,
                on_confirm=partial(_begin_confirmation, prepared, progress, view),
                on_trouble=progress.record_troubled,
                trackers=trackers,
                on_row=view.trials.update,
                deadline=prepared.deadline,
                only=prepared.options.only,
            )
    except ClusterLostError as error:
        interruption.stop_listening()
        say(console, _lost(prepared, str(error)))
        return "some failed"
    except OSError as error:
        interruption.stop_listening()
        if store.lost_to:
            writer = f"The run is written by another process now, {store.lost_to}"
            say(console, f"{writer}, since this one was silent; it has ended.")
        else:
            say(
                console,
                f"The record could not be written ({explain_os_error(error)}). Make room, or mend the way to it, and go on with: "
                f"{_resume_command(prepared)}",
            )
        return "some failed"
    except KeyboardInterrupt:
        # A second Ctrl-C does not wait for the trials; what they reported is in the record.
        rows = store.trial_rows()
    interruption.stop_listening()
    # What was completed with fewer epochs than the study has by now is not done.
    now = reopened({row["trial_id"]: row for row in rows}, plan.study.epochs).values()
    states = Counter(row["state"] for row in now if row["state"] in FINAL_STATES)
    missing = progress.planned - states.total()
    if interruption() and missing:
        say(console, f"Interrupted; the record is whole. Go on with: {_resume_command(prepared)}")
        return "interrupted"
    if prepared.deadline.is_near and missing:
        return _out_of_time(prepared, missing)
    if prepared.options.only is not None and missing:
        left = _left(missing, "other trial")
        say(console, f"Only {', '.join(prepared.options.only)} ran; {left}. Resume with: {_resume_command(prepared)}")
        return "some failed" if states["failed"] else "all ended"
    _show_table(store, console, prepared.leave_cluster)
    if states["failed"]:
        say(console, f"\nThe traceback of a failed trial is in {store.folder('failures')}.")
    if missing:
        left = f"{missing} of {progress.planned} trials have not ended"
        say(console, f"\n{left}. Go on with: {_resume_command(prepared)}")
    return "some failed" if states["failed"] or missing else "all ended"


def _out_of_time(prepared: Prepared, missing: int) -> Outcome:
    if not prepared.deadline.epochs and not prepared.interruption.is_terminated:
        # With status 75 a script or a batch system would resume the run without end.
        say(
            prepared.console,
            f"No epoch ended within the time limit. Everything is saved; {_left(missing)}. "
            f"Resume with a longer --time-limit: {_resume_command(prepared)}",
        )
        return "some failed"
    why_now = "Stopped by SIGTERM" if prepared.interruption.is_terminated else "Out of time"
    say(
        prepared.console,
        f"{why_now}. Everything is saved; {_left(missing)}. Resume with: {_resume_command(prepared)}",
    )
    return "out of time"


def _left(count: int, what: str = "trial") -> str:
    return f"1 {what} is left" if count == 1 else f"{count:,} {what}s are left"


def _lost(prepared: Prepared, reason: str) -> str:
    return f"The Ray cluster was lost: {reason}. The record is whole. Go on with: {_resume_command(prepared)}"


def _give_up(prepared: Prepared, reason: str) -> None:
    """End this process, whose main thread hangs: what is not written yet, trials report once more from checkpoints."""
    # To the screen itself: what is printed meanwhile goes to the run's log.
    view = prepared.interruption.view
    with suppress(OSError):
        if view is not None:
            view.close()
        os.write(1 if view is None else view.out, f"\n{_lost(prepared, reason)}\n".encode())
    end_own_cluster()
    os._exit(1)


@contextmanager
def _gpus_shared(plan: Plan, store: Store, say: Callable[[str], object]) -> Iterator[None]:
    """Have trials that share a GPU compute on it at the same time where nodes can, and record whether they did."""
    if not plan.placement.shares_gpu:
        yield
        return
    with mps_on_nodes(say) as sharing:
        way = sharing.way
        store.write_run(with_gpu_sharing(store.read_run(), way))
        yield
        if sharing.way != way:  # nodes have joined
            store.write_run(with_gpu_sharing(store.read_run(), sharing.way))


@contextmanager
def _shown(prepared: Prepared) -> Iterator[View]:
    """Show the run on the screen until the context ends, and keep all else that is printed in its log."""
    plan, store = prepared.plan, prepared.store
    scope = Scope.of(plan.study, run_name(store.location), plan.trials)
    trials = Trials(scope, prepared.recorded)
    look = Look(plain=prepared.options.plain, dashboard=plan.cluster.dashboard, is_stopping=prepared.interruption)
    with shown(store, trials, prepared.console, look) as view:
        prepared.interruption.descriptor, prepared.interruption.view = view.errors, view
        try:
            yield view
        finally:
            prepared.interruption.descriptor, prepared.interruption.view = 2, None


def _begin_confirmation(prepared: Prepared, progress: Progress, view: View, wanted: Mapping[str, TrialConfig]) -> None:
    """Say what is confirmed, and keep how many trials the run has now that it is known."""
    study, rows = prepared.plan.study, prepared.recorded
    progress.planned = planned_trials(study, list(rows.values()), wanted)
    only = prepared.options.only
    dealt = {key: config for key, config in wanted.items() if only is None or config.variant in only}
    before = {key: rows[key] for key in dealt if key in rows}
    progress.done -= _count_ended(before.values()) - _count_ended(reopened(before, study.epochs).values())
    view.trials.plan(progress.planned)
    prepared.store.write_run(replace(prepared.store.read_run(), planned_trials=progress.planned))
    chosen: dict[str, list[str]] = {}
    for config in dealt.values():
        said = describe(write_params(params_of(config, study.space_of(config.variant))), ", ", long=True)
        if said not in chosen.setdefault(config.cell, []):
            chosen[config.cell].append(said)
    for cell, configurations in chosen.items():
        note(prepared.console, "confirming", f"{cell}: {'; '.join(configurations)}")


def _choose_study(name: Study | str | None, options: RunOptions, cluster: Cluster, console: Console) -> Study:
    if name is None:
        name = "cifar10" if cluster.gpus else "quickstart"
        has = "has a GPU" if cluster.gpus else "has no GPU"
        say(console, f"No study was named: running {name}, since {cluster.address} {has}.")
    if options.data is None:
        # A run that goes on keeps the location that it recorded.
        options = replace(options, data=os.environ.get("SWEEP_DATA") or None)
    return options.apply(name if isinstance(name, Study) else named_study(name))


def _new_run(study: Study, options: RunOptions) -> tuple[RunOptions, Store]:
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


def _begin(store: Store, plan: Plan, options: RunOptions, arguments: list[str]) -> None:
    if store.exists():  # another process was faster
        raise ValueError(f"name must be that of a new run, got {options.name!r}, which has just been begun.")
    _write_study(store, describe_run(plan, arguments), options)


def _write_study(store: Store, document: RunDocument, options: RunOptions) -> None:
    try:
        store.write_run(document)
    except OSError as error:
        raise ValueError(
            f"output must be where this user can write, got {options.output!r} ({explain_os_error(error)})."
        ) from error


def _resume_command(prepared: Prepared) -> str:
    options = prepared.options
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    address = ["--address", options.address] if options.address else []
    assert options.name is not None, "made up where none was given"
    return shlex.join(
        [python, "-m", "sweep.run", "--resume", "--output", options.output, "--name", options.name, *address]
    )


def _show_table(store: Store, console: Console, meanwhile: Callable[[], None] = lambda: None) -> None:
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
