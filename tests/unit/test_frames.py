import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import analysis
from sweep.record.params import write_params
from tests.reported import SEARCHED, make_run, make_run_of_many_kinds, trial


def test_a_run_as_arrow_and_as_pandas(tmp_path: Path) -> None:
    record = analysis.load(make_run(str(tmp_path / "run")).location)
    assert record.run.executions[0].command[-1] == "a b"
    assert record.trials.num_rows == 12
    assert record.epochs.num_rows == 9 * 10 + 4 + 2
    assert record.decisions.num_rows == 0
    pandas = pytest.importorskip("pandas")
    frame = record.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.groupby("variant")["test_error"].min()["all-cnn-c"] == pytest.approx(0.09)
    epochs = record.to_pandas("epochs")
    assert len(epochs) == 96
    # Each epoch knows what was trained; its own learning rate stays the schedule's.
    assert set(epochs["variant"]) == {"model-c", "all-cnn-c", "strided-cnn-c"}
    assert {"lr", "trial_lr"} <= set(epochs.columns)
    assert list(epochs["epoch"][:3]) == [1, 2, 3]


def test_what_was_searched_has_columns_of_its_own_kind(tmp_path: Path) -> None:
    record = analysis.load(make_run_of_many_kinds(str(tmp_path / "run")).location)
    assert record.run.study.space == SEARCHED
    kinds = {name: record.trials.schema.field(name).type for name in SEARCHED}
    assert kinds == {
        "lr": pa.float64(),
        "dropout": pa.float64(),
        "initialisation": pa.string(),
        "initialisation_std": pa.float64(),
        "class_relu": pa.bool_(),
    }
    # Null exactly where the dimension does not exist.
    for row in record.trials.to_pylist():
        assert (row["initialisation_std"] is None) == (row["initialisation"] != "normal")
    pytest.importorskip("pandas")
    frame = record.to_pandas()
    best = frame[(frame.dropout == 0.1) & (frame.initialisation == "normal") & ~frame.class_relu.astype(bool)]
    assert len(best) == 2 * 2 * 2
    assert best.test_error.min() == best[best.variant == "all-cnn-c"].test_error.min()
    epochs = record.to_pandas("epochs")
    assert len(epochs) == 64 * 10
    of_one = epochs[epochs.trial_id == "t0004"]
    row = next(row for row in record.trials.to_pylist() if row["trial_id"] == "t0004")
    assert set(of_one.initialisation) == {row["initialisation"]}
    assert set(of_one.dropout) == {row["dropout"]}


def test_other_tools_filter_the_file_by_what_was_searched(tmp_path: Path) -> None:
    store = make_run_of_many_kinds(str(tmp_path / "run"))
    # No code of this project: the file as any reader of Parquet has it, rows left out before they are read.
    wanted = (pc.field("dropout") > 0) & (pc.field("initialisation") == "normal") & pc.field("class_relu")
    table = pq.read_table(
        f"{store.location}/trials.parquet", columns=["variant", "lr", "initialisation_std", "params"], filters=wanted
    )
    assert sorted(zip(*(table[name].to_pylist() for name in ("variant", "lr", "initialisation_std")), strict=True)) == [
        (variant, lr, std) for variant in ("all-cnn-c", "model-c") for lr in (0.05, 0.1) for std in (0.01, 0.05)
    ]
    # The same values stand in `params`, which names a configuration.
    assert json.loads(table["params"][0].as_py()).keys() == set(SEARCHED)


def test_a_search_of_epochs_and_of_a_variants_own_option_has_columns_too(tmp_path: Path) -> None:
    store = make_run(str(tmp_path / "run"))
    rows = [trial(0, epochs=10, precision=None, **{"options.depth": 2}), trial(1, epochs=20, **{"options.depth": 3})]
    rows[0]["params"] = write_params({"lr": 0.05, "epochs": 10, "options.depth": 2, "precision": "bfloat16"})
    rows[0]["precision"] = "float32"
    store.write_trials(rows)
    columns = analysis.load(store.location).trials.select(["epochs", "options_depth", "precision", "param_precision"])
    assert columns.to_pylist()[0] == {
        "epochs": 10,
        "options_depth": 2,
        # What the trial ran with, and what was asked for.
        "precision": "float32",
        "param_precision": "bfloat16",
    }


def test_no_such_table_and_no_such_run(tmp_path: Path) -> None:
    record = analysis.load(make_run(str(tmp_path / "run")).location)
    with pytest.raises(ValueError, match="table must be one of trials, epochs, decisions, got 'rungs'"):
        record.to_pandas("rungs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"A run's folder must exist and hold study\.json"):
        analysis.load(str(tmp_path / "none"))


def test_without_pandas_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = analysis.load(make_run(str(tmp_path / "run")).location)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas must be installed for to_pandas, got none; run pip install pandas"):
        record.to_pandas()
