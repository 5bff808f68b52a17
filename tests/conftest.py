"""What all tests share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache of decoded images."""
    before = os.environ.get("SWEEP_CACHE")
    os.environ["SWEEP_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["SWEEP_CACHE"]
    else:
        os.environ["SWEEP_CACHE"] = before


@pytest.fixture(scope="session")
def real_data() -> str:
    """Return the folder of real images that SWEEP_DATA names."""
    data = os.environ.get("SWEEP_DATA")
    if not data:
        pytest.skip("SWEEP_DATA names no folder with real CIFAR-10")
    return data


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test in which Ray starts, and keep this machine's cluster and data out of it."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("Ray must not start.")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("SWEEP_DATA", raising=False)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after the test what it registers."""
    from sweep.study.catalog import STUDIES
    from trainables.architectures import VARIANTS
    from trainables.data import DATASETS
    from trainables.options import OPTIONS

    for registry in (VARIANTS, DATASETS, STUDIES, OPTIONS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder that nothing else has written to."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEP_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def fast() -> Iterator[Path]:
    """Return a folder of its own in memory, where there is one: some 100,000 files are written there one by one."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)
