"""A run as one archive or folder: what is in it, that it is small and always the same, and what is refused."""

import json
import os
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sweep.record.damage import salvage_record
from sweep.record.pack import main, pack
from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store
from tests.standings import row, whole_document

STATES = ("completed", "failed", "pending", "running")


def epochs_of(trial_id: str, count: int) -> list[dict[str, Any]]:
    return [
        dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": epoch, "train_loss": 1 / epoch}
        for epoch in range(1, count + 1)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """Return a run of four trials with all that a run's folder may hold."""
    store = Store(str(tmp_path / "runs" / "mine"))
    store.write_run(whole_document())
    for number in range(3):
        store.append_epochs([rows[number] for n in range(4) if (rows := epochs_of(f"t{n}", 3))])
    store.write_decisions(
        [{"trial_id": "t0", "epoch": 1, "error": 0.5, "cutoff": None, "num_results": 1, "verdict": "continue"}]
    )
    store.write_trials(
        [row("model-c", 0.1, state, epochs_run=3) | {"trial_id": f"t{n}"} for n, state in enumerate(STATES)]
    )
    store.write_failure("t1", "Traceback: no memory\n")
    for trial_id in ("t0", "t2", "t3"):
        store.write_file(f"checkpoints/{trial_id}/previous.pt", f"{trial_id} before".encode())
    for trial_id in ("t0", "t2"):
        store.write_file(f"checkpoints/{trial_id}/last.pt", f"{trial_id} last".encode())
    for name in ("optuna.journal", "driver.log", "lease.json", ".lock", "report/report.html", "tune/x/state.json"):
        store.write_file(name, b"not of the record")
    store.write_file("failures/notes.txt", b"of no trial")
    return store


def names_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}


RECORD = {"study.json", "trials.parquet", "epochs/part-00000000.parquet", "decisions.parquet", "failures/t1.txt"}


def test_a_packed_folder_holds_the_record_and_the_tracebacks_and_nothing_else(run: Store, tmp_path: Path) -> None:
    before = contents(Path(run.location))
    pack(run.location, str(tmp_path / "new" / "copy"))
    assert contents(Path(run.location)) == before
    assert names_in(tmp_path / "new" / "copy") == RECORD
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]
    copy = Store(str(tmp_path / "new" / "copy"))
    assert copy.read_run() == run.read_run()
    assert copy.read_trials().equals(run.read_trials())
    assert copy.read_epochs().equals(run.read_epochs())
    assert copy.read_epochs().num_rows == 12
    assert copy.read_decisions().equals(run.read_decisions())
    assert copy.read_file("failures/t1.txt") == b"Traceback: no memory\n"
    assert salvage_record(copy).damages == ()


def test_checkpoints_are_the_last_ones_of_trials_that_have_not_ended(run: Store, tmp_path: Path) -> None:
    pack(run.location, str(tmp_path / "copy"), checkpoints=True)
    assert names_in(tmp_path / "copy") - RECORD == {"checkpoints/t2/last.pt", "checkpoints/t3/previous.pt"}
    copy = Store(str(tmp_path / "copy"))
    assert copy.read_file("checkpoints/t2/last.pt") == b"t2 last"
    assert copy.read_file("checkpoints/t3/previous.pt") == b"t3 before"


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_an_archive_unpacks_to_the_run_s_folder(run: Store, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"other{ending}"
    pack(run.location, str(file))
    (tmp_path / "elsewhere").mkdir()
    unpacked = subprocess.run(
        ["tar", "-xf", str(file), "-C", str(tmp_path / "elsewhere")], capture_output=True, text=True
    )
    assert (unpacked.returncode, unpacked.stderr) == (0, "")
    assert names_in(tmp_path / "elsewhere") == {f"mine/{name}" for name in RECORD}
    assert Store(str(tmp_path / "elsewhere" / "mine")).read_epochs().equals(run.read_epochs())
    assert (file.read_bytes()[:2] == b"\x1f\x8b") == (ending != ".tar")


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_the_same_run_gives_the_same_bytes(run: Store, tmp_path: Path, ending: str) -> None:
    pack(run.location, str(tmp_path / f"first{ending}"), checkpoints=True)
    run.merge_epochs()
    os.utime(run.folder("study.json"), (0, 0))
    Path(run.folder("failures/t1.txt")).chmod(0o600)
    pack(run.location, str(tmp_path / f"second{ending}"), checkpoints=True)
    assert (tmp_path / f"first{ending}").read_bytes() == (tmp_path / f"second{ending}").read_bytes()
    with tarfile.open(tmp_path / f"first{ending}") as archive:
        members = archive.getmembers()
    assert members[0].name == "mine"
    assert all(member.name.startswith("mine/") for member in members[1:])
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315_532_800)}
    assert {m.mode for m in members if m.isfile()} == {0o644}
    assert all(member.isfile() or member.isdir() for member in members)


def test_a_run_without_a_trial_yet_is_packed_too(tmp_path: Path) -> None:
    Store(str(tmp_path / "mine")).write_run(whole_document())
    pack(str(tmp_path / "mine"), str(tmp_path / "copy"))
    assert names_in(tmp_path / "copy") == {"study.json", "trials.parquet"}


