"""Whatever lies in a run's files: rows of whole files are shown as written, and sentences name the others."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from analysis.__main__ import main
from analysis.run_data import read_record
from sweep.record.codec import decode, encode
from sweep.record.damage import Salvaged, salvage_record
from sweep.record.params import write_params
from sweep.record.schema import DECISIONS, EPOCHS, STATES, TRIALS
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from tests.fuzzing import ODD, counted, damaged, examples, refused, seeds
from tests.standings import data, run_document

FILES = {
    "trials.parquet": TRIALS,
    "epochs/part-00000000.parquet": EPOCHS,
    "epochs/part-00000001.parquet": EPOCHS,
    "decisions.parquet": DECISIONS,
}


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], None]]:
    with counted("records") as count:
        yield count


@cache
def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a small record by the names of its files."""
    trials = []
    for number, variant in enumerate(("model-c", "model-c", "all-cnn-c", "strided-cnn-c")):
        known = {"dataset": "shapes", "augmentation": "none", "variant": variant, "lr": 0.01 * (1 + number % 2)}
        trials.append(
            dict.fromkeys(TRIALS.names)
            | known
            | {"trial_id": f"t{number}", "phase": "search", "state": STATES[2 + number % 3], "seed": 0}
            | {"params": write_params({"lr": known["lr"], "dropout": 0.5, "max_grad_norm": None})}
            | {"num_parameters": 100, "epochs_run": 2, "epochs_budget": 2, "isolated": False}
            | {"val_error": 0.5 - number / 10, "test_error": 0.6 - number / 10, "node": "here", "device": "cpu"}
            | {"precision": "float32", "memory_format": "contiguous", "compiled": False, "reason": ""}
            | {"preemptions": 0, "retries": 0, "retry_reasons": ""}
        )
    epochs = [
        dict.fromkeys(EPOCHS.names)
        | {"trial_id": trial["trial_id"], "epoch": epoch, "lr": 0.01, "train_loss": 1.5, "train_error": 0.4}
        | {"val_error": trial["val_error"], "test_error": trial["test_error"], "epoch_s": 1.0, "train_s": 0.5}
        for epoch in (1, 2)
        for trial in trials
    ]
    verdict = {"trial_id": "t1", "epoch": 1, "error": 0.5, "cutoff": 0.4, "num_results": 2, "verdict": "stop"}
    found = (trials, epochs[:4], epochs[4:], [verdict])
    return dict(zip(FILES, found, strict=True))


@cache
def whole() -> dict[str, bytes]:
    return {name: encode(rows()[name], schema) for name, schema in FILES.items()}


@cache
def study(protocol: str) -> bytes:
    asked = replace(STUDIES["quickstart"](), protocol=protocol, early_stopping="asha")
    shapes = data(train_images=50, test_images=10, generated=True)
    return run_document(asked, {"shapes": shapes}, planned_trials=8).to_bytes()


@pytest.fixture(scope="module")
def run(fast: Path) -> Path:
    (fast / "epochs").mkdir(exist_ok=True)
    return fast


def write(run: Path, files: dict[str, bytes], protocol: str = "paper") -> None:
    (run / "study.json").write_bytes(study(protocol))
    for name in FILES:
        if name in files:
            (run / name).write_bytes(files[name])
        else:
            (run / name).unlink(missing_ok=True)


def check(run: Path) -> Salvaged:
    """Read a record in every way, and return what was read of it."""
    store = Store(str(run))
    strict = [refused(read) for read in (store.read_trials, store.read_epochs, store.read_decisions)]
    record = salvage_record(store)
    assert record.damages or strict == [None] * 3, "what writers refuse is said to readers"
    for table, keys in ((record.trials, ["trial_id"]), (record.epochs, ["trial_id", "epoch"])):
        table.validate(full=True)
        pairs = [tuple(row.values()) for row in table.select(keys).to_pylist()]
        assert len(set(pairs)) == len(pairs)
    for damage in record.damages:
        assert "\n" not in damage, damage
        assert damage.endswith("."), damage
    if not record.damages and len(record.trials):
        assert len(record.epochs) >= sum(record.trials["epochs_run"].to_pylist()), "nothing is missing in silence"
    return record


