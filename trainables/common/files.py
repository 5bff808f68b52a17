"""Files that appear whole or not at all, in a folder or at any `pyarrow.fs` URI."""

import errno
import os
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import tenacity

from trainables.common.validation import one_line, quote

_LONGEST = 4000
"""Characters of a path: Linux allows 4,095 bytes."""

ATTEMPTS = 7
"""How often storage is asked before it counts as failed: over some twelve seconds, waits and all."""

_WAIT = tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 0.2)

_MAY_PASS = frozenset(
    getattr(errno, name)
    for name in (
        # Of networks and what lies behind them, and of a disk on which somebody may make room.
        *("EIO", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED"),
        *("EHOSTUNREACH", "ENETUNREACH", "ENETRESET", "EPIPE", "ENOSPC", "EDQUOT"),
    )
)

_SAID_WHERE_IT_MAY_PASS = re.compile(
    r"\b(429|5\d\d)\b|SLOW_DOWN|SlowDown|THROTTL|INTERNAL_FAILURE|INTERNAL_ERROR|InternalError|SERVICE_UNAVAILABLE"
    r"|NETWORK_CONNECTION|REQUEST_TIMEOUT|timed? ?out|curlCode|connection",
    re.IGNORECASE,
)
"""What object stores say of a failure that another attempt may not meet."""

Result = TypeVar("Result")


def with_retries(do: Callable[[], Result], *, wait: tenacity.wait.WaitBaseT | None = None) -> Result:
    """Return what `do` returns, which asks storage for something, and try again where that may help.

    Args:
        do: reads, or writes something whole.
        wait: between attempts; by default a fifth of a second, doubled each time, with a random share.

    Raises:
        OSError: what the last attempt raised, or one that no other attempt would help.
    """

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        warnings.warn(f"Storage failed and is asked again: {error}", RuntimeWarning, stacklevel=2)

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=_WAIT if wait is None else wait,
        retry=tenacity.retry_if_exception(is_transient),
        before_sleep=say,
        reraise=True,
    )
    return attempts(do)


def is_transient(error: BaseException) -> bool:
    """Return whether storage may do what it has refused when it is asked again."""
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError | PermissionError):
        return False
    return error.errno in _MAY_PASS or (error.errno is None and bool(_SAID_WHERE_IT_MAY_PASS.search(str(error))))


def filesystem_of(location: str, what: str = "A location") -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and the path in it.

    Args:
        location: the path or URI.
        what: names it in messages.

    Raises:
        ValueError: a URI cannot be understood, or no path can be like this.
    """
    check_path(what, location)
    try:
        if "://" in location:
            filesystem, path = pafs.FileSystem.from_uri(location)
            return filesystem, check_path(what, path)
        return pafs.LocalFileSystem(), str(Path(location).resolve())
    except (pa.ArrowException, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must be a folder or a URI, got {quote(location)} ({one_line(error)}).") from error


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
            f"{what} must be at most {_LONGEST} characters without control characters, got {quote(location)}."
        )
    return location


def explain_os_error(error: Exception) -> str:
    """Return in one line why a file system refused something, and what to do where it was for want of credentials."""
    reason = one_line(error, longest=None)
    if re.search(r"ACCESS_DENIED|INVALID_ACCESS_KEY|credential|SIGNATURE|\b40[13]\b", reason, re.IGNORECASE):
        reason += (
            "; this takes credentials: set the store's own variables, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, on every node, or give the machines an instance profile"
        )
    return reason


def write_whole(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    """Write a file, and its folder where there is none: under another name and renamed once it is on the disk.

    An object store shows a file when it is closed; other remote file systems, HDFS among them, promise less.

    Raises:
        OSError: it cannot be written, also when tried again; what was there is still there.
    """
    with_retries(lambda: _write_whole(filesystem, path, data))


def is_temporary(name: str) -> bool:
    """Return whether a file's name is one under which `write_whole` begins: left over where its process was killed."""
    return re.fullmatch(r"\..+\.\d+", name) is not None


def _write_whole(filesystem: pafs.FileSystem, path: str, data: bytes) -> None:
    if not isinstance(filesystem, pafs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
        return
    file = Path(path)
    is_new_folder = not file.parent.is_dir()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    # A name is on the disk once its folder is.
    _sync(file.parent)
    if is_new_folder:
        _sync(file.parent.parent)


def _sync(folder: Path) -> None:
    with suppress(OSError):  # file systems that cannot do this to a folder need not be asked to
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
