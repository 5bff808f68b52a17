import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces import Choice, IntUniform, LogUniform, Space, Uniform
from sweep.record.codec import decode, encode, serialise, with_checksum
from sweep.record.document import RunDocument
from sweep.record.params import is_params, read_params, write_params
from sweep.record.schema import DECISIONS, EPOCHS, FINAL_STATES, SCHEMA_VERSION, STATES, TRIALS
from sweep.record.store import Store, check_name, run_location
from tests.standings import whole_document


def trial(trial_id: str, **values: Any) -> dict[str, Any]:
    """Return a row of `trials`; a value that is none of its columns is a hyperparameter that was searched."""
    searched = {name: values.pop(name) for name in list(values) if name not in TRIALS.names}
    row = dict.fromkeys(TRIALS.names) | {"trial_id": trial_id, "state": "completed", "lr": 0.05, "epochs_run": 3}
    return row | {"params": write_params({"lr": 0.05, **searched})} | values


def epoch(trial_id: str, number: int, error: float = 0.5) -> dict[str, Any]:
    return dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": number, "test_error": error}


RUN = whole_document()


@pytest.fixture(params=["folder", "file-uri"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "run"))
    return Store(f"file://{tmp_path}/run")


def test_final_states_are_states_and_leave_out_those_that_go_on() -> None:
    assert set(STATES) - FINAL_STATES == {"pending", "running"}
    assert set(STATES) > FINAL_STATES


def test_a_run_comes_back_with_the_schema_version(store: Store) -> None:
    assert not store.exists()
    store.write_run(RUN)
    assert store.exists()
    assert store.read_run() == RUN
    assert json.loads(store.read_file("study.json"))["schema_version"] == SCHEMA_VERSION


def test_a_space_comes_back_in_its_order_in_which_it_is_drawn(store: Store) -> None:
    space = Space(
        weight_decay=LogUniform(0.001, 0.1),
        momentum_form=Choice(("pytorch", "caffe")),
        momentum=Choice((0.9, 0.5)).when("momentum_form", "caffe"),
        lr=Uniform(0.1, 0.5, 0.1),
        batch_size=IntUniform(8, 16),
    )
    study = replace(RUN.study, space=space, spaces={"model-c": space}, search="random", trials_per_cell=2)
    study = replace(study, variants=("model-c", "all-cnn-c"))
    store.write_run(replace(RUN, study=study))
    assert store.read_run().study == study
    assert list(store.read_run().study.space) == ["weight_decay", "momentum_form", "momentum", "lr", "batch_size"]


@pytest.mark.parametrize("missing", [item.name for item in fields(RunDocument) if item.name != "extended"])
def test_a_run_that_lacks_a_part_is_refused(tmp_path: Path, missing: str) -> None:
    plain = json.loads(RUN.to_bytes())
    del plain[missing]
    (tmp_path / "study.json").write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=rf"study\.json must hold what a run writes, .*\b{missing}\b"):
        Store(str(tmp_path)).read_run()


def test_trials_come_back_in_order_of_their_id_with_the_schemas_types(store: Store) -> None:
    rows = [trial("b", val_error=None, test_error=0.25, reason="é"), trial("a", state="failed", seed=2**40)]
    store.write_trials(rows)
    table = store.read_trials()
    assert table.schema.equals(TRIALS)
    assert table.to_pylist() == [rows[1], rows[0]]


def test_writing_trials_again_replaces_them(store: Store) -> None:
    store.write_trials([trial("a"), trial("b")])
    store.write_trials([trial("c")])
    assert store.read_trials()["trial_id"].to_pylist() == ["c"]


def test_decisions_come_back_in_the_order_they_were_made_and_are_replaced(store: Store) -> None:
    rows = [
        {"trial_id": "b", "epoch": 5, "error": 0.4, "cutoff": None, "num_results": 1, "verdict": "continue"},
        {"trial_id": "a", "epoch": 5, "error": 0.5, "cutoff": 0.4, "num_results": 2, "verdict": "stop"},
    ]
    store.write_decisions(rows[:1])
    store.write_decisions(rows)
    table = store.read_decisions()
    assert table.schema.equals(DECISIONS)
    assert table.to_pylist() == rows