def shown(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> int:
    status = main(["table", str(run), *options])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert (status == 0) == (said.err == ""), said.err
    assert status in (0, 1), said.err
    return status


def test_the_whole_record_is_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run, whole())
    assert check(run).damages == ()
    assert shown(run, capsys) == 0


@examples(250, 0.8)
@given(seed=seeds())
def test_a_damaged_file(seed: int, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    name = draws.choice(sorted(FILES))
    raw = damaged(whole()[name], draws.randrange(2**40))
    said = refused(lambda: decode(raw, FILES[name], name))
    assert (said is None) == (raw == whole()[name]), "a changed byte anywhere is noticed"
    assert said is None or said == f"{name} cannot be read: its checksum is missing or does not match its contents."


@examples(60, 0.12)
@given(seed=seeds())
def test_a_record_with_damaged_files(
    seed: int, run: Path, capsys: pytest.CaptureFixture[str], another: Callable[[], None]
) -> None:
    another()
    draws = random.Random(seed)
    files = dict(whole())
    for name in draws.sample(sorted(FILES), draws.choice((1, 1, 2))):
        fault = draws.random()
        if fault < 0.05:
            del files[name]
        elif fault < 0.1:
            files[name] = files[draws.choice(sorted(files))]
        else:
            files[name] = damaged(files[name], draws.randrange(2**40))
    write(run, files, draws.choice(("paper", "holdout")))
    damages = check(run).damages
    if seed % 20 == 0:
        status = shown(run, capsys, *draws.choice(((), ("--by", "lr"), ("--by", "seed"), ("--format", "csv"))))
        assert status or not damages


def odd_file(name: str, draws: random.Random) -> bytes:
    """Return a whole file with rows that no run writes."""
    listed = [dict(row) for row in rows()[name]]
    for _ in range(draws.choice((1, 2, 4))):
        row, column = draws.choice(listed), draws.choice(FILES[name].names)
        for value in draws.sample((*ODD, "zombie", "t0", 2, 0.3), len(ODD) + 4):
            with suppress(pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError, TypeError):
                row[column] = pa.array([value], FILES[name].field(column).type)[0].as_py()
                break  # the column's type can hold it
        if draws.random() < 0.2:
            listed.append(dict(draws.choice(listed)))
    return encode(listed[: draws.choice((len(listed), len(listed), 1, 0))], FILES[name])


@examples(60, 0.08)
@given(seed=seeds())
def test_odd_contents(seed: int, run: Path, capsys: pytest.CaptureFixture[str], another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    files = dict(whole())
    name = draws.choice(sorted(FILES))
    files[name] = odd_file(name, draws)
    write(run, files, draws.choice(("paper", "holdout")))
    check(run)
    if seed % 8 == 0:
        status = shown(run, capsys, *draws.choice(((), ("--by", "lr"), ("--by", "seed"), ("--compare", "model-c"))))
        _, record = read_record(Store(str(run)))  # a column that no table reads costs it nothing
        assert status or not record.damages


def test_a_column_that_no_table_reads_costs_it_no_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "epochs/part-00000001.parquet"
    write(run, whole() | {name: encode([row | {"train_error": 2.0} for row in rows()[name]], EPOCHS)})
    assert salvage_record(Store(str(run))).damages
    assert shown(run, capsys) == 0


def test_a_stopped_trial_without_a_budget_is_left_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [row | {"epochs_budget": None if row["state"] == "stopped" else 2} for row in rows()["trials.parquet"]]
    missing = sum(row["epochs_budget"] is None for row in trials)
    assert missing
    write(run, whole() | {"trials.parquet": encode(trials, TRIALS)})
    assert any("whose epochs_budget is at least 1, got None" in damage for damage in check(run).damages)
    assert len(check(run).trials) == len(trials) - missing
    assert shown(run, capsys) == 1
