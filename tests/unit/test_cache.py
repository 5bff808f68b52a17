import json
import threading
from pathlib import Path

import numpy as np
import pytest

from trainables.data.cache import Arrays, cache_folder, cached_arrays, key_of


class Maker:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"a": np.arange(6).reshape(2, 3), "b": np.array([1.5], np.float32)}


def test_the_folder_is_the_variable_s(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == own_cache
    monkeypatch.setenv("SWEEP_CACHE", "")
    assert cache_folder().name == "all-cnn-sweep"


def test_a_second_call_reads_what_the_first_made(own_cache: Path) -> None:
    make = Maker()
    first, second = (cached_arrays("some", {"x": 1}, make) for _ in range(2))
    assert make.calls == 1
    for arrays in (first, second):
        assert set(arrays) == {"a", "b"}
        assert np.array_equal(arrays["a"], [[0, 1, 2], [3, 4, 5]])
        assert arrays["b"].dtype == np.float32
    (folder,) = own_cache.glob("some-*/")
    assert folder.name == f"some-{key_of({'x': 1})}"
    assert json.loads((folder / "index.json").read_text()) == {"key": {"x": 1}, "arrays": ["a", "b"]}


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "no index"])
def test_a_damaged_folder_is_named(own_cache: Path, damage: str) -> None:
    cached_arrays("some", {"x": 1}, Maker())
    (folder,) = own_cache.glob("some-*/")
    match damage:
        case "missing":
            (folder / "a.npy").unlink()
        case "empty":
            (folder / "a.npy").write_bytes(b"")
        case "truncated":
            (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:-8])
        case "no index":
            (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=rf"^The cache's {folder} must hold whole arrays, got a damaged one; delete"):
        cached_arrays("some", {"x": 1}, Maker())


def test_another_key_or_name_is_made_anew(own_cache: Path) -> None:
    make = Maker()
    for name, key in [("some", {"x": 1}), ("some", {"x": 2}), ("other", {"x": 1}), ("some", {"x": 1, "y": None})]:
        cached_arrays(name, key, make)
    assert make.calls == 4


def test_a_key_s_order_does_not_matter_and_its_values_do() -> None:
    assert key_of({"a": 1, "b": [2, "c"]}) == key_of({"b": [2, "c"], "a": 1})
    assert len({key_of({"a": value}) for value in (1, 2, "1", None, [1])}) == 5


def test_what_fails_leaves_nothing_and_is_tried_again(own_cache: Path) -> None:
    def fail() -> Arrays:
        raise ArithmeticError("mine")

    def give_what_cannot_be_kept() -> Arrays:
        return {"good": np.arange(3), "objects": np.array([object()])}

    with pytest.raises(ArithmeticError, match="mine"):
        cached_arrays("some", {"x": 1}, fail)
    with pytest.raises(ValueError, match="pickle"):
        cached_arrays("some", {"x": 1}, give_what_cannot_be_kept)
    assert not [path for path in own_cache.iterdir() if path.suffix != ".lock"]
    make = Maker()
    assert set(cached_arrays("some", {"x": 1}, make)) == {"a", "b"}
    assert make.calls == 1


def test_arrays_can_be_altered_in_memory_only(own_cache: Path) -> None:
    make = Maker()
    arrays = cached_arrays("some", {}, make)
    assert isinstance(arrays["a"], np.memmap)
    (file,) = own_cache.glob("some-*/a.npy")
    before = file.read_bytes()
    arrays["a"][:] = 99
    assert arrays["a"].min() == 99
    assert file.read_bytes() == before
    assert cached_arrays("some", {}, make)["a"].max() == 5


def test_one_makes_while_others_wait(own_cache: Path) -> None:
    started, go_on = threading.Event(), threading.Event()
    calls: list[int] = []
    results: list[Arrays] = []

    def make() -> Arrays:
        calls.append(1)
        started.set()
        go_on.wait(10)
        return {"a": np.arange(3)}

    threads = [
        threading.Thread(target=lambda: results.append(cached_arrays("some", {}, make)), daemon=True) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    assert not list(own_cache.glob("some-*/"))
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1
    assert [result["a"].tolist() for result in results] == [[0, 1, 2]] * 3
