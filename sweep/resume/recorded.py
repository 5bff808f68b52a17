"""Going on with a run: what it has recorded, and whether what is given is the same or, with --extend, holds more."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, final

from search_spaces import Scalar, Space
from sweep.execution.plan import Plan, named_study
from sweep.record.document import RunDocument
from sweep.record.params import read_params, write_params
from sweep.record.schema import FINAL_STATES, TrialRow, cell_of, reopened, retried
from sweep.record.store import Store, run_location
from sweep.resume.extend import extended
from sweep.resume.provenance import plugin_checksums
from sweep.search.confirm import confirmations, is_done, search_ended
from sweep.search.earlier_runs import with_selected_rates
from sweep.study.diff import Difference, StudyMismatchError, plugin_differences, study_differences
from sweep.study.options import RunOptions
from sweep.study.study import Study
from trainables.common.registry import load_plugins
from trainables.common.validation import quote
from trainables.config import TrialConfig
from trainables.hyperparameters import value_of

NEW_RUN = "begin a new run under another --name"
EXTEND_OR_NEW = f"or add --extend, which keeps what is done and runs the rest, or {NEW_RUN}."


@final
@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A run that has begun, and what is to become of it."""

    store: Store
    document: RunDocument
    """Contents of study.json."""
    study: Study
    """What is run: as recorded, or with what was added to it; its data and plugins where they lie now."""
    changed: tuple[Difference, ...] = ()
    """What `--extend` changes in the record, the contents of plugins too."""
    retry_failed: bool = False
    """Whether failed trials are begun again."""
    only: Sequence[str] | None = None
    """Variants whose trials run; None runs all."""

    @cached_property
    def _recorded(self) -> dict[str, TrialRow]:
        cells = {cell.cell: cell for cell in self.study.cells()}
        rows = self.store.trial_rows()
        for row in rows:
            if cell_of(row) not in cells:
                raise ValueError(f"{self.store.location} must hold trials of its study, got one of {cell_of(row)}.")
        return {
            row["trial_id"]: with_all_params(row, cells[cell_of(row)], self.study.space_of(row["variant"]))
            for row in rows
        }

    def trials(self) -> dict[str, TrialRow]:
        """Return the rows of `trials` by trial_id.

        Trials of the search that are to have more epochs are pending, and failed ones that are to be retried. Rows of
        variants that do not run stay as they are.
        """
        rows = self._recorded
        running = {key: row for key, row in rows.items() if self.only is None or row["variant"] in self.only}
        if self.retry_failed:
            running |= {
                key: retried(row, row["reason"] or "") for key, row in running.items() if row["state"] == "failed"
            }
        searched = {key: row for key, row in running.items() if row["phase"] == "search"}
        return rows | running | reopened(searched, self.study.epochs)

    def is_done(self) -> bool:
        """Return whether there is nothing left to run."""
        return is_done(self.study, list(self.trials().values()))

    def wanted(self, trials: Mapping[str, TrialRow]) -> dict[str, TrialConfig] | None:
        """Return the trials that confirm, by trial_id as `trials` is; None where the search has yet to end."""
        if len(search_ended(trials.values())) < self.study.search_trials:
            return None
        return confirmations(self.study, trials.values()) if self.study.confirm_seeds else {}


def with_all_params(row: TrialRow, cell: TrialConfig, space: Space) -> TrialRow:
    """Return a trial's row whose configuration names what is searched only since the run was extended, too.

    Args:
        row: of the record.
        cell: the trial's, with the values that it has where they are not searched.
        space: what the cell searches now.
    """
    params: dict[str, Scalar] = dict(read_params(row["params"]))
    for name in space:
        if name not in params and space.is_active(name, params):
            params[name] = value_of(cell, name)
    return row | {"params": write_params(params)}


def recorded_run(named: Study | str | None, options: RunOptions) -> Recorded:
    """Return the run that the options name, once what is given is what it has recorded, or more of it.

    Args:
        named: what was named on the command line, or the study of the file that was; the options are then those of that
            study, as when a run begins. Without it they are those of the recorded one.
        options: the rest of it.

    Raises:
        StudyMismatchError: it is not.
        ValueError: there is no such run, or it cannot be read.
    """
    if options.name is None:
        raise ValueError("name must say which run to resume, got none; add --name NAME.")
    store = Store(run_location(options.output, options.name))
    document = store.read_run()
    paths = options.plugins if options.plugins is not None else document.study.base.plugins
    plugins = plugin_differences(document.plugins, plugin_checksums(paths))
    if plugins and not options.extend:
        # Before any of them is run.
        raise StudyMismatchError(
            "The run's plugins must hold what they held when it began", plugins, f"Put them back, {EXTEND_OR_NEW}"
        )
    load_plugins(paths)
    recorded = replace(document.study)  # checked once more, now that the variants' own options are known
    located = RunOptions(data=options.data, plugins=options.plugins).apply(recorded)
    begun = named_study(named) if isinstance(named, str) else named
    given = options.apply(recorded if begun is None else begun)
    if options.rates_from is not None:
        given = with_selected_rates(given, options.rates_from)
    settings = [
        *study_differences(recorded, given, options.typed),
        *_warm_start_difference(named, options, recorded),
        *_workers_difference(options, document),
    ]
    if settings and not options.extend:
        raise StudyMismatchError("The study must be the recorded one", settings, _advice(located, given, settings))
    return Recorded(
        store=store,
        document=document,
        study=extended(located, given, settings) if options.extend else located,
        changed=(*settings, *plugins),
        retry_failed=options.retry_failed,
        only=options.only,
    )


