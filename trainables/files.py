"""Files that appear whole or not at all, in a folder or at any `pyarrow.fs` URI."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from trainables.fields import line, shown

_LONGEST = 4000
"""Characters of a path: Linux allows 4,095 bytes."""


def filesystem_of(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Raises:
        ValueError: a URI cannot be understood, or no path can be like this.
    """
    check_path("A location", location)
    try:
        if "://" in location:
            filesystem, path = pafs.FileSystem.from_uri(location)
            return filesystem, check_path("A location", path)
        return pafs.LocalFileSystem(), str(Path(location).resolve())
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"A location must be a path or a URI, got {shown(location)} ({line(error)}).") from error


def holds_password(uri: str) -> bool:
    """Return whether a URI names a password."""
    try:
        return bool(urlsplit(uri).password)
    except ValueError:  # brackets that enclose no address: what opens it says so
        return False


def check_path(what: str, location: str) -> str:
    """Return a path or URI where a file system can have it.

    Args:
        what: names it in the message.
        location: a path or URI.

    Raises:
        ValueError: it holds characters that no path holds, or is longer than any.
    """
    if len(location) > _LONGEST or any(letter < " " or "\ud800" <= letter <= "\udfff" for letter in location):
        raise ValueError(
            f"{what} must be at most {_LONGEST} characters without control characters, got {shown(location)}."
        )
    return location


def why(error: Exception) -> str:
    """Return in one line why a file system refused something, and what to do where it was for want of credentials."""
    reason = " ".join(str(error).split())
    if re.search(r"ACCESS_DENIED|INVALID_ACCESS_KEY|credential|SIGNATURE|\b40[13]\b", reason, re.IGNORECASE):
        reason += (
            "; this takes credentials: set the store's own variables, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, on every node, or give the machines an instance profile"
        )
    return reason


def write_whole(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file, and its folder where there is none: under another name and renamed once it is on the disk.

    An object store shows a file when it is closed; other remote file systems, HDFS among them, promise less.
    """
    if not isinstance(filesystem, pafs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with temporary.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(file)