def test_nothing_written_reads_as_empty_tables_of_the_schema(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "absent"))
    assert store.is_empty()
    assert store.read_trials().schema.equals(TRIALS)
    assert store.read_epochs().schema.equals(EPOCHS)
    assert store.read_decisions().schema.equals(DECISIONS)
    assert store.read_trials().num_rows == store.read_epochs().num_rows == store.count_parts() == 0
    assert store.read_decisions().num_rows == 0
    assert not (tmp_path / "absent").exists()


def test_parts_are_appended_and_read_as_one_table_in_order(store: Store) -> None:
    store.append_epochs([epoch("b", 1), epoch("a", 2)])
    store.append_epochs([])
    store.append_epochs([epoch("a", 1)])
    assert store.count_parts() == 2
    read = store.read_epochs()
    assert list(zip(read["trial_id"].to_pylist(), read["epoch"].to_pylist(), strict=True)) == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
    ]


def test_of_doubled_rows_the_later_counts_within_a_part_and_across_parts(store: Store) -> None:
    store.append_epochs([epoch("a", 1, 0.9), epoch("a", 2, 0.8), epoch("a", 2, 0.7)])
    store.append_epochs([epoch("a", 1, 0.6)])
    read = store.read_epochs()
    assert dict(zip(read["epoch"].to_pylist(), read["test_error"].to_pylist(), strict=True)) == {1: 0.6, 2: 0.7}


def test_merging_leaves_one_part_and_equal_rows(store: Store) -> None:
    for number in range(4):
        store.append_epochs([epoch("a", number, number / 10), epoch("a", 0, number / 10)])
    before = store.read_epochs()
    store.merge_epochs()
    assert store.count_parts() == 1
    assert store.read_epochs().equals(before)
    store.append_epochs([epoch("a", 9)])
    assert store.read_epochs().num_rows == before.num_rows + 1


def test_merging_may_drop_one_trial(store: Store) -> None:
    store.append_epochs([epoch("a", 1), epoch("b", 1)])
    store.append_epochs([epoch("b", 2), epoch("c", 1)])
    store.merge_epochs(drop=["b"])
    assert store.read_epochs()["trial_id"].to_pylist() == ["a", "c"]


def test_a_reader_that_listed_the_parts_before_a_merge_reads_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append_epochs([epoch("a", 1)])
    store.append_epochs([epoch("a", 2)])
    listed, reader = store._parts(), Store(store.location)
    store.merge_epochs()
    answers = [listed, reader._parts()]
    monkeypatch.setattr(reader, "_parts", lambda: answers.pop(0))
    assert reader.read_epochs()["epoch"].to_pylist() == [1, 2]
    assert not answers


def test_a_second_writer_is_refused(store: Store) -> None:
    with store.locked():
        other = Store(store.location)
        assert other.is_empty()
        with (
            pytest.raises(ValueError, match=r"^A run must be written by one process, got .*run, where another"),
            other.locked(),
        ):
            pass
    with Store(store.location).locked():
        pass


def test_a_run_lies_under_its_name_in_the_output() -> None:
    assert run_location("runs/", "mine") == "runs/mine"
    assert run_location("s3://bucket/runs/?region=eu-1&x=/", "mine") == "s3://bucket/runs/mine?region=eu-1&x=/"
    assert run_location("~/runs", "mine") == str(Path.home() / "runs" / "mine")


def test_a_folder_in_a_run_keeps_what_a_uri_says_behind_its_path(tmp_path: Path) -> None:
    assert Store(str(tmp_path)).folder("tune") == f"{tmp_path}/tune"
    store = Store("s3://bucket/run?region=eu-central-1")
    assert store.folder("tune/1") == "s3://bucket/run/tune/1?region=eu-central-1"


@pytest.mark.parametrize("output", ["", " ", "s3://", "s3:///?region=x"])
def test_an_output_that_is_no_place_is_refused(output: str) -> None:
    with pytest.raises(ValueError, match=r"^output must be a folder or a URI"):
        run_location(output, "mine")


def test_a_password_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must hold no password") as caught:
        Store("s3://key:secret@bucket/run")
    assert "secret" not in str(caught.value)


def test_a_merge_cut_off_before_the_old_parts_went_reads_the_same(store: Store, tmp_path: Path) -> None:
    store.append_epochs([epoch("a", 1, 0.9)])
    store.append_epochs([epoch("a", 1, 0.4), epoch("a", 2)])
    before = store.read_epochs()
    old = {path: path.read_bytes() for path in (tmp_path / "run" / "epochs").iterdir()}
    store.merge_epochs()
    for path, data in old.items():
        path.write_bytes(data)
    assert store.count_parts() == 3
    assert store.read_epochs().equals(before)