def test_a_run_that_is_written_meanwhile_is_packed_as_it_was_when_its_trials_were_read(
    run: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [*run.read_trials().to_pylist(), row("model-c", 0.1, "running", epochs_run=1) | {"trial_id": "t9"}]

    def write_more() -> None:
        run.append_epochs(epochs_of("t9", 1))
        run.write_decisions([{"trial_id": "t9", "epoch": 1, "error": 0.5, "num_results": 1, "verdict": "stop"}])
        run.write_trials(late)
        run.write_failure("t9", "Traceback\n")
        run.merge_epochs()

    def each_part(store: Store, read: Any) -> Any:
        # The table of trials has been read, that of epochs has not.
        monkeypatch.undo()
        write_more()
        return store.each_part(read)

    monkeypatch.setattr(Store, "each_part", each_part)
    pack(run.location, str(tmp_path / "copy"))
    copy = Store(str(tmp_path / "copy"))
    assert run.read_trials().num_rows == 5
    for table in (copy.read_trials(), copy.read_epochs()):
        assert set(table["trial_id"].to_pylist()) == {"t0", "t1", "t2", "t3"}
    assert names_in(tmp_path / "copy") == RECORD - {"decisions.parquet"}
    assert salvage_record(copy).damages == ()


def test_48_trials_of_350_epochs_are_below_2_megabytes(tmp_path: Path) -> None:
    draws = random.Random(0)
    store = Store(str(tmp_path / "mine"))
    store.write_run(whole_document())
    trials = [
        row("model-c", 0.1, "completed", epochs_run=350)
        | {name: draws.random() for name in TRIALS.names if TRIALS.field(name).type == "double"}
        | {"trial_id": f"cifar10_none_model-c_{number:04d}"}
        for number in range(48)
    ]
    store.write_trials(trials)
    # No number of an epoch repeats another one: no record of as many epochs can be larger.
    random_columns = [name for name in EPOCHS.names if EPOCHS.field(name).type == "double"]
    store.append_epochs(
        [
            {"trial_id": trial["trial_id"], "epoch": epoch, "train_images": 45_000, "val_images": 5000}
            | {name: draws.random() for name in random_columns}
            for trial in trials
            for epoch in range(1, 351)
        ]
    )
    pack(store.location, str(tmp_path / "copy"))
    pack(store.location, str(tmp_path / "copy.tar.gz"))
    folder = sum(file.stat().st_size for file in (tmp_path / "copy").rglob("*") if file.is_file())
    assert Store(str(tmp_path / "copy")).read_epochs().num_rows == 48 * 350
    assert folder < 2_000_000
    assert (tmp_path / "copy.tar.gz").stat().st_size < folder


# The command line


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").strip()


def test_the_command_says_what_it_packed(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([run.location, str(tmp_path / "a.tar")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Packed 4 trials and 12 epochs into {tmp_path}/a.tar."
    assert lines[1].startswith("Unfinished trials: 2. Resumed from there, they train from epoch 1 again;")
    assert main([run.location, str(tmp_path / "b.tar"), "--checkpoints"]) == 0
    assert capsys.readouterr().out == f"Packed 4 trials and 12 epochs into {tmp_path}/b.tar.\n"


def test_where_there_is_no_run(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path / "nowhere", tmp_path / "runs"):
        assert f"study.json, got {place}, which does not" in refused(capsys, str(place), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_what_is_there_is_not_replaced(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.tar.gz").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("empty", "a.tar.gz", "link"):
        assert "TO must not exist yet, got" in refused(capsys, run.location, str(tmp_path / name))
    assert (tmp_path / "a.tar.gz").read_text() == "mine"


def test_the_run_itself_is_no_place_to_pack_to(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(run.location)
    before = contents(Path(run.location))
    for place in ("runs/mine", "runs/mine/copy", "runs/mine/a.tar", "runs/other/../mine/copy", "link/copy", "link"):
        assert "TO must lie outside the run" in refused(capsys, run.location, str(tmp_path / place))
    assert "TO must lie outside the run" in refused(capsys, f"file://{run.location}", f"{run.location}/copy")
    assert contents(Path(run.location)) == before
    # Its neighbour, whose name begins alike, is.
    assert main([run.location, f"{run.location}-copy"]) == 0


def test_a_damaged_run_is_refused(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = Path(run.folder("epochs/part-00000001.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-5])
    said = refused(capsys, run.location, str(tmp_path / "copy"))
    assert f"{part} cannot be read: its checksum" in said
    assert "Only an undamaged run can be packed" in said
    part.unlink()
    assert "must hold the 12 epochs that trials.parquet counts, got 4 fewer" in refused(
        capsys, run.location, str(tmp_path / "copy")
    )
    part.write_bytes(whole)
    study = Path(run.folder("study.json"))
    study.write_text(json.dumps(json.loads(study.read_text()) | {"study": {}}))
    assert "study.json must hold what a run writes" in refused(capsys, run.location, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_places_that_cannot_be(run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert "TO must be where this user can write, got" in refused(capsys, run.location, f"{tmp_path}/file/copy")
    assert "must be a local path where it is an archive" in refused(capsys, run.location, "s3://bucket/a.tar")
    Path(run.location).rename(f"{run.location} too")
    assert "got 'mine too'" in refused(capsys, f"{run.location} too", str(tmp_path / "a.tar"))


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "to", "more"], ["run", "to", "--no-such"]])
def test_command_lines_that_name_something_else(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, *arguments)
