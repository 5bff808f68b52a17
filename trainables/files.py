"""Files that appear whole or not at all, in a folder or at any `pyarrow.fs` URI."""

import os
import re
from pathlib import Path

import pyarrow.fs as pafs


def filesystem_of(location: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Raises:
        pyarrow.ArrowInvalid: a URI cannot be understood.
    """
    if "://" in location:
        return pafs.FileSystem.from_uri(location)  # type: ignore[no-any-return]
    return pafs.LocalFileSystem(), str(Path(location).resolve())


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
