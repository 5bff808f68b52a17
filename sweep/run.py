"""`python -m sweep.run [STUDY] [options]`: run a study and print its table.

Exit status 0 when every planned trial ended in a known state, 1 when some failed, 2 for bad input, 130 after Ctrl-C.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, final

from rich.console import Console

from sweep.cluster import address_of, connect, this_machine
from sweep.display import Progress, show_plan
from sweep.execution import run_trials
from sweep.options import RunOptions, parse
from sweep.plan import Plan, check_study, make_plan, open_data
from sweep.provenance import describe_run
from sweep.records import FINAL_STATES
from sweep.store import Store, check_name
from sweep.studies import STUDIES, Study
from trainables.registry import load_plugins

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@final
class Interruption:
    """Whether the user asked for the end: with Ctrl-C, or with the signal that `ray job stop` sends."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        """Return whether it was asked for."""
        return self.is_set

    @contextmanager
    def listening(self) -> Iterator[None]:
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
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(soft_wrap=True)
    try:
        parsed = parse(arguments)
        return OK if parsed is None else _run(*parsed, arguments, console)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted before the first trial; nothing was recorded.", file=sys.stderr)
        return INTERRUPTED


def _run(study_name: str | None, options: RunOptions, arguments: list[str], console: Console) -> int:
    load_plugins(options.plugins or ())
    address = address_of(options.address)
    if options.resume:
        store, study, recorded = _open_run(study_name, options)
    else:
        study, recorded = _choose_study(study_name, options, address, console), {}
        store = _new_run(study, options)
    plan_on = partial(
        make_plan,
        study,
        parameters=check_study(study),
        datasets=open_data(study),
        workers=options.workers_per_trial,
        gpus=options.gpus_per_trial,
        max_concurrent=options.max_concurrent,
    )
    if address is None:
        # What does not fit this machine is refused before Ray starts on it.
        plan = plan_on(cluster=this_machine())
        if options.dry_run:
            show_plan(plan, console)
            return OK
    with connect(address) as cluster:
        plan = plan_on(cluster=cluster)
        show_plan(plan, console)
        return OK if options.dry_run else _execute(plan, store, recorded, arguments, console)


def _choose_study(name: str | None, options: RunOptions, address: str | None, console: Console) -> Study:
    if name is None:
        # A cluster is taken to be there for the paper's study; a machine alone must show a GPU.
        gpus = this_machine().gpus
        name = "cifar10" if gpus or address else "quickstart"
        reason = f"joining {address}" if address else f"this machine has {gpus} GPU(s)"
        console.print(f"No study was named: running {name}, since {reason}.", highlight=False)
    if options.data is None:
        # A run that goes on keeps the location that it recorded.
        options = replace(options, data=os.environ.get("SWEEP_DATA") or None)
    return options.apply(STUDIES[name]())


def _new_run(study: Study, options: RunOptions) -> Store:
    made_up = f"{study.name}-{datetime.now():%Y%m%d-%H%M%S}"
    name = check_name(made_up if options.name is None else options.name)
    store = Store(f"{options.output.rstrip('/')}/{name}")
    if "://" not in store.location:
        path = Path(store.location)
        nearest = next(place for place in (path, *path.parents) if place.exists())
        if not nearest.is_dir():
            raise ValueError(f"output must be a folder or a URI, got {options.output!r}: {nearest} is a file.")
    if not store.is_empty():
        raise ValueError(
            f"name must be that of a new run, got {name!r}, whose folder {store.location} is not empty; "
            f"choose another name, or go on with it by --resume --name {name}."
        )
    return store


def _open_run(study_name: str | None, options: RunOptions) -> tuple[Store, Study, dict[str, dict[str, Any]]]:
    if options.name is None:
        raise ValueError("name must say which run to resume, got none; add --name NAME.")
    store = Store(f"{options.output.rstrip('/')}/{check_name(options.name)}")
    recorded_study = Study.from_dict(store.read_study()["study"])
    load_plugins(recorded_study.base.plugins)
    if study_name is not None and study_name != recorded_study.name:
        raise ValueError(f"The study must be the recorded one, {recorded_study.name}, got {study_name!r}.")
    study = options.apply(recorded_study)
    if study != recorded_study:
        recorded_values = RunOptions.describe(recorded_study)
        changed = {key: value for key, value in RunOptions.describe(study).items() if recorded_values[key] != value}
        name, value = next(iter(changed.items()))
        raise ValueError(f"{name} must be as recorded, {recorded_values[name]}, got {value}; leave the option out.")
    return store, study, {row["trial_id"]: row for row in store.read_trials().to_pylist()}


def _execute(
    plan: Plan, store: Store, recorded: dict[str, dict[str, Any]], arguments: list[str], console: Console
) -> int:
    say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
    interruption = Interruption()
    with interruption.listening():
        say(f"{'dashboard':>15}  {plan.cluster.dashboard or 'not known'}")
        say(f"{'record':>15}  {store.location}")
        if recorded:
            keep = {name for name, row in recorded.items() if row["state"] in FINAL_STATES}
            store.merge_epochs(keep)
            recorded = {name: recorded[name] for name in keep}
            say(f"{'resumed':>15}  {len(keep)} of {plan.trials} trials had ended and stay as they are")
        elif not store.exists():
            store.write_study(describe_run(plan, arguments))
        progress = Progress(plan, console, done=len(recorded))
        try:
            rows = run_trials(plan, store, recorded=recorded, is_interrupted=interruption, on_end=progress.trial_ended)
        except KeyboardInterrupt:
            # A second Ctrl-C does not wait for the trials; the record was closed on the way here.
            rows = store.read_trials().to_pylist()
    ended = Counter(row["state"] for row in rows if row["state"] in FINAL_STATES)
    if interruption() and ended.total() < plan.trials:
        say(f"Interrupted; the record is whole. Go on with: {_resume_command(store)}")
        return INTERRUPTED
    _show_table(store)
    if ended["failed"]:
        say(f"\nThe traceback of a failed trial is in {store.location}/tune/*/TRIAL_ID/error.txt.")
    return SOME_FAILED if ended["failed"] or ended.total() < plan.trials else OK


def _resume_command(store: Store) -> str:
    output, _, name = store.location.rpartition("/")
    return shlex.join(["python", "-m", "sweep.run", "--resume", "--output", output, "--name", name])


def _show_table(store: Store) -> None:
    # A process of its own: analysis knows the record, and nothing here knows analysis.
    print(flush=True)
    subprocess.run([sys.executable, "-m", "analysis", "table", store.location], check=False)


if __name__ == "__main__":
    sys.exit(main())
