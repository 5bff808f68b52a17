"""A record in an object store of whose requests one in twenty fails and one in twenty is slow."""

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sweep.record.pack import pack
from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store, run_location
from tests.chaos.harness import KILLED, Bench
from tests.chaos.test_writes import SEED, STUDY
from tests.object_store import CREDENTIALS, object_store
from tests.standings import row, whole_document
from tests.trained import checkpoint
from trainables.architectures import build
from trainables.checkpoint import Checkpoint, find_start
from trainables.config import ArchitectureConfig, TrialConfig

SHARE = 0.05


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def fill(store: Store, draws: random.Random) -> None:
    """Write what a run writes, in an order that the draws decide."""
    rows: dict[str, dict[str, object]] = {}
    with store.locked():
        store.write_run(whole_document())
        for number in range(15):
            trial_id = f"t{draws.randrange(8)}"
            done = rows.setdefault(trial_id, dict.fromkeys(TRIALS.names) | {"trial_id": trial_id, "epochs_run": 0})
            done["epochs_run"] = number
            store.append_epochs([dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": number}])
            store.write_trials(list(rows.values()))
            if draws.random() < 0.2:
                store.merge_epochs()
            # A reader beside it.
            seen = Store(store.location)
            assert seen.read_trials().num_rows == len(rows)
            assert seen.read_epochs().num_rows == number + 1


@pytest.mark.filterwarnings("ignore:Storage failed and is asked again:RuntimeWarning")
def test_the_record_is_that_of_a_local_folder(tmp_path: Path) -> None:
    with object_store(share=SHARE, seed=SEED) as (uri, faulty):
        there, here = Store(run_location(uri, "run")), Store(str(tmp_path / "run"))
        for store in (there, here):
            fill(store, random.Random(SEED))
        assert there.read_trials().equals(here.read_trials())
        assert there.read_epochs().equals(here.read_epochs())
        assert there.read_run() == here.read_run()
        print(f"{faulty.requests} requests, {faulty.failed} failed, {faulty.slow} slow")
        assert faulty.failed > 0


@pytest.mark.filterwarnings("ignore:Storage failed and is asked again:RuntimeWarning")
def test_the_last_two_checkpoints_are_there_whenever_one_is_written() -> None:
    config = TrialConfig(dataset="shapes", variant="all-cnn-c", lr=0.1, architecture=ArchitectureConfig(width=0.05))
    network = build(config.variant, config.architecture, 10)
    with object_store(share=SHARE, seed=SEED) as (uri, faulty):
        location = Store(run_location(uri, "run")).checkpoint("t0")
        for epoch in range(1, 21):
            for parameter in network.parameters():
                nn.init.constant_(parameter, epoch)
            checkpoint(network, config, epoch).save(location, keep_previous=True)
            assert Checkpoint.load(location).epoch == epoch
            if epoch > 1:
                kept = Checkpoint.load(location.replace("last.pt", "previous.pt"))
                assert kept.epoch == epoch - 1
                assert all(torch.all(tensor == epoch - 1) for tensor in kept.weights.values())
        start = find_start(location, config, 10)
        assert start is not None
        assert start.epoch == 20
        assert faulty.failed > 0


@pytest.mark.chaos
def test_a_run_there_that_is_killed_twice_ends_with_the_undisturbed_record(tmp_path: Path) -> None:
    whole = Bench(folder=tmp_path, study=STUDY)
    assert whole.finish("whole") == 0, whole.log["whole"]
    draws = random.Random(SEED)
    with object_store(share=SHARE, seed=SEED) as (uri, faulty):
        bench = Bench(folder=tmp_path, study=STUDY, output=uri)
        kills = 0
        for _ in range(2):
            process = bench.start("there", *bench.again("there"))
            time.sleep(draws.uniform(8, 20))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == KILLED
        bench.go_on("there")
        tally = bench.compare("there", faulty.failed + kills)
        print(f"{tally}; {kills} kills, {faulty.requests} requests, {faulty.failed} failed, {faulty.slow} slow")
        assert (tally.lost, tally.doubled) == (0, 0)
        assert kills > 0
        assert faulty.failed > 0


@pytest.mark.filterwarnings("ignore:Storage failed and is asked again:RuntimeWarning")
def test_a_run_is_packed_from_there_and_to_there(tmp_path: Path) -> None:
    here = Store(str(tmp_path / "here"))
    here.write_run(whole_document())
    here.append_epochs([{"trial_id": "t0", "epoch": 1}])
    here.write_trials([row("model-c", 0.1, "pending", epochs_run=1) | {"trial_id": "t0"}])
    here.write_failure("t0", "Traceback\n")
    here.write_file("checkpoints/t0/last.pt", b"network")
    with object_store(share=SHARE, seed=SEED) as (uri, _):
        there = Store(run_location(uri, "packed"))
        pack(here.location, there.location, checkpoints=True)
        pack(there.location, str(tmp_path / "back"), checkpoints=True)
        for place in (there.location, there.folder("inside")):
            with pytest.raises(ValueError, match="TO must lie outside the run"):
                pack(there.location, place)
        with pytest.raises(ValueError, match="TO must not exist yet"):
            pack(here.location, there.location)
    back = {file.relative_to(tmp_path / "back"): file for file in (tmp_path / "back").rglob("*") if file.is_file()}
    assert len(back) == 5
    assert all(file.read_bytes() == (tmp_path / "here" / name).read_bytes() for name, file in back.items())
