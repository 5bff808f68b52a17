"""A run's folder, local or at any `pyarrow.fs` URI: where the record is written and read.

    study.json               what was asked for, by which code, on what
    trials.parquet           a row per trial, replaced whole
    epochs/part-*.parquet    rows per trial and epoch, in parts that are only ever added or merged
    decisions.parquet        a row per judgement by early stopping, replaced whole; absent where there was none
    checkpoints/ID/last.pt   each trial's network after its last epoch
    tune/                    Ray Tune's own state
    optuna.journal           the trials once more, for optuna-dashboard; in a local folder
    driver.log               what libraries printed while the run went on, and each line of the live grid
    .lock                    held by the process that writes, in a local folder

Every file appears whole, see `trainables.files`.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, final
from urllib.parse import urlsplit

import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from sweep.records import ADDED, DECISIONS, EPOCHS, OLDEST_VERSION, SCHEMA_VERSION, TRIALS
from sweep.selection import best_epochs, criterion_column
from trainables.files import why, write_whole

_PART = re.compile(r"part-(\d{8})\.parquet")
_KEYS = ["trial_id", "epoch"]
_STUDY_KEYS = {"study": dict, "data": dict, "planned_trials": int, "created": str}
_READ_ATTEMPTS = 5
_LOCK = ".lock"


def check_name(name: str) -> str:
    """Return a run's name where it can safely be a folder's.

    Raises:
        ValueError: it holds anything but letters, digits, dots, hyphens and underscores, or starts with a dot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "name must be at most 100 letters, digits, dots, hyphens and underscores and start with a letter, digit or "
            f"underscore, got {name!r}."
        )
    return name


def run_location(output: str, name: str) -> str:
    """Return where the run `name` lies in `output`, a folder or URI.

    Raises:
        ValueError: the name cannot be a folder's, or `output` is no folder or URI.
    """
    check_name(name)
    _, separator, rest = output.partition("://")
    if not separator:
        if not output.strip():
            raise ValueError(f"output must be a folder or a URI, got {output!r}.")
        return str(Path(os.path.expanduser(output)) / name)  # noqa: PTH111 - Path.expanduser raises for ~nobody
    if not rest.partition("?")[0].strip("/"):
        raise ValueError(f"output must be a folder or a URI with a path, got {output!r}.")
    return _inside(output, name)


