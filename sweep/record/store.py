"""A run's folder, local or at any `pyarrow.fs` URI: where the record is written and read.

    study.json               what was asked for, by which code, on what
    trials.parquet           a row per trial, replaced whole
    epochs/part-*.parquet    rows per trial and epoch, in parts that are only ever added or merged
    decisions.parquet        a row per judgement by early stopping, replaced whole; absent where there was none
    checkpoints/ID/last.pt   each trial's network after its last epoch
    failures/ID.txt          the traceback of a trial's last failure
    damaged/                 files that were damaged when the run went on; nothing reads them
    tune/                    Ray Tune's own state
    optuna.journal           the trials once more, for optuna-dashboard; in a local folder
    driver.log               what libraries printed while the run went on, and each line of the live grid
    lease.json               the heartbeat of the process that writes
    .lock                    held by it, in a local folder

Every file appears whole, see `trainables.common.files`.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar, final

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from sweep.record.codec import decode, encode, serialise
from sweep.record.document import RunDocument
from sweep.record.lease import LEASE, Lease
from sweep.record.params import with_param_columns
from sweep.record.schema import DECISIONS, EPOCHS, TRIALS, DecisionRow, EpochRow, TrialRow
from trainables.common.files import (
    check_path,
    explain_os_error,
    filesystem_of,
    holds_password,
    is_temporary,
    with_retries,
    write_whole,
)
from trainables.common.validation import quote

_PART = re.compile(r"part-(\d{8})\.parquet")
_READ_ATTEMPTS = 5
_LOCK = ".lock"
TRIAL_ID = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,249}"
"""What names a trial, and its folders."""
T = TypeVar("T")


def check_name(name: str) -> str:
    """Return a run's name where it can safely be a folder's.

    Raises:
        ValueError: it holds anything but letters, digits, dots, hyphens and underscores, or starts with a dot.
    """
    return _check_folder_name("name", name, 100)


def check_trial_id(trial_id: str) -> str:
    """Return a trial's id where it can safely be a folder's name.

    Raises:
        ValueError: it cannot.
    """
    return _check_folder_name("trial_id", trial_id, 250)


def _check_folder_name(what: str, name: str, longest: int) -> str:
    if len(name) > longest or not re.fullmatch(TRIAL_ID, name):
        raise ValueError(
            f"{what} must be at most {longest} letters, digits, dots, hyphens and underscores and start with a letter, "
            f"digit or underscore, got {quote(name)}."
        )
    return name


def run_location(output: str, name: str) -> str:
    """Return where the run `name` lies in `output`, a folder or URI.

    Raises:
        ValueError: the name cannot be a folder's, or `output` is no folder or URI.
    """
    check_name(name)
    check_path("output", output)
    _, separator, rest = output.partition("://")
    if not separator:
        if not output.strip():
            raise ValueError(f"output must be a folder or a URI, got {output!r}.")
        return str(Path(os.path.expanduser(output)) / name)  # noqa: PTH111 - Path.expanduser raises for ~nobody
    if not rest.partition("?")[0].strip("/"):
        raise ValueError(f"output must be a folder or a URI with a path, got {output!r}.")
    return _inside(output, name)


def write_local(file: Path, data: bytes) -> None:
    """Write a local file whole, and its folder where there is none.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(pafs.LocalFileSystem(), str(file), data)


