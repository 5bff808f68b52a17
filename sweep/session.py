"""One execution of a run, from options to table: what `sweep.run` does once it knows what it was asked."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

from rich.console import Console

from sweep.cluster.code import check_output
from sweep.cluster.connect import Cluster, connect, find_cluster, this_machine
from sweep.cluster.probe import check_nodes
from sweep.cluster.tunnel import tunnel_command
from sweep.display import Progress, show_plan
from sweep.execution import run_trials
from sweep.metrics import run_name
from sweep.options import RunOptions
from sweep.plan import Plan, check_study, data_location, make_plan, open_data, place
from sweep.provenance import changes, describe_resumption, describe_run
from sweep.records import FINAL_STATES
from sweep.screen import Look, Trials, View, shown
from sweep.standing import Scope
from sweep.store import Store, run_location
from sweep.studies import STUDIES, Study
from sweep.warm_start import check_same, warm_started
from trainables.config import TrialConfig
from trainables.files import why
from trainables.registry import load_plugins

Outcome = Literal["all ended", "some failed", "interrupted"]

ELSEWHERE = ("data", "plugins")
"""Settings that say where things lie, not what they are: a run may go on from other places."""


@final
class Interruption:
    """Whether the user asked for the end: with Ctrl-C, or with the signal that `ray job stop` sends."""

    def __init__(self) -> None:
        self.is_set = False
        self.descriptor = 2
        """Where a first signal is answered."""
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Return whether it was asked for."""
        return self.is_set

    def listen(self) -> None:
        """From now on take the first signal as a request; a second one raises KeyboardInterrupt."""
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._note)

    def stop_listening(self) -> None:
        """Leave signals to whom they belonged before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: object) -> None:  # noqa: ARG002 - the signal module's signature
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True
        # To a descriptor, since the signal may have come in the middle of a print; what reads it may have had its own
        # Ctrl-C.
        with suppress(OSError):
            os.write(self.descriptor, b"Stopping the trials and closing the record: some seconds.\n")


@final
class Terminal(Console):
    """rich's console, but a run goes on when what reads its lines has gone."""

    def on_broken_pipe(self) -> None:
        """Say nothing more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that is needed to run: checked, connected, and its folder held by this process."""

    plan: Plan
    store: Store
    recorded: Mapping[str, Mapping[str, Any]]
    """Rows of `trials` by trial_id, of a run that goes on."""
    options: RunOptions
    """With the name that was given or made up."""
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
    console = Terminal(soft_wrap=True)
    if options.plugins == ():
        raise ValueError("plugins must name at least one Python file, got none.")
    load_plugins(options.plugins or ())
    found = find_cluster(options.address)
    address = None
    if found is not None:
        address = found.address
        console.print(f"Joining the Ray cluster at {address}, named by {found.by}.", highlight=False, markup=False)
    # A cluster is asked at once what it has; Ray starts here only after this machine was found to be enough.
    cluster = this_machine() if address is None else stack.enter_context(connect(address))
    document: dict[str, Any] | None = None
    recorded: dict[str, dict[str, Any]] = {}
    if options.resume:
        store, study, document = _recorded_run(study_name, options)
        options = replace(options, **_recorded_placement(options, document))
        if not options.dry_run:
            # Before the rows are read: another process may be about to write the last ones.
            stack.enter_context(store.locked())
        recorded = {row["trial_id"]: row for row in store.read_trials().to_pylist()}
        study = _with_recorded_arithmetic(study, recorded.values())
    else:
        study = _choose_study(study_name, options, cluster, console)
        options, store = _new_run(study, options)
        if options.warm_start is not None:
            study = warm_started(study, options.warm_start)
    placement: dict[str, Any] = {
        "workers": options.workers_per_trial,
        "gpus": options.gpus_per_trial,
        "max_concurrent": options.max_concurrent,
    }
    parameters = check_study(study)
    place(cluster, **placement)  # before data are read or downloaded
    plan_on = partial(make_plan, study, parameters=parameters, datasets=open_data(study), **placement)
    plan = plan_on(cluster=cluster)
    if document is not None:
        _check_same(plan, document)
    if address is None and not options.dry_run:
        plan = plan_on(cluster=stack.enter_context(connect(None)))
    ended = sum(row["state"] in FINAL_STATES for row in recorded.values())
    show_plan(plan, store.location, console, ended=ended)
    if document is not None:
        for change in changes(document, plan):
            console.print(f"{'note':>15}  {change}", highlight=False, soft_wrap=True, markup=False)
    if options.dry_run:
        return None
    interruption = Interruption()
    stack.callback(interruption.stop_listening)
    if document is None:
        stack.enter_context(store.locked())
        check_nodes(store.location, data_location(study))
        interruption.listen()
        _begin(store, plan, options, arguments)
    else:
        check_nodes(store.location, data_location(study))
        interruption.listen()
        _write_study(store, describe_resumption(document, plan, arguments), options)
    return Prepared(
        plan=plan, store=store, recorded=recorded, options=options, console=console, interruption=interruption
    )


