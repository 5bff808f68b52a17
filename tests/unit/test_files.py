import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import tenacity

from trainables.common.files import ATTEMPTS, is_temporary, is_transient, with_retries, write_whole

AT_ONCE = tenacity.wait_none()


class Fails:
    """Fails so often, then returns."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(
            "When reading: AWS Error SLOW_DOWN during GetObject operation: reduce your request rate (HTTP status 503)"
        ),
        OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7, Couldn't connect to server"),
        OSError("AWS Error UNKNOWN (HTTP status 500) during HeadObject operation: No response body."),
    ],
)
def test_what_may_pass_is_tried_again_and_not_for_ever(error: OSError) -> None:
    assert is_transient(error)
    twice = Fails(2, error)
    with pytest.warns(RuntimeWarning, match="Storage failed and is asked again"):
        assert with_retries(twice, wait=AT_ONCE) == "done"
    assert twice.calls == 3
    always = Fails(99, error)
    with pytest.warns(RuntimeWarning), pytest.raises(OSError, match=re.escape(str(error))):
        with_retries(always, wait=AT_ONCE)
    assert always.calls == ATTEMPTS


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied (HTTP status 403)"),
        OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation: (HTTP status 404)"),
        ValueError("connection"),
    ],
)
def test_what_will_not_pass_is_raised_at_once(error: Exception) -> None:
    once = Fails(1, error)
    with pytest.raises(type(error)):
        with_retries(once, wait=AT_ONCE)
    assert once.calls == 1


def fail_in(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    real = getattr(os, name)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, name, full)
    return lambda: monkeypatch.setattr(os, name, real)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    file = tmp_path / "new" / "file.bin"
    write_whole(pafs.LocalFileSystem(), str(file), b"old")
    fail_in(where, monkeypatch)
    with pytest.raises(OSError, match="Read-only"):
        write_whole(pafs.LocalFileSystem(), str(file), b"new")
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_a_file_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(pafs.LocalFileSystem(), str(tmp_path / "new" / "file.bin"), b"data")
    assert synced[0].name == f".file.bin.{os.getpid()}"
    assert synced[1:] == [tmp_path / "new", tmp_path]


@pytest.mark.parametrize(
    ("name", "expected"),
    [(".study.json.123", True), (".part-00000001.parquet.7", True), (".lock", False), ("a.1", False), (".x.1a", False)],
)
def test_leftovers_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_temporary(name) == expected
