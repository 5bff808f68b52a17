"""A run whose record is damaged goes on with every row that is left anywhere, or says what it would lose."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from sweep.record.damage import salvage_record
from sweep.record.params import write_params
from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store
from sweep.resume.repair import mend
from tests import trained
from trainables.architectures import build
from trainables.checkpoint import Checkpoint
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.epoch_report import EpochReport

CONFIG = TrialConfig(dataset="shapes", variant="model-c", lr=0.01, architecture=ArchitectureConfig(width=0.05))


def report(number: int, trial: int) -> EpochReport:
    return trained.report(number, train_loss=2.0 / number, test_error=0.8 - 0.1 * number + 0.01 * trial)


def reported(trial: int, numbers: range) -> list[dict[str, Any]]:
    rows = [asdict(report(number, trial)) for number in numbers]
    return [{name: row.get(name) for name in EPOCHS.names} | {"trial_id": f"t{trial}"} for row in rows]


def keep(store: Store, trial: int, epochs: int, **values: Any) -> None:
    config = replace(CONFIG, seed=trial, **values)
    state = trained.training(*(report(number, trial) for number in range(1, epochs + 1)))
    model = build("model-c", config.architecture, 10)
    Checkpoint.of(model, config, 10, epochs, state).save(store.checkpoint(f"t{trial}"))


@pytest.fixture
def run(tmp_path: Path) -> Store:
    """Return a run of two trials that have ended and one that runs, in three parts, with their checkpoints."""
    store = Store(str(tmp_path / "run"))
    states = ("completed", "completed", "running")
    known = {"phase": "search", "dataset": "shapes", "augmentation": "none", "variant": "model-c", "lr": 0.01}
    known |= {"params": write_params({"lr": 0.01, "dropout": 0.5}), "epochs_budget": 4}
    rows = [
        dict.fromkeys(TRIALS.names)
        | known
        | {"trial_id": f"t{number}", "seed": number, "state": state, "epochs_run": 4 - number}
        | {"test_error": 0.5}
        for number, state in enumerate(states)
    ]
    for part in (range(1, 2), range(2, 3), range(3, 5)):
        store.append_epochs([row for n in range(3) for row in reported(n, part) if row["epoch"] <= 4 - n])
    store.write_trials(rows)
    for number in range(3):
        keep(store, number, 4 - number)
    return store


def part(store: Store, number: int) -> Path:
    return Path(store.location) / f"epochs/part-{number:08d}.parquet"


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 16
    file.write_bytes(raw)


def test_a_whole_record_is_left_as_it_is(run: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(run.location).rglob("*")}
    assert mend(run) == []
    assert {path: path.stat().st_mtime_ns for path in Path(run.location).rglob("*")} == before


def test_rows_of_a_damaged_part_come_back_from_checkpoints(run: Store) -> None:
    whole = run.read_epochs()
    flip(part(run, 1))
    bad = part(run, 1).read_bytes()
    assert salvage_record(run).damages
    first, second = mend(run)
    assert first == f"{part(run, 1)} is damaged and was moved to damaged/part-00000001.parquet."
    assert second == "3 lost rows of epochs came back from the checkpoints of 3 trials."
    assert run.read_epochs().equals(whole)
    assert salvage_record(run).damages == ()
    assert (Path(run.location) / "damaged/part-00000001.parquet").read_bytes() == bad
    assert mend(run) == []


def test_rows_of_a_part_that_is_gone_come_back(run: Store) -> None:
    whole = run.read_epochs()
    part(run, 2).unlink()
    assert mend(run) == ["3 lost rows of epochs came back from the checkpoints of 2 trials."]
    assert run.read_epochs().equals(whole)


def test_a_second_damage_takes_no_other_ones_place(run: Store) -> None:
    for _ in range(2):
        flip(part(run, 0))
        assert len(mend(run)) == 2
        run.merge_epochs()
        part(run, run._parts()[0]).rename(part(run, 0))
    assert {file.name for file in (Path(run.location) / "damaged").iterdir()} == {
        "part-00000000.parquet",
        "part-00000000.parquet.2",
    }


def test_a_trial_that_has_ended_without_a_checkpoint_is_not_dropped_in_silence(run: Store) -> None:
    Path(run.checkpoint("t1")).unlink()
    flip(part(run, 1))
    before = {path: path.read_bytes() for path in Path(run.location).rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"part-00000001\.parquet cannot be read: .* 1 row of 1 trial that has ended: t1 is in no"
    ):
        mend(run)
    assert {path: path.read_bytes() for path in Path(run.location).rglob("*") if path.is_file()} == before
    # As the sentence advises: the user decides, and it is still said.
    part(run, 1).unlink()
    assert mend(run) == [
        "2 lost rows of epochs came back from the checkpoints of 2 trials.",
        "1 row of epochs is lost, of 1 trial that has ended: t1.",
    ]


def test_a_trial_that_goes_on_needs_no_checkpoint(run: Store) -> None:
    Path(run.checkpoint("t2")).unlink()
    flip(part(run, 1))
    assert mend(run)[1] == "2 lost rows of epochs came back from the checkpoints of 2 trials."


def test_a_checkpoint_of_another_trial_gives_no_rows(run: Store) -> None:
    keep(run, 0, 4)
    Path(run.checkpoint("t1")).write_bytes(Path(run.checkpoint("t0")).read_bytes())
    part(run, 1).unlink()
    assert mend(run)[-1] == "1 row of epochs is lost, of 1 trial that has ended: t1."


def test_a_checkpoint_of_other_hyperparameters_gives_no_rows(run: Store) -> None:
    keep(run, 1, 3, architecture=replace(CONFIG.architecture, dropout=0.25))
    part(run, 1).unlink()
    assert mend(run)[-1] == "1 row of epochs is lost, of 1 trial that has ended: t1."


@pytest.mark.parametrize("name", ["trials.parquet", "decisions.parquet"])
def test_a_damaged_table_beside_the_epochs_is_refused(run: Store, name: str) -> None:
    run.write_decisions(
        [{"trial_id": "t0", "epoch": 1, "error": 0.5, "cutoff": None, "num_results": 1, "verdict": "continue"}]
    )
    flip(Path(run.location) / name)
    with pytest.raises(
        ValueError, match=rf"{name} cannot be read: .* goes on from a whole one only; put it back from a copy"
    ):
        mend(run)


def test_values_that_no_run_writes_are_refused(run: Store) -> None:
    rows = run.read_trials().to_pylist()
    run.write_trials([rows[0] | {"state": "zombie"}, *rows[1:]])
    with pytest.raises(ValueError, match=r"must hold rows whose state is one of .*, got 'zombie' in row 0; 1 of its 3"):
        mend(run)
    run.write_trials([rows[0], rows[0]])
    with pytest.raises(ValueError, match=r"must hold each trial once, got 1 of its 2 rows again\. A run goes on"):
        mend(run)


def test_merging_leaves_a_damaged_part_for_later(run: Store) -> None:
    whole = run.read_epochs()
    flip(part(run, 1))
    bad = part(run, 1).read_bytes()
    run.merge_epochs()
    assert part(run, 1).read_bytes() == bad
    assert run.count_parts() == 2
    assert len(mend(run)) == 2
    assert run.read_epochs().equals(whole)
