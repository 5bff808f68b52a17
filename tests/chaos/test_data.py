"""Files of a data set turn unreadable while a run goes on."""

import shutil
from pathlib import Path

import pytest

from sweep.record.store import Store
from tests.chaos.harness import Bench
from tests.image_sets import tiny_cifar10

STUDY = (
    *("cifar10", "--variants", "strided-cnn-a", "--width", "0.05", "--epochs", "2", "--batch-size", "10"),
    *("--protocol", "paper", "--learning-rates", "0.01", "0.02", "0.03", "--max-concurrent", "1"),
    # Each trial in a process of its own, which reads the images anew.
    *("--workers-per-trial", "1"),
)


@pytest.mark.chaos
def test_trials_fail_in_words_and_are_run_again_once_the_files_are_whole(tmp_path: Path) -> None:
    data, cache = tiny_cifar10(tmp_path / "data"), tmp_path / "cache"
    bench = Bench(folder=tmp_path, study=(*STUDY, "--data", str(data)))
    process = bench.start("run", SWEEP_CACHE=str(cache))
    assert process.stdout is not None
    lines = []
    (file,) = (data / "cifar10").glob("train*")
    whole = file.read_bytes()
    for line in process.stdout:
        lines.append(line)
        if line.startswith("[1/3]"):
            file.write_bytes(whole[: len(whole) // 2])
            shutil.rmtree(cache)
    process.communicate()
    said = "".join(lines)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    store = Store(str(tmp_path / "run"))
    rows = store.read_trials().to_pylist()
    assert sorted(row["state"] for row in rows) == ["completed", "failed", "failed"]
    for row in rows:
        assert row["state"] == "completed" or str(file) in row["reason"], row["reason"]

    file.write_bytes(whole)
    assert bench.finish("run", "--resume", "--retry-failed", fault="") == 0, bench.log["run"]
    rows = store.read_trials().to_pylist()
    assert [row["state"] for row in rows] == ["completed"] * 3
    assert sorted(row["retries"] for row in rows) == [0, 1, 1]
