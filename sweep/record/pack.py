"""`python -m sweep.pack RUN TO [--checkpoints]`: write a run's results as one small archive or folder.

What another machine needs for tables and to resume: study.json, the three tables, tracebacks. Checkpoints of unfinished
trials only if asked for. Exit status 0, 2 for bad input, 130 after Ctrl-C.
"""

import gzip
import os
import tarfile
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Annotated, cast, final

import pyarrow as pa
import pyarrow.compute as pc
from cyclopts import Parameter

from sweep.cli.app import new_app, run_app
from sweep.record.damage import salvage_record
from sweep.record.document import RunDocument
from sweep.record.schema import EPOCHS, FINAL_STATES
from sweep.record.store import Store, check_name
from trainables.common.files import explain_os_error

ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""Endings of TO that make it an archive."""

_MTIME = 315_532_800
"""1980-01-01 UTC: the same run gives the same bytes. GNU tar warns of 1970."""

app = new_app(
    name="python -m sweep.pack",
    help="Write a run's results as one small archive or folder, from which another machine resumes it.",
)


@final
@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is packed of a run."""

    document: RunDocument
    """Contents of study.json."""
    trials: pa.Table
    epochs: pa.Table
    """Of these trials, each once."""
    decisions: pa.Table
    """Of these trials."""
    failures: tuple[str, ...]
    """Names of the files of tracebacks in the run's folder."""

    @property
    def unfinished(self) -> list[str]:
        """Ids of the trials that have not ended."""
        return [row["trial_id"] for row in self.trials.to_pylist() if row["state"] not in FINAL_STATES]


def pack(run: str, to: str, *, checkpoints: bool = False) -> Contents:
    """Write a run's results to a new folder or archive, and return what was packed. The run is not changed.

    Args:
        run: folder or URI of the run, which another process may be writing.
        to: a local file that ends as `ARCHIVES` say, whose one folder has the run's name, or a folder or URI that
            becomes the run's own.
        checkpoints: whether to include the last checkpoint of each unfinished trial. Without it these trials train
            from epoch 1 when the run is resumed.

    Raises:
        ValueError: there is no run, it is damaged, or `to` exists, lies inside the run or cannot be written.
    """
    if "://" in to and to.partition("?")[0].endswith(ARCHIVES):
        raise ValueError(
            f"TO must be a local path where it is an archive, got {to!r}. Copy it there afterwards, or name a folder."
        )
    source, target = Store(run), Store(to)
    _check_target(source, target, to)
    contents = read_contents(source)
    name = Path(source.location.partition("?")[0]).name
    try:
        if "://" in target.location:
            _write(contents, source, target, checkpoints=checkpoints)
        else:
            _write_local(contents, source, Path(target.location), check_name(name), checkpoints=checkpoints)
    except OSError as error:
        raise ValueError(f"TO must be where this user can write, got {to!r} ({explain_os_error(error)}).") from error
    return contents


def read_contents(store: Store) -> Contents:
    """Return what is packed of a run: one state of it, also while another process writes it.

    Raises:
        ValueError: there is no run, or it is damaged.
    """
    store.read_run()  # first, so that a folder without a run is not called a damaged run
    # A writer adds epochs and decisions before the trials that count them, and trials of a larger study after its
    # study.json. Read the other way round, what is counted is there.
    record = salvage_record(store)
    if record.damages:
        raise ValueError(
            f"{record.damages[0]} Only an undamaged run can be packed; resume it where its checkpoints are, which "
            "repairs what they hold."
        )
    ids = record.trials["trial_id"].combine_chunks()

    def of_these(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["trial_id"], ids))

    decisions = of_these(store.read_decisions())
    names = store.files("failures")
    document = store.read_run()
    known = {f"{trial_id}.txt" for trial_id in ids.to_pylist()}
    return Contents(
        document=document,
        trials=record.trials,
        epochs=of_these(record.epochs.cast(EPOCHS)),
        decisions=decisions,
        failures=tuple(f"failures/{name}" for name in names if name in known),
    )


def _check_target(source: Store, target: Store, to: str) -> None:
    is_remote = "://" in target.location
    here, there = (
        store.location.partition("?")[0].rstrip("/") if "://" in store.location else str(Path(store.location).resolve())
        for store in (source, target)
    )
    if f"{there}/".startswith(f"{here}/"):
        raise ValueError(f"TO must lie outside the run, which packing does not change, got {to!r}.")
    if not target.is_empty() if is_remote else os.path.lexists(target.location):
        raise ValueError(f"TO must not exist yet, got {to!r}. Remove it, or choose another name.")


def _write_local(contents: Contents, source: Store, target: Path, name: str, *, checkpoints: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target and renamed: TO is there whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pack-") as beside:
        folder, archive = Path(beside, name), Path(beside, ".archive")  # no run's name begins with a dot
        _write(contents, source, Store(str(folder)), checkpoints=checkpoints)
        if target.name.endswith(ARCHIVES):
            _archive(folder, archive, compressed=not target.name.endswith(".tar"))
            archive.rename(target)
        else:
            folder.rename(target)


def _write(contents: Contents, source: Store, to: Store, *, checkpoints: bool) -> None:
    to.write_trials(contents.trials.to_pylist())
    if len(contents.epochs):
        to.write_epochs(contents.epochs)
    if len(contents.decisions):
        to.write_decisions(contents.decisions.to_pylist())
    for name in contents.failures:
        to.write_file(name, source.read_file(name))
    for trial_id in contents.unfinished if checkpoints else ():
        _copy_checkpoint(source, to, trial_id)
    # Last: a folder without it holds no run, should this be cut off.
    to.write_run(contents.document)


def _copy_checkpoint(source: Store, to: Store, trial_id: str) -> None:
    for name in source.checkpoints(trial_id):
        try:
            raw = source.read_file(name)
        except FileNotFoundError:  # its trial has just renamed it
            continue
        to.write_file(name, raw)
        return


def _archive(folder: Path, file: Path, *, compressed: bool) -> None:
    """Write a folder as an archive whose bytes depend on the folder's name and its files' names and bytes alone."""
    with ExitStack() as stack:
        target: IO[bytes] = stack.enter_context(file.open("wb"))
        if compressed:
            target = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=target, mtime=0)))
        with tarfile.open(fileobj=target, mode="w") as archive:
            archive.add(folder, arcname=folder.name, filter=_anonymous)  # in order of names


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(
        mtime=_MTIME, mode=0o755 if member.isdir() else 0o644, uid=0, gid=0, uname="", gname="", deep=False
    )


@app.default
def command(run: str, to: str, /, *, checkpoints: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Write a run's results to TO: study.json, the tables and the tracebacks of failed trials.

    Args:
        run: folder or URI of the run.
        to: a new file that ends in .tar, .tar.gz or .tgz, or else a new folder or URI.
        checkpoints: include the last checkpoints of unfinished trials; without them these train from epoch 1 again.
    """
    run, to = (os.path.expanduser(place) if "://" not in place else place for place in (run, to))  # noqa: PTH111
    contents = pack(run, to, checkpoints=checkpoints)
    print(f"Packed {len(contents.trials)} trials and {len(contents.epochs)} epochs into {to}.")
    if contents.unfinished and not checkpoints:
        print(
            f"Unfinished trials: {len(contents.unfinished)}. Resumed from there, they train from epoch 1 again; "
            "--checkpoints packs what they have done."
        )


main = partial(run_app, app)
"""Run the command line, that of this process by default, and return its exit status."""
