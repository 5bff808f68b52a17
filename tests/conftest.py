"""What all tests share."""

import os
from collections.abc import Iterator

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