def check_only(names: Sequence[str] | None, study: Study) -> None:
    """Check that the option `only` names variants of the run.

    Raises:
        ValueError: it names none, or one that the run does not have.
    """
    unknown = [name for name in names or () if name not in study.variants]
    if names is not None and (unknown or not names):
        got = quote(unknown[0]) if unknown else "none"
        raise ValueError(f"only must name variants of the run, {', '.join(study.variants)}, got {got}.")


def _warm_start_difference(named: Study | str | None, options: RunOptions, recorded: Study) -> Iterable[Difference]:
    was = recorded.warm_start.run if recorded.warm_start is not None else None
    if options.warm_start is not None:
        now: str | None = Store(options.warm_start).location
    else:
        now = was if named is None else None
    if was != now:
        yield Difference(setting="warm_start", recorded=was or "none", given=now or "none")


def _workers_difference(options: RunOptions, document: RunDocument) -> Iterable[Difference]:
    was, now = document.workers, options.workers_per_trial
    if now is not None and now != was:
        yield Difference(setting="workers_per_trial", recorded=str(was or "auto"), given=str(now))


def _advice(recorded: Study, given: Study, settings: Sequence[Difference]) -> str:
    try:
        extended(recorded, given, settings)
    except StudyMismatchError:
        return f"Leave these options out, or {NEW_RUN}."
    return f"Leave these options out, {EXTEND_OR_NEW}"


def recorded_placement(options: RunOptions, document: RunDocument) -> RunOptions:
    """Return the options with the recorded ones of a trial's place where none are given."""
    recorded = {name: value for name, value in asdict(document.placement).items() if getattr(options, name) is None}
    return replace(options, **recorded)


def with_recorded_arithmetic(study: Study, rows: Iterable[TrialRow]) -> Study:
    """Return the study with the arithmetic of its rows in place of `auto`, which another measurement could change.

    `compiled` stays: `auto` decides it for each network anew, and checkpoints hold it for trials that have begun.
    """
    used: set[Any] = {(row["precision"], row["memory_format"]) for row in rows if row["precision"] is not None}
    if len(used) != 1:
        return study
    ((precision, memory_format),) = used
    return replace(study, base=replace(study.base, precision=precision, memory_format=memory_format))


def check_same(plan: Plan, document: RunDocument) -> None:
    """Check that trials would be split over as many workers, and see the same images, as when the run began.

    Raises:
        StudyMismatchError: they would not.
    """
    found = []
    advice = []
    if plan.placement.workers != document.workers:
        # How a trial is split decides which units its dropout drops.
        was, now = (str(workers or "auto") for workers in (document.workers, plan.placement.workers))
        found.append(Difference(setting="workers_per_trial", recorded=was, given=now))
        advice.append("leave the options of a trial's workers and GPUs out")
    for name, data in plan.datasets.items():
        checksum = document.data[name].checksum
        if data.checksum != checksum:
            found.append(Difference(setting=f"checksum of {name}", recorded=checksum[:12], given=data.checksum[:12]))
            advice.append("name the place of the images that it began with by --data")
    if found:
        said = ", ".join(dict.fromkeys(advice))
        raise StudyMismatchError(
            "The run must go on with the workers and the images that it began with",
            found,
            f"{said[0].upper()}{said[1:]}, or {NEW_RUN}.",
        )


def what_ended(trials: Iterable[TrialRow], options: RunOptions) -> str:
    """Return in words that a run has ended, and what can be done with it."""
    states = Counter(row["state"] for row in trials if row["state"] in FINAL_STATES)
    counts = ", ".join(f"{states[state]:,} {state}" for state in sorted(states))
    where = ["--output", options.output, "--name", str(options.name)]
    go_further = shlex.join(["--resume", "--extend", *where])
    again = shlex.join(["--resume", "--retry-failed", *where])
    return (
        f"The run {options.name} has ended: {counts}; nothing is left to run. To add variants, learning rates, seeds "
        f"or more to it: {go_further}, and options that say what."
        + (f" To begin failed trials again, once their cause is mended: {again}." if states["failed"] else "")
    )