def execute(prepared: Prepared) -> Outcome:
    """Run the trials, print a line for each and the table at the end."""
    plan, store = prepared.plan, prepared.store
    say = partial(prepared.console.print, highlight=False, soft_wrap=True, markup=False)
    interruption = prepared.interruption
    ended = sum(row["state"] in FINAL_STATES for row in prepared.recorded.values())
    progress = Progress(plan, prepared.console, done=ended)
    say(f"{'dashboard':>15}  {plan.cluster.dashboard or 'not known'}")
    if plan.cluster.dashboard and plan.cluster.address != "this machine":
        say(f"{'from elsewhere':>15}  {tunnel_command(plan.cluster.dashboard)}")
    try:
        with _shown(prepared) as view:
            rows = run_trials(
                plan,
                store,
                recorded=prepared.recorded,
                is_interrupted=interruption,
                on_end=progress.trial_ended,
                on_loss=progress.trial_lost,
                on_wait=progress.trials_wait,
                on_confirm=partial(_begin_confirmation, prepared, progress, view),
                on_row=view.trials.update,
            )
    except KeyboardInterrupt:
        # A second Ctrl-C does not wait for the trials; what they reported is in the record.
        rows = store.read_trials().to_pylist()
    interruption.stop_listening()
    states = Counter(row["state"] for row in rows if row["state"] in FINAL_STATES)
    missing = progress.planned - states.total()
    if interruption() and missing:
        say(f"Interrupted; the record is whole. Go on with: {_resume_command(prepared)}")
        return "interrupted"
    _show_table(prepared)
    if states["failed"]:
        say(f"\nThe traceback of a failed trial is in {store.folder('tune/*/TRIAL_ID/error.txt')}.")
    if missing:
        say(f"\n{missing} of {progress.planned} trials have not ended. Go on with: {_resume_command(prepared)}")
    return "some failed" if states["failed"] or missing else "all ended"


@contextmanager
def _shown(prepared: Prepared) -> Iterator[View]:
    """Show the run on the screen until the context ends, and keep all else that is printed in its log."""
    plan, store = prepared.plan, prepared.store
    document = {"study": plan.study.to_dict(), "planned_trials": plan.trials}
    best = store.read_best_epochs(plan.study.protocol) if plan.study.criterion == "best-epoch" else None
    trials = Trials(Scope.from_document(document, run_name(store.location)), prepared.recorded, best)
    look = Look(plain=prepared.options.plain, dashboard=plan.cluster.dashboard, is_stopping=prepared.interruption)
    with shown(store, trials, prepared.console, look) as view:
        prepared.interruption.descriptor = view.errors
        try:
            yield view
        finally:
            prepared.interruption.descriptor = 2


