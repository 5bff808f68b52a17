"""Where reports and pictures are written."""

import os
from pathlib import Path

from sweep.record.store import Store, write_local


def report_folder(store: Store, output: str | None, inside: str = "report") -> Path:
    """Return the folder for pictures, `inside` the run's own unless another is given; nothing is made yet.

    Raises:
        ValueError: the run is remote and no folder is given, or it cannot be written to.
    """
    if output is None and "://" in store.location:
        raise ValueError(f"output must be a local folder where the run is remote, got none for {store.location}.")
    return _writable(Path(store.folder(inside) if output is None else output).resolve())


def write_file(folder: Path, name: str, data: bytes) -> Path:
    """Write a file whole, and its folder where there is none; return its path.

    Raises:
        ValueError: it cannot be written.
    """
    file = folder / name
    try:
        write_local(file, data)
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written to, got {file} ({error.strerror}).") from error
    return file


def write_between(document: str, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks in a text file, each on a line of its own, by a paragraph or several.

    Raises:
        ValueError: the file cannot be read or written, or has not each mark once, in their order.
    """
    file = Path(document)
    try:
        before, mark, rest = file.read_text(encoding="utf-8").partition(begin)
        _, last, after = rest.partition(end)
        if not mark or not last or begin in rest:
            raise ValueError(f"{document} needs a place for the table: one line {begin} and below it one {end}.")
        file.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{document} cannot be rewritten ({error}).") from error


def report_file(output: str) -> tuple[Path, str]:
    """Return the folder and name of a file that a user named; nothing is made yet.

    Raises:
        ValueError: it is a folder, or cannot be written to.
    """
    if "://" in output:
        raise ValueError(f"output must be a local file, got {output!r}; copy it from there.")
    file = Path(output).resolve()
    if not output.strip() or output.endswith("/") or file.is_dir():
        raise ValueError(f"output must be a file, got {output!r}; add a name such as report.html.")
    return _writable(file.parent), file.name


def _writable(folder: Path) -> Path:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"output must be a folder that can be written to, got {str(folder)!r}.")
    return folder
