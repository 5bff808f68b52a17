import sys
from pathlib import Path

import pytest

import analysis
from tests.reported import make_run


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