def test_a_reader_sees_whole_files_while_a_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, reader = Store(str(tmp_path / "run")), Store(str(tmp_path / "run"))
    store.append_epochs([epoch("a", 1)])
    store.write_trials([trial("a")])
    seen: list[tuple[list[str], int]] = []
    replace = Path.replace

    def looking(self: Path, target: Path) -> Path:
        # The new file is written and not yet in place: a reader must see the old record, whole.
        assert self.stat().st_size > 0
        seen.append((reader.read_trials()["trial_id"].to_pylist(), reader.read_epochs().num_rows))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", looking)
    store.append_epochs([epoch("a", 2)])
    store.write_trials([trial("a"), trial("b")])
    assert seen == [(["a"], 1), (["a"], 2)]
    assert reader.read_trials().num_rows == 2
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["epochs", "trials.parquet"]


def test_files_with_other_names_are_no_parts(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.append_epochs([epoch("a", 1)])
    (tmp_path / "epochs" / ".part-00000001.parquet.77").write_bytes(b"half")
    (tmp_path / "epochs" / "part-1.parquet").write_bytes(b"half")
    assert store.count_parts() == 1
    assert store.read_epochs().num_rows == 1


@pytest.mark.parametrize("name", ["a", "cifar10-20260101-120000", "_x", "A.b_c-9", "x" * 100])
def test_good_names_are_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["a/b", "..", ".", ".x", "-x", "", "x" * 101, "a b", "a\n", "ä", "a\\b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name must be at most 100 letters, digits, .*, got '") as caught:
        check_name(name)
    assert str(caught.value).endswith(f"got {name!r}.")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^A run's folder must exist and hold study\.json, got .*, which does not\.$"):
        Store(str(tmp_path)).read_run()


@pytest.mark.parametrize("text", ["{", "", "\x00\x01", '{"schema_version": 1'])
def test_a_broken_study_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json must be JSON, got a broken file \("):
        Store(str(tmp_path)).read_run()


@pytest.mark.parametrize(
    "study",
    [
        *({"schema_version": version} for version in (SCHEMA_VERSION + 1, SCHEMA_VERSION - 1, True, 1.0, "1", None)),
        *({}, [], "text"),
    ],
)
def test_another_schema_version_is_refused(tmp_path: Path, study: Any) -> None:
    (tmp_path / "study.json").write_text(json.dumps(study))
    got = study.get("schema_version") if isinstance(study, dict) else None
    with pytest.raises(ValueError, match=f"must hold a record of version {SCHEMA_VERSION}, got {got!r}; read it"):
        Store(str(tmp_path)).read_run()


DAMAGED = r"trials\.parquet cannot be read: its checksum is missing or does not match its contents\.$"


def test_every_cut_and_every_flipped_bit_of_a_file_is_noticed() -> None:
    raw = encode([trial("a")], TRIALS)
    for place in range(len(raw)):
        flipped = raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        for changed in (raw[:place], flipped):
            with pytest.raises(ValueError, match=DAMAGED):
                decode(changed, TRIALS, "trials.parquet")


def test_a_table_that_another_program_wrote_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([trial("a")], schema=TRIALS), tmp_path / "trials.parquet")
    with pytest.raises(ValueError, match=DAMAGED):
        Store(str(tmp_path)).read_trials()


def test_other_programs_read_the_tables(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_trials([trial("a"), trial("b")])
    assert pq.read_table(tmp_path / "trials.parquet").equals(store.read_trials())
    assert pd.read_parquet(tmp_path / "trials.parquet")["trial_id"].tolist() == ["a", "b"]


SEARCHED: dict[str, dict[str, Any]] = {
    "a": {"dropout": 0.5, "batch_size": 64, "class_relu": True, "momentum_form": "caffe", "max_grad_norm": None},
    "b": {"dropout": 0.25, "batch_size": 128, "class_relu": False, "momentum_form": "pytorch", "max_grad_norm": 1.5},
    # Another variant's cell, whose options are its own; the names of others are those of the table's own columns.
    "c": {"options.depth": 3, "options.skip": "é", "precision": "float32", "seed": 7, "width": 1, "mixed": 0.5},
    "d": {"options.depth": 4, "width": 0.5, "mixed": "auto", "options.large": 2**70},
}


def test_hyperparameters_come_back_and_stand_in_columns_of_their_own_type(store: Store, tmp_path: Path) -> None:
    rows = [trial(name, **{"lr": 0.05}) | {"params": write_params(params)} for name, params in SEARCHED.items()]
    store.write_trials(rows)
    assert store.read_trials().schema.equals(TRIALS), "the columns are for other readers"
    assert {row["trial_id"]: read_params(row["params"]) for row in store.trial_rows()} == SEARCHED
    file = tmp_path / "run" / "trials.parquet"
    table = pq.read_table(file)
    added = {field.name: str(field.type) for field in list(table.schema)[len(TRIALS) :]}
    assert added == {
        "batch_size": "int64",
        "class_relu": "bool",
        "dropout": "double",
        "max_grad_norm": "double",
        "mixed": "string",
        "momentum_form": "string",
        "options_depth": "int64",
        "options_large": "string",
        "options_skip": "string",
        "param_precision": "string",
        "param_seed": "int64",
        "width": "double",
    }
    assert table["max_grad_norm"].to_pylist() == [None, 1.5, None, None]
    assert table["width"].to_pylist() == [None, None, 1.0, 0.5]
    assert table["mixed"].to_pylist() == [None, None, "0.5", '"auto"']
    assert table["param_precision"].to_pylist() == [None, None, "float32", None]
    assert table["precision"].to_pylist() == [None] * 4, "that is what the trials ran in"
    frame = pd.read_parquet(file).set_index("trial_id")
    assert frame.loc["b", ["dropout", "batch_size", "class_relu", "momentum_form"]].tolist() == [
        *(0.25, 128.0),
        *(False, "pytorch"),
    ]
    assert frame.loc["c", "options_skip"] == "é"


def test_a_hyperparameter_that_is_none_everywhere_has_a_column_too(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_trials([trial("a", max_grad_norm=None)])
    assert pq.read_table(tmp_path / "trials.parquet")["max_grad_norm"].to_pylist() == [None]
    assert read_params(store.trial_rows()[0]["params"]) == {"lr": 0.05, "max_grad_norm": None}


def test_equal_hyperparameters_are_equal_texts_whatever_their_order() -> None:
    assert write_params({"lr": 0.1, "dropout": 0.5}) == write_params({"dropout": 0.5, "lr": 0.1})
    texts = [write_params({"x": value}) for value in (True, 1, 1.5, "1", "true", None, "", "none")]
    assert len(set(texts)) == len(texts)
    assert [read_params(text)["x"] for text in texts] == [True, 1, 1.5, "1", "true", None, "", "none"]


@pytest.mark.parametrize(
    "text",
    [
        '{"lr": 0.1}',
        '{"lr":[1]}',
        '{"lr":NaN}',
        '{"lr":1e999}',
        '{"b":1,"a":2}',
        '{"a":"\\ud800"}',
        "[]",
        "{",
        "9" * 9999,
    ],
)
def test_a_text_that_no_run_writes_is_known(text: str) -> None:
    assert not is_params(text)
    assert is_params('{"a":"é","b":1}')


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '"lr"', "null"])
def test_what_is_no_hyperparameters_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"params|Expecting"):
        read_params(text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda table: table.drop_columns(["state"]), "state"),
        (lambda table: table.add_column(3, "extra", pa.array([1])), "the order of its columns"),
        (lambda table: table.set_column(0, "trial_id", pa.array([1])), "trial_id"),
        (lambda table: table.select(table.column_names[::-1]), "the order of its columns"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, change: Callable[[pa.Table], pa.Table], text: str) -> None:
    whole = pa.Table.from_pylist([trial("a")], schema=TRIALS)
    (tmp_path / "trials.parquet").write_bytes(serialise(change(whole)))
    said = rf"trials\.parquet cannot be read: it holds another table, which differs in '{text}'\.$"
    with pytest.raises(ValueError, match=said):
        Store(str(tmp_path)).read_trials()


def test_garbage_with_a_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "decisions.parquet").write_bytes(with_checksum(b"garbage" * 9 + bytes(8)))
    with pytest.raises(ValueError, match=r"decisions\.parquet cannot be read: it is no Parquet file \("):
        Store(str(tmp_path)).read_decisions()


def test_a_uri_that_cannot_be_understood_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^A location must be a folder or a URI, got 'nope://x' \("):
        Store("nope://x")


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("runs/a").location == str(tmp_path / "runs" / "a")
    assert Store("file:///x/y/").location == "/x/y"