@final
class Store:
    """The record of one run. One process writes; any number read, also while it is written."""

    def __init__(self, location: str) -> None:
        """Open the folder or URI; nothing is made until something is written.

        Raises:
            ValueError: the URI cannot be understood, or holds a password.
        """
        if holds_password(location):
            raise ValueError(
                "A run's location must hold no password, since it is recorded, got one; set the store's own variables, "
                "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        self._filesystem, root = filesystem_of(location)
        self._root = root.rstrip("/") if "://" in location else root
        self._is_local = isinstance(self._filesystem, pafs.LocalFileSystem)
        self._lease: Lease | None = None
        self.location = self._root if self._is_local else location

    @contextmanager
    def locked(self, say: Callable[[str], object] = lambda _: None) -> Iterator[None]:
        """Keep other processes from writing here until the context ends, also those on other machines.

        Args:
            say: told that this waits to see whether another process is alive.

        Raises:
            ValueError: another process writes here, or nobody can.
        """
        with ExitStack() as stack:
            if self._is_local:
                # The kernel frees it with its process: on one machine nobody need wait for a heartbeat.
                stack.enter_context(self._file_lock())
                self._clear()
            lease = Lease(self._filesystem, f"{self._root}/{LEASE}", self.location, is_shared=not self._is_local)
            stack.enter_context(lease.held(say))
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    @property
    def lost_to(self) -> str:
        """Which process has taken over from this one, in words; empty while it holds the run, or does not try to."""
        return self._lease.lost_to if self._lease is not None else ""

    def is_alive(self) -> bool | None:
        """Return whether a process writes here now, at once; None where that cannot be told so fast."""
        lock = Path(self._root) / _LOCK
        try:
            if self._is_local and lock.is_file():
                with filelock.FileLock(lock, timeout=0):
                    pass
            seems = Lease(self._filesystem, f"{self._root}/{LEASE}", self.location).at_a_glance()
        except filelock.Timeout:
            return True
        except OSError:
            return None
        # Under a lock that is free, what has a dead process's number on this machine is another one.
        return False if self._is_local and seems is not None else seems

    def _clear(self) -> None:
        """Remove what a killed process has left half written; the files of trials are theirs to replace."""
        for folder in (Path(self._root), Path(self._root, "epochs"), Path(self._root, "failures")):
            for file in folder.glob(".*") if folder.is_dir() else ():
                if is_temporary(file.name):
                    file.unlink(missing_ok=True)

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        try:
            Path(self._root).mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(f"{self._root}/{_LOCK}", timeout=0)
            lock.acquire()
        except filelock.Timeout:
            raise ValueError(
                f"A run must be written by one process, got {self.location}, where another is at work; "
                "wait for its end or choose another name."
            ) from None
        except OSError as error:
            raise ValueError(
                f"output must be a folder that can be written to, got {self.location!r} ({error.strerror})."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def folder(self, name: str) -> str:
        """Return the path or URI of a file or folder in the run's."""
        return _inside(self.location, name)

    def checkpoint(self, trial_id: str) -> str:
        """Return the path or URI of a trial's network as it stood after its last epoch.

        Raises:
            ValueError: the id, which a damaged record may hold, could lead out of the run's folder.
        """
        check_trial_id(trial_id)
        return self.folder(f"checkpoints/{trial_id}/last.pt")

    def checkpoints(self, trial_id: str) -> list[str]:
        """Return the names in the run's folder of a trial's checkpoints, the latest first; none where it has none.

        Raises:
            ValueError: as `checkpoint`, or the folder cannot be read.
        """
        folder = f"checkpoints/{check_trial_id(trial_id)}"
        # last.pt sorts before previous.pt.
        return [f"{folder}/{name}" for name in self.files(folder) if name.endswith(".pt")]

    def files(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the run's, sorted; none where there is no such folder.

        Raises:
            ValueError: it cannot be read.
        """
        try:
            return self._files(folder)
        except OSError as error:
            raise _unreadable(self.location, error) from error

    def exists(self) -> bool:
        """Return whether a run was begun here."""
        return self.holds("study.json")

    def is_empty(self) -> bool:
        """Return whether nothing at all is here."""
        try:
            found = with_retries(
                lambda: self._filesystem.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))
            )
        except OSError as error:
            raise _unreadable(self.location, error) from error
        # What a process left that was killed before it had begun a run here.
        return all(info.base_name in (_LOCK, LEASE) or is_temporary(info.base_name) for info in found)

    def write_run(self, document: RunDocument) -> None:
        """Write what the run was asked to do."""
        self.write_file("study.json", document.to_bytes())

    def read_run(self) -> RunDocument:
        """Return what `write_run` wrote.

        Raises:
            ValueError: there is no run here, or its record is of another version or damaged.
        """
        if not self.exists():
            raise ValueError(f"A run's folder must exist and hold study.json, got {self.location}, which does not.")
        return RunDocument.from_bytes(self.read_file("study.json"), f"{self.location}/study.json")

    def write_trials(self, rows: Sequence[TrialRow]) -> None:
        """Replace the table of trials; its file has a column for each hyperparameter besides."""
        self.write_file(
            "trials.parquet", serialise(with_param_columns(pa.Table.from_pylist(list(rows), schema=TRIALS)))
        )

    def read_trials(self) -> pa.Table:
        """Return the table of trials, in order of `trial_id`; empty where none has begun."""
        return self.read_table("trials.parquet", TRIALS).sort_by("trial_id")

    def trial_rows(self) -> list[TrialRow]:
        """Return the rows of `read_trials`."""
        return self.read_trials().to_pylist()  # type: ignore[no-any-return]

    def write_decisions(self, rows: Sequence[DecisionRow]) -> None:
        """Replace the table of decisions."""
        self.write_file("decisions.parquet", encode(rows, DECISIONS))

    def write_failure(self, trial_id: str, traceback: str) -> None:
        """Keep the traceback of a trial's last failure."""
        self.write_file(f"failures/{check_trial_id(trial_id)}.txt", traceback.encode())

    def read_decisions(self) -> pa.Table:
        """Return the table of decisions, in the order in which they were made; empty where there was none."""
        return self.read_table("decisions.parquet", DECISIONS)

    def read_table(self, name: str, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table of a file in the run's folder, an empty one where there is no such file.

        Args:
            name: the file's.
            schema: the columns and types that it must have.
            columns: those to return; None for all.

        Raises:
            FileNotFoundError: there is no such part of the epochs.
            ValueError: the file is damaged, or cannot be read.
        """
        try:
            return decode(self.read_file(name), schema, self.folder(name), columns)
        except FileNotFoundError:
            if name.startswith("epochs/"):  # it was listed, and is part of another one by now
                raise
            return schema.empty_table()

    def decision_rows(self) -> list[DecisionRow]:
        """Return the rows of `read_decisions`."""
        return self.read_decisions().to_pylist()  # type: ignore[no-any-return]

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file of the run's, whole.

        Raises:
            LeaseLostError: another process may have taken over the run.
        """
        if self._lease is not None:
            self._lease.check()
        write_whole(self._filesystem, f"{self._root}/{name}", data)

    def append_epochs(self, rows: Sequence[EpochRow]) -> None:
        """Add rows as one more part."""
        if rows:
            number = max(self._parts(), default=-1) + 1
            self.write_file(part_name(number), encode(rows, EPOCHS))

    def write_epochs(self, epochs: pa.Table) -> None:
        """Write all epochs as one part, where there is none yet.

        Args:
            epochs: of the record's schema, each once.
        """
        self.write_file(part_name(0), serialise(epochs))

    def read_epochs(self) -> pa.Table:
        """Return all epochs, each once, in order of trial and epoch; of two rows for one epoch the later counts."""
        return each_once(pa.concat_tables([EPOCHS.empty_table(), *self.each_part(self._read_part)]))

    def merge_epochs(self, drop: Collection[str] = ()) -> None:
        """Turn all parts into one, without the trials `drop`.

        A reader sees the old parts, the old ones and the new one, or the new one. A damaged part stays as it is: its
        rows are put back when the run goes on, see `sweep.resume.repair`.
        """
        parts, tables = [], [EPOCHS.empty_table()]
        for number in self._parts():
            with suppress(ValueError):
                tables.append(self._read_part(part_name(number)))
                parts.append(number)
        table = each_once(pa.concat_tables(tables))
        if drop:
            table = table.filter(pc.invert(pc.is_in(table["trial_id"], pa.array(sorted(drop), pa.string()))))
        self.write_file(part_name(max(self._parts(), default=-1) + 1), serialise(table))
        for number in parts:
            # An answer that was lost on its way makes a second attempt find nothing.
            with suppress(FileNotFoundError):
                with_retries(partial(self._filesystem.delete_file, f"{self._root}/{part_name(number)}"))

    def each_part(self, read: Callable[[str], T]) -> list[T]:
        """Return what `read` makes of each part of the epochs, given its name in the run's folder, in their order."""
        for _ in range(_READ_ATTEMPTS - 1):
            # The writer may merge the parts after they were listed: the rows are in another part then.
            with suppress(FileNotFoundError):
                return [read(part_name(number)) for number in self._parts()]
        return [read(part_name(number)) for number in self._parts()]

    def _read_part(self, name: str) -> pa.Table:
        return self.read_table(name, EPOCHS)

    def read_file(self, name: str) -> bytes:
        """Return the bytes of a file in the run's folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it cannot be read.
        """
        path = f"{self._root}/{name}"

        def read() -> bytes:
            with self._filesystem.open_input_stream(path) as stream:
                return stream.read()  # type: ignore[no-any-return]

        try:
            return with_retries(read)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(
                f"{path} must be a file that can be read, got one that cannot ({explain_os_error(error)})."
            ) from error

    def holds(self, name: str) -> bool:
        """Return whether there is a file of this name in the run's folder."""
        try:
            return bool(with_retries(lambda: self._filesystem.get_file_info(f"{self._root}/{name}")).is_file)
        except OSError as error:
            raise _unreadable(self.location, error) from error

    def put_aside(self, name: str) -> str:
        """Move a damaged file into the folder `damaged`, where nothing reads it, and return its place there."""
        place = f"damaged/{PurePosixPath(name).name}"
        with_retries(lambda: self._filesystem.create_dir(f"{self._root}/damaged", recursive=True))
        number = 1
        while self.holds(place):
            number += 1
            place = f"damaged/{PurePosixPath(name).name}.{number}"
        if self._lease is not None:
            self._lease.check()
        self._filesystem.move(f"{self._root}/{name}", f"{self._root}/{place}")
        return place

    def count_parts(self) -> int:
        """Return how many parts the epochs are in."""
        return len(self._parts())

    def _parts(self) -> list[int]:
        found = (_PART.fullmatch(name) for name in self._files("epochs"))
        return sorted(int(match[1]) for match in found if match)

    def _files(self, folder: str) -> list[str]:
        selector = pafs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        listing = with_retries(lambda: self._filesystem.get_file_info(selector))
        return sorted(info.base_name for info in listing if info.type != pafs.FileType.Directory)


def part_name(number: int) -> str:
    """Return the name of a part of the epochs in a run's folder."""
    return f"epochs/part-{number:08d}.parquet"


def each_once(epochs: pa.Table) -> pa.Table:
    """Return the last row of each trial and epoch, in order of trial and epoch."""
    names = epochs["trial_id"].dictionary_encode().combine_chunks()
    trial = pc.rank(names.dictionary).take(names.indices).to_numpy(zero_copy_only=False)
    epoch = epochs["epoch"].to_numpy()
    order = np.lexsort((epoch, trial))  # rows of one trial and epoch stay in their order
    is_last = np.ones(len(order), bool)
    is_last[:-1] = (np.diff(trial[order]) != 0) | (np.diff(epoch[order]) != 0)
    rows = order[is_last]
    # Most often they are so already: a second table of millions of rows is not made then.
    return epochs if np.array_equal(rows, np.arange(len(epochs))) else epochs.take(pa.array(rows))


def runs_in(folder: Store) -> list[Store]:
    """Return the runs that lie directly in a folder or URI, in order of their names.

    Raises:
        ValueError: the folder is not there or cannot be read.
    """
    selector = pafs.FileSelector(folder._root)
    try:
        found = folder._filesystem.get_file_info(selector)
    except FileNotFoundError:
        raise ValueError(f"There is no folder {folder.location!r}: name an existing folder or URI.") from None
    except OSError as error:
        raise ValueError(f"The folder {folder.location!r} cannot be read: {explain_os_error(error)}.") from error
    names = sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)
    stores = (Store(_inside(folder.location, name)) for name in names)
    return [store for store in stores if store.exists()]


def _inside(location: str, name: str) -> str:
    """Return the path or URI of `name` in a folder; what stands behind a URI's question mark stays behind it."""
    if "://" not in location:
        return f"{location}/{name}"
    path, question_mark, query = location.partition("?")
    return f"{path.rstrip('/')}/{name}{question_mark}{query}"


def _unreadable(location: str, error: OSError) -> ValueError:
    return ValueError(f"A run's location must be one that can be read, got {location!r} ({explain_os_error(error)}).")
