"""One execution of a run, from options to table: what `sweep.run` does once it knows what it was asked."""

import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

from sweep.cluster.connect import end_own_cluster, tunnel_command
from sweep.cluster.liveness import ClusterLostError, cluster_watched
from sweep.cluster.sharing import mps_on_nodes
from sweep.execution.plan import Plan
from sweep.execution.tune import run_trials
from sweep.monitor.console import note, say
from sweep.monitor.followers import Followers
from sweep.monitor.lines import Progress
from sweep.monitor.optuna_journal import open_journal
from sweep.monitor.prometheus import RunMetrics, run_name
from sweep.monitor.screen import Look, Trials, in_background, shown
from sweep.monitor.trackers import make_trackers
from sweep.preparation import Outcome, Prepared, show_table
from sweep.record.params import describe, write_params
from sweep.record.progress import Scope
from sweep.record.schema import FINAL_STATES, TrialRow, reopened
from sweep.record.store import Store
from sweep.resume.provenance import with_gpu_sharing
from sweep.search.confirm import planned_trials
from sweep.study.study import params_of
from trainables.common.files import explain_os_error
from trainables.config import TrialConfig


def execute(prepared: Prepared) -> Outcome:
    """Run the trials, print a line for each and the table at the end."""
    plan, store, recorded, console = prepared.plan, prepared.store, prepared.recorded, prepared.request.console
    planned = planned_trials(plan.study, list(recorded.values()))
    trials = Trials(Scope.of(plan.study, run_name(store.location), planned), recorded)
    note(console, "dashboard", plan.cluster.dashboard or "not known")
    if plan.cluster.dashboard and not plan.cluster.is_this_machine:
        note(console, "from elsewhere", tunnel_command(plan.cluster.dashboard))
    trackers = make_trackers(prepared.request.options.log or (), store, plan.study, partial(say, console))
    followers = Followers(
        trials=trials,
        progress=Progress(trials, console),
        metrics=RunMetrics(run_name(store.location), plan.study, planned, recorded),
        journal=open_journal(store, plan.study, recorded),
        trackers=trackers,
        confirm=partial(_begin_confirmation, prepared, trials),
    )
    try:
        with (
            closing(trackers),
            cluster_watched(partial(_give_up, prepared)),
            _gpus_shared(plan, store, partial(say, console)),
            _shown(prepared, trials),
            in_background(followers.metrics.keep_shown, "metrics"),
        ):
            rows = run_trials(
                plan,
                store,
                recorded=recorded,
                is_interrupted=lambda: prepared.interruption() or bool(store.lost_to),
                listener=followers,
                deadline=prepared.request.deadline,
                only=prepared.request.options.only,
            )
    except ClusterLostError as error:
        say(console, _lost(prepared, str(error)))
        return "some failed"
    except OSError as error:
        say(console, _not_written(prepared, error))
        return "some failed"
    except KeyboardInterrupt:
        # A second Ctrl-C does not wait for the trials; what they reported is in the record.
        rows = store.trial_rows()
    finally:
        prepared.interruption.stop_listening()
    return _conclude(prepared, rows, trials.scope.planned)


def _conclude(prepared: Prepared, rows: Iterable[TrialRow], planned: int) -> Outcome:
    """Print what is left and how to run it, or the table, and return how the run ended."""
    console, store, only = prepared.request.console, prepared.store, prepared.request.options.only
    # What was completed with fewer epochs than the study has by now is not done.
    now = reopened({row["trial_id"]: row for row in rows}, prepared.plan.study.epochs).values()
    states = Counter(row["state"] for row in now if row["state"] in FINAL_STATES)
    missing = planned - states.total()
    if prepared.interruption() and missing:
        say(console, _resume(prepared, "Interrupted. Everything is saved."))
        return "interrupted"
    if prepared.request.deadline.is_near and missing:
        return _out_of_time(prepared, missing)
    if only is not None and missing:
        say(console, _resume(prepared, f"Only {', '.join(only)} ran; {_left(missing, 'other trial')}."))
        return "some failed" if states["failed"] else "all ended"
    show_table(store, console, prepared.leave_cluster)
    if states["failed"]:
        say(console, f"\nThe traceback of a failed trial is in {store.folder('failures')}.")
    if missing:
        say(console, _resume(prepared, f"\n{missing} of {planned} trials have not ended."))
    return "some failed" if states["failed"] or missing else "all ended"


def _out_of_time(prepared: Prepared, missing: int) -> Outcome:
    saved = f"Everything is saved; {_left(missing)}."
    if not prepared.request.deadline.epochs and not prepared.interruption.is_terminated:
        # With status 75 a script or a batch system would resume the run without end.
        how = "Resume with a longer --time-limit"
        say(prepared.request.console, _resume(prepared, f"No epoch ended within the time limit. {saved}", how))
        return "some failed"
    why_now = "Stopped by SIGTERM" if prepared.interruption.is_terminated else "Out of time"
    say(prepared.request.console, _resume(prepared, f"{why_now}. {saved}"))
    return "out of time"


def _left(count: int, what: str = "trial") -> str:
    return f"1 {what} is left" if count == 1 else f"{count:,} {what}s are left"


def _lost(prepared: Prepared, reason: str) -> str:
    return _resume(prepared, f"The Ray cluster was lost: {reason}. Everything is saved.")


def _not_written(prepared: Prepared, error: OSError) -> str:
    if prepared.store.lost_to:
        writer = f"The run is written by another process now, {prepared.store.lost_to}"
        return f"{writer}, since this one was silent; it has ended."
    why = f"The run could not be written ({explain_os_error(error)}). Make room, or repair the storage, then"
    return _resume(prepared, why, "resume with")


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
def _shown(prepared: Prepared, trials: Trials) -> Iterator[None]:
    """Show the run on the screen until the context ends, and keep all else that is printed in its log."""
    look = Look(
        plain=prepared.request.options.plain,
        dashboard=prepared.plan.cluster.dashboard,
        is_stopping=prepared.interruption,
    )
    with shown(prepared.store, trials, prepared.request.console, look) as view:
        prepared.interruption.view = view
        try:
            yield
        finally:
            prepared.interruption.view = None


def _begin_confirmation(prepared: Prepared, trials: Trials, wanted: Mapping[str, TrialConfig]) -> int:
    """Say what is confirmed, keep how many trials the run has now that it is known, and return that."""
    study, rows = prepared.plan.study, prepared.recorded
    planned = planned_trials(study, list(rows.values()), wanted)
    only = prepared.request.options.only
    dealt = {key: config for key, config in wanted.items() if only is None or config.variant in only}
    for row in reopened({key: rows[key] for key in dealt if key in rows}, study.epochs).values():
        trials.update(row)
    trials.plan(planned)
    prepared.store.write_run(replace(prepared.store.read_run(), planned_trials=planned))
    chosen: dict[str, list[str]] = {}
    for config in dealt.values():
        said = describe(write_params(params_of(config, study.space_of(config.variant))), ", ", long=True)
        if said not in chosen.setdefault(config.cell, []):
            chosen[config.cell].append(said)
    for cell, configurations in chosen.items():
        note(prepared.request.console, "confirming", f"{cell}: {'; '.join(configurations)}")
    return planned


def _resume(prepared: Prepared, sentence: str, how: str = "Resume with") -> str:
    """Return a sentence with the command that resumes the run."""
    options = prepared.request.options
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    address = ["--address", options.address] if options.address else []
    assert options.name is not None, "made up where none was given"
    command = [python, "-m", "sweep.run", "--resume", "--output", options.output, "--name", options.name, *address]
    return f"{sentence} {how}: {shlex.join(command)}"
