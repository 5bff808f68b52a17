"""Arrays on disk, made once per machine and mapped into the memory of every process that asks."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

Arrays = dict[str, np.ndarray[Any, Any]]

_INDEX = "index.json"
"""What a folder of the cache was made for, and its arrays by name."""


def cache_folder() -> Path:
    """Return the folder for decoded data: `SWEEP_CACHE` where it is set, else the user's cache folder."""
    return Path(os.environ.get("SWEEP_CACHE") or platformdirs.user_cache_dir("all-cnn-sweep"))


def key_of(parts: Mapping[str, Any]) -> str:
    """Return a short name that changes with anything in `parts`."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def cached_arrays(name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays that `make` gives, from disk where an equal `key` was made before.

    One process makes them while others wait. The folder appears whole or not at all, and `key` is kept beside
    the arrays. What comes back is mapped copy-on-write: processes share its pages, and none can alter the file.

    Raises:
        ValueError: the cache cannot be written, or holds a damaged file.
    """
    folder = cache_folder() / f"{name}-{key_of(key)}"
    if not folder.is_dir():
        make_folder(folder.parent)
        with filelock.FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                arrays = make()
                try:
                    _write(folder, key, arrays)
                except OSError as error:
                    raise _unwritable(folder.parent, error) from error
    try:
        names = json.loads((folder / _INDEX).read_text())["arrays"]
        return {name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in names}
    # numpy reads an array's header as Python: damage may raise TokenError, SyntaxError and others.
    except Exception as error:
        raise ValueError(
            f"The cache's {folder} must hold whole arrays, got a damaged one; delete that folder."
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder of the cache.

    Raises:
        ValueError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ValueError:
    return ValueError(
        f"The cache of decoded images must be a folder that can be written to, got {str(folder)!r} "
        f"({error.strerror}); set SWEEP_CACHE to another."
    )


def _write(folder: Path, key: Mapping[str, Any], arrays: Arrays) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        (temporary / _INDEX).write_text(json.dumps({"key": key, "arrays": list(arrays)}, indent=2, sort_keys=True))
        for file in temporary.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