def _begin_confirmation(prepared: Prepared, progress: Progress, view: View, wanted: Mapping[str, TrialConfig]) -> None:
    """Say what is confirmed, and keep how many trials the run has now that it is known."""
    progress.planned = prepared.plan.search_trials + len(wanted)
    view.trials.plan(progress.planned)
    prepared.store.write_study(prepared.store.read_study() | {"planned_trials": progress.planned})
    chosen: dict[str, list[str]] = {}
    for config in wanted.values():
        # Words such as "learning rate 0.05, weight decay 0.001" for what was searched.
        words = {name: f"{name.replace('_', ' ')} {getattr(config, name):g}" for name in prepared.plan.study.dimensions}
        words["lr"] = f"learning rate {config.lr:g}"
        said = ", ".join(words.values())
        if said not in chosen.setdefault(config.cell, []):
            chosen[config.cell].append(said)
    for cell, configurations in chosen.items():
        said = f"{'confirming':>15}  {cell}: {'; '.join(configurations)}"
        prepared.console.print(said, highlight=False, soft_wrap=True, markup=False)


def _choose_study(name: str | None, options: RunOptions, cluster: Cluster, console: Console) -> Study:
    if name is None:
        name = "cifar10" if cluster.gpus else "quickstart"
        has = "has a GPU" if cluster.gpus else "has no GPU"
        said = f"No study was named: running {name}, since {cluster.address} {has}."
        console.print(said, highlight=False, markup=False)
    if options.data is None:
        # A run that goes on keeps the location that it recorded.
        options = replace(options, data=os.environ.get("SWEEP_DATA") or None)
    return options.apply(_named_study(name))


def _named_study(name: str) -> Study:
    try:
        study = STUDIES[name]()
    except ValueError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise ValueError(f"The study {name} must be a function that returns a Study, got {error!r} from it.") from error
    if not isinstance(study, Study) or study.name != name:
        got = f"one named {study.name!r}" if isinstance(study, Study) else repr(study)
        raise ValueError(f"The study {name} must return a Study of that name, got {got}.")
    return study


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


def _write_study(store: Store, document: dict[str, Any], options: RunOptions) -> None:
    try:
        store.write_study(document)
    except OSError as error:
        raise ValueError(f"output must be where this user can write, got {options.output!r} ({why(error)}).") from error


def _recorded_run(study_name: str | None, options: RunOptions) -> tuple[Store, Study, dict[str, Any]]:
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
    was, given = RunOptions.describe(recorded), options.study_options()
    # What was typed comes first: it may have changed other settings too.
    for setting, value in sorted(RunOptions.describe(study).items(), key=lambda item: (item[0] not in given, item[0])):
        if value != was[setting] and setting not in ELSEWHERE:
            raise ValueError(f"{setting} must be as recorded, {was[setting]}, got {value}; leave the option out.")
    if options.warm_start is not None:
        check_same(study, options.warm_start)
    return store, study, document


def _recorded_placement(options: RunOptions, document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document["placement"].items() if getattr(options, name) is None}


def _with_recorded_arithmetic(study: Study, rows: Iterable[Mapping[str, Any]]) -> Study:
    """Return the study with the arithmetic of its rows in place of `auto`, which another measurement could change."""
    used = {(row["precision"], row["memory_format"]) for row in rows if row["precision"] is not None}
    if len(used) != 1:
        return study
    ((precision, memory_format),) = used
    return replace(study, base=replace(study.base, precision=precision, memory_format=memory_format))


def _check_same(plan: Plan, document: Mapping[str, Any]) -> None:
    if plan.placement.workers != document["workers"]:
        # How a trial is split decides which units its dropout drops.
        was, now = (workers or "auto" for workers in (document["workers"], plan.placement.workers))
        raise ValueError(f"workers_per_trial must be as recorded, {was}, got {now}; leave the option out.")
    for name, data in plan.datasets.items():
        checksum = document["data"].get(name, {}).get("checksum")
        if data.checksum != checksum:
            raise ValueError(
                f"The images of {name} must be those that the run began with, of checksum {str(checksum)[:12]}, "
                f"got {data.checksum[:12]}; name their place with --data."
            )


def _resume_command(prepared: Prepared) -> str:
    options = prepared.options
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    address = ["--address", options.address] if options.address else []
    assert options.name is not None, "made up where none was given"
    return shlex.join(
        [python, "-m", "sweep.run", "--resume", "--output", options.output, "--name", options.name, *address]
    )


def _show_table(prepared: Prepared) -> None:
    # A process of its own: analysis knows the record, and nothing here knows analysis.
    prepared.console.print()
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "analysis", "table", prepared.store.location], check=False)