@final
class Store:
    """The record of one run. One process writes; any number read, also while it is written."""

    def __init__(self, location: str) -> None:
        """Open the folder or URI; nothing is made until something is written.

        Raises:
            ValueError: the URI cannot be understood, or holds a password.
        """
        self._filesystem: pafs.FileSystem
        self._root: str
        if "://" in location:
            self._filesystem, self._root = _open_uri(location)
        else:
            self._filesystem, self._root = pafs.LocalFileSystem(), str(Path(location).resolve())
        self._is_local = isinstance(self._filesystem, pafs.LocalFileSystem)
        self.location = self._root if self._is_local else location

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here until the context ends; an object store has no such lock.

        Raises:
            ValueError: another process writes here, or nobody can.
        """
        if not self._is_local:
            yield
            return
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
        """Return the path or URI of a trial's network as it stood after its last epoch."""
        return self.folder(f"checkpoints/{trial_id}/last.pt")

    def exists(self) -> bool:
        """Return whether a run was begun here."""
        return bool(self._info("study.json").is_file)

    def is_empty(self) -> bool:
        """Return whether nothing at all is here."""
        try:
            found = self._filesystem.get_file_info(pafs.FileSelector(self._root, allow_not_found=True))
        except OSError as error:
            raise _unreadable(self.location, error) from error
        return all(info.base_name == _LOCK for info in found)

    def write_study(self, study: dict[str, Any]) -> None:
        """Write what the run was asked to do, with the schema's version."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **study}, indent=2, sort_keys=True) + "\n"
        self._write("study.json", text.encode())

    def read_study(self) -> dict[str, Any]:
        """Return what `write_study` wrote.

        Raises:
            ValueError: there is no run here, or its record is of another version.
        """
        if not self.exists():
            raise ValueError(f"A run's folder must exist and hold study.json, got {self.location}, which does not.")
        with self._filesystem.open_input_stream(f"{self._root}/study.json") as stream:
            raw = stream.read()
        try:
            study = json.loads(raw)
        except ValueError as error:
            raise ValueError(f"{self.location}/study.json must be JSON, got a broken file ({error}).") from error
        version = study.get("schema_version") if isinstance(study, dict) else None
        if version not in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
            raise ValueError(
                f"{self.location} must hold a record of version {OLDEST_VERSION} to {SCHEMA_VERSION}, got {version!r}; "
                "read it with the version of this project that wrote it."
            )
        missing = [key for key, kind in _STUDY_KEYS.items() if not isinstance(study.get(key), kind)]
        if missing:
            raise ValueError(f"{self.location}/study.json must hold {missing[0]}, got a file without it.")
        return study  # type: ignore[no-any-return]

    def write_trials(self, rows: list[dict[str, Any]]) -> None:
        """Replace the table of trials."""
        self._write("trials.parquet", _encode(rows, TRIALS))

    def read_trials(self) -> pa.Table:
        """Return the table of trials, in order of `trial_id`; empty where none has begun."""
        if not self._info("trials.parquet").is_file:
            return TRIALS.empty_table()
        return self._read("trials.parquet", TRIALS).sort_by("trial_id")

    def write_decisions(self, rows: list[dict[str, Any]]) -> None:
        """Replace the table of decisions."""
        self._write("decisions.parquet", _encode(rows, DECISIONS))

    def read_decisions(self) -> pa.Table:
        """Return the table of decisions, in the order in which they were made; empty where there was none."""
        if not self._info("decisions.parquet").is_file:
            return DECISIONS.empty_table()
        return self._read("decisions.parquet", DECISIONS)

    def write_log(self, name: str, text: bytes) -> None:
        """Put a file beside the record, whole; for a log that could not grow here."""
        self._write(name, text)

    def append_epochs(self, rows: list[dict[str, Any]]) -> None:
        """Add rows as one more part."""
        if rows:
            number = max(self._parts(), default=-1) + 1
            self._write(f"epochs/part-{number:08d}.parquet", _encode(rows, EPOCHS))

    def read_epochs(self) -> pa.Table:
        """Return all epochs, each once, in order of trial and epoch; of two rows for one epoch the later counts."""
        tables = self._read_parts()
        table = pa.concat_tables(tables) if tables else EPOCHS.empty_table()
        table = table.append_column("row", pa.array(range(len(table)), pa.int64()))
        last = table.group_by(_KEYS).aggregate([("row", "max")])["row_max"]
        return table.take(last).drop_columns("row").sort_by([(key, "ascending") for key in _KEYS])

    def read_best_epochs(self, protocol: str) -> dict[str, float]:
        """Return the lowest error of any epoch by trial_id, of the trials that have one.

        Args:
            protocol: the study's, which says which error.
        """
        return best_epochs(self.read_epochs().select(["trial_id", criterion_column(protocol)]).to_pylist(), protocol)

    def merge_epochs(self, drop: str | None = None) -> None:
        """Turn all parts into one, without the trial `drop`.

        A reader sees the old parts, the old ones and the new one, or the new one.
        """
        parts = self._parts()
        table = self.read_epochs()
        if drop is not None:
            table = table.filter(pc.not_equal(table["trial_id"], drop))
        self._write(f"epochs/part-{max(parts, default=-1) + 1:08d}.parquet", _serialise(table))
        for number in parts:
            self._filesystem.delete_file(f"{self._root}/epochs/part-{number:08d}.parquet")

    def count_parts(self) -> int:
        """Return how many parts the epochs are in."""
        return len(self._parts())

    def _parts(self) -> list[int]:
        listing = self._filesystem.get_file_info(pafs.FileSelector(f"{self._root}/epochs", allow_not_found=True))
        found = (_PART.fullmatch(PurePosixPath(info.path).name) for info in listing)
        return sorted(int(match[1]) for match in found if match)

    def _read_parts(self) -> list[pa.Table]:
        for attempt in range(_READ_ATTEMPTS):
            try:
                return [self._read(f"epochs/part-{number:08d}.parquet", EPOCHS) for number in self._parts()]
            except FileNotFoundError:
                # The writer merged the parts after they were listed: the rows are in another part now.
                if attempt == _READ_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt has returned or raised")

    def _info(self, name: str) -> pafs.FileInfo:
        try:
            return self._filesystem.get_file_info(f"{self._root}/{name}")
        except OSError as error:
            raise _unreadable(self.location, error) from error

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self._filesystem, f"{self._root}/{name}", data)

    def _read(self, name: str, schema: pa.Schema) -> pa.Table:
        path = f"{self._root}/{name}"
        try:
            with self._filesystem.open_input_file(path) as file:
                # Not pq.read_table, which starts threads for these few rows and loads half a second of code: one that
                # was still waiting when Python ended has aborted a process that had said all it had to say.
                parquet = pq.ParquetFile(pa.BufferReader(file.read()), page_checksum_verification=True)
                table = parquet.read(use_threads=False)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} must be a whole Parquet file, got one that cannot be read ({error}).") from error
        written = (table.schema.metadata or {}).get(b"schema_version", b"")
        for column, since in ADDED.items():
            is_older = written.isdigit() and int(written) < since
            if is_older and column in schema.names and column not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), schema.field(column).type))
        missing = [column for column in schema.names if column not in table.column_names]
        if missing:
            raise ValueError(f"{path} must have a column {missing[0]}, got {', '.join(table.column_names)}.")
        try:
            return table.select(schema.names).cast(schema)
        except pa.ArrowException as error:
            raise ValueError(f"{path} must have columns of the record's types, got others ({error}).") from error


def runs_in(folder: Store) -> list[Store]:
    """Return the runs that lie directly in a folder or URI, in order of their names.

    Raises:
        ValueError: the folder is not there or cannot be read.
    """
    selector = pafs.FileSelector(folder._root)
    try:
        found = folder._filesystem.get_file_info(selector)
    except FileNotFoundError:
        raise ValueError(f"DIR must be an existing folder or URI, got {folder.location!r}.") from None
    except OSError as error:
        raise ValueError(f"DIR must be an existing folder or URI, got {folder.location!r} ({why(error)}).") from error
    names = sorted(info.base_name for info in found if info.type == pafs.FileType.Directory)
    stores = (Store(_inside(folder.location, name)) for name in names)
    return [store for store in stores if store.exists()]


def _inside(location: str, name: str) -> str:
    """Return the path or URI of `name` in a folder; what stands behind a URI's question mark stays behind it."""
    if "://" not in location:
        return f"{location}/{name}"
    path, question_mark, query = location.partition("?")
    return f"{path.rstrip('/')}/{name}{question_mark}{query}"


def _open_uri(uri: str) -> tuple[pafs.FileSystem, str]:
    if urlsplit(uri).password:
        raise ValueError(
            "A run's location must hold no password, since it is recorded, got one; set the store's own variables, "
            "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"A run's location must be a folder or a URI, got {uri!r} ({_line(error)}).") from error
    return filesystem, root.rstrip("/")


def _unreadable(location: str, error: OSError) -> ValueError:
    return ValueError(f"A run's location must be one that can be read, got {location!r} ({why(error)}).")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _encode(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    return _serialise(pa.Table.from_pylist(rows, schema=schema))


def _serialise(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
