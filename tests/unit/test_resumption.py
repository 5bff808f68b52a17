"""Going on with a run: the study given is the recorded one, or more of it, or refused with a diff; a run that ended."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from search_spaces import Choice, Space
from sweep.record.store import Store
from sweep.resume.recorded import recorded_run
from sweep.run import main
from sweep.search.earlier_runs import warm_started
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from tests.begun import LEAVE_EXTEND_OR_NEW, LEAVE_OR_NEW, SAME, Begin, confirmed, contents, refused, run, searched
from tests.image_sets import tiny_cifar10
from tests.looked_at import write_rows

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.mark.parametrize("arguments", [(), SAME, ("--epochs", "2"), ("--learning-rates", "0.01", "0.005")])
def test_the_recorded_study_may_be_given_again(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    begin()
    assert run(store, *arguments, "--seeds", "3", "--gpus-per-trial", "0", "--dry-run") == 0
    assert "5 trials, 10 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "differs", "lines"),
    [
        (["--epochs", "3"], "epochs", ["  epochs: recorded 2, given 3", LEAVE_OR_NEW]),
        (["--search", "tpe", "--learning-rates", "0.01", "0.005"], "search and trials_per_cell", [
            "  search: recorded grid, given tpe", "  trials_per_cell: recorded none, given 2", LEAVE_OR_NEW
        ]),
        (["--vary", "weight_decay=0.1"], "weight_decay", [
            "  weight_decay: recorded 0.001, given {0.1}", LEAVE_OR_NEW
        ]),
        (["--seeds", "4"], "seeds", ["  seeds: recorded 3, given 4", LEAVE_EXTEND_OR_NEW]),
        (["--seeds", "0"], "seeds", ["  seeds: recorded 3, given 0", LEAVE_OR_NEW]),
        (["--set", "class_relu=no", "--set", "strided_dropout=yes", "--set", "dropout=0.2"], "dropout", [
            "  dropout: recorded 0.1, given 0.2", LEAVE_OR_NEW
        ]),
        (["--warm-start", "{folder}/x"], "warm_start", [
            "  warm_start: recorded none, given {folder}/x", LEAVE_OR_NEW
        ]),
        (["--workers-per-trial", "2"], "workers_per_trial", [
            "  workers_per_trial: recorded auto, given 2", LEAVE_OR_NEW
        ]),
        (["--set", "dropout=0.10000001"], "dropout", [
            "  dropout: recorded 0.1, given 0.10000001", LEAVE_OR_NEW
        ]),
        # A study that is named is given whole, as when a run begins.
        ([*SAME[:-1], "model-c"], "variants", ["  variants: recorded all-cnn-c, given model-c", LEAVE_OR_NEW]),
        ([*SAME[:3], *SAME[5:]], "epochs", ["  epochs: recorded 2, given 5", LEAVE_OR_NEW]),
    ],
)  # fmt: skip
def test_another_study_is_refused_and_shown_setting_by_setting(
    store: Store,
    begin: Begin,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    differs: str,
    lines: list[str],
) -> None:
    begin()
    said = refused(store, capsys, *(argument.replace("{folder}", str(tmp_path)) for argument in arguments))
    assert said[0] == f"error: The study must be the recorded one, got one that differs in {differs}."
    assert said[1:] == [line.replace("{folder}", str(tmp_path)) for line in lines]


def test_another_named_study_is_shown_with_all_that_it_changes(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    begin()
    said = refused(store, capsys, "cifar10")
    assert said[0].startswith("error: The study must be the recorded one, got one that differs in ")
    assert "  study: recorded quickstart, given cifar10" in said
    assert "  datasets: recorded shapes, given cifar10" in said
    assert said[-1] == LEAVE_OR_NEW


def test_a_study_that_is_not_there_is_refused(store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    (said,) = refused(store, capsys, "nope")
    assert said.startswith("error: study must be one of quickstart, ")


def test_a_warm_start_that_is_left_out_of_a_whole_command_is_missed(
    store: Store, begin: Begin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = begin()
    store.write_trials(searched(earlier))
    (tmp_path / "runs" / "mine").rename(tmp_path / "runs" / "earlier")
    asked = RunOptions(train_size=100, epochs=2, width=0.05, variants=("all-cnn-c",), search="tpe").apply(
        STUDIES["quickstart"]()
    )
    begin(warm_started(asked, str(tmp_path / "runs" / "earlier")))
    options = (*SAME, "--search", "tpe")
    said = refused(store, capsys, *options)
    assert said[1] == f"  warm_start: recorded {tmp_path}/runs/earlier, given none"
    # Given again it is the same, also when that run has gone.
    (tmp_path / "runs" / "earlier").rename(tmp_path / "gone")
    given = ("--warm-start", str(tmp_path / "runs" / "earlier"), "--gpus-per-trial", "0", "--dry-run")
    assert run(store, *options, *given) == 0
    assert run(store, "--gpus-per-trial", "0", "--dry-run") == 0


def test_a_run_goes_on_with_its_own_images_wherever_they_lie(
    store: Store, begin: Begin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tiny_cifar10(tmp_path / "data")
    begin(RunOptions(data=str(data), variants=("all-cnn-c",)).apply(STUDIES["cifar10"]()))
    moved = data.rename(tmp_path / "elsewhere")
    assert run(store, "--data", str(moved), "--dry-run") == 0
    capsys.readouterr()
    recorded = store.read_run().data["cifar10"].checksum
    file = next((moved / "cifar10").glob("test-*"))
    pq.write_table(pq.read_table(file).slice(1), file)
    said = refused(store, capsys, "--data", str(moved))
    assert said[0] == (
        "error: The run must go on with the workers and the images that it began with, got one that differs in "
        "checksum of cifar10."
    )
    assert said[1].startswith(f"  checksum of cifar10: recorded {recorded[:12]}, given ")
    assert said[2:] == [
        "Name the place of the images that it began with by --data, or begin a new run under another --name."
    ]
    (said_of_place,) = refused(store, capsys, "--data", str(tmp_path / "missing"))
    assert said_of_place.startswith("error: The data location must be an existing folder or a URI, got ")


def test_a_trials_workers_stay_what_they_were(store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    begin(workers=1)
    assert run(store, "--workers-per-trial", "1", "--gpus-per-trial", "0", "--dry-run") == 0
    capsys.readouterr()
    said = refused(store, capsys, "--workers-per-trial", "2")
    assert said[1] == "  workers_per_trial: recorded 1, given 2"
    # Without --workers-per-trial they may have followed from --gpus-per-trial, which is given anew here.
    document = store.read_run()
    store.write_run(replace(document, placement=replace(document.placement, workers_per_trial=None)))
    said = refused(store, capsys, "--gpus-per-trial", "0")
    assert said == [
        "error: The run must go on with the workers and the images that it began with, got one that differs in "
        "workers_per_trial.",
        "  workers_per_trial: recorded 1, given auto",
        "Leave the options of a trial's workers and GPUs out, or begin a new run under another --name.",
    ]


@pytest.mark.parametrize(
    ("only", "note"),
    [((), "2 unfinished trials have no checkpoint"), (("--only", "model-c"), "1 unfinished trial has no checkpoint")],
)
def test_the_note_on_lost_checkpoints_counts_the_trials_that_run_now(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str], only: tuple[str, ...], note: str
) -> None:
    study = begin(variants=("all-cnn-c", "model-c"))
    write_rows(store, searched(study, 1, state="pending", epochs_run=1))
    assert run(store, *only, "--gpus-per-trial", "0", "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"note  {note}: training starts again from epoch 1" in said
    # What is left to run is said of the same trials: none of them goes on from the epoch that its row has.
    assert "left to run" in said
    assert "from epoch" not in said.partition("left to run")[2]


PLUGIN = """
from torch import nn
from trainables.architectures import register_variant


@register_variant("{name}")
def build(options, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))
"""


@pytest.mark.usefixtures("registries")
def test_a_plugin_whose_contents_changed_is_refused_but_by_extend(
    store: Store, begin: Begin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(name="net"))
    begin(plugins=(str(plugin),))
    before = store.read_run().plugins
    assert [each.file for each in before] == ["mine.py"]
    again = tmp_path / "again.py"
    again.write_text(plugin.read_text().replace("net", "net-2"))
    moved = tmp_path / "moved" / "mine.py"
    moved.parent.mkdir()
    moved.write_text(plugin.read_text())
    assert run(store, "--gpus-per-trial", "0", "--dry-run") == 0
    capsys.readouterr()
    said = refused(store, capsys, "--plugins", str(again))
    assert said[0] == (
        "error: The run's plugins must hold what they held when it began, got one that differs in again.py."
    )
    # It was not run either: one that cannot be run is refused for its contents.
    broken = tmp_path / "broken.py"
    broken.write_text("def broken(:")
    assert refused(store, capsys, "--plugins", str(broken))[1].startswith("  broken.py: recorded sha256 ")
    assert said[1].startswith(f"  again.py: recorded sha256 {before[0].sha256[:12]}, given sha256 ")
    assert said[2] == (
        "Put them back, or add --extend, which keeps what is done and runs the rest, or begin a new run under another "
        "--name."
    )
    said = refused(store, capsys, "--plugins", str(plugin), str(again))
    assert said[1].startswith("  again.py: recorded none, given sha256 ")
    said = refused(store, capsys, "--plugins", str(tmp_path / "missing.py"))
    assert said == [
        f"error: plugins must be existing Python files, got '{tmp_path}/missing.py' (No such file or directory)."
    ]
    # The fixed network under a name of its own: nothing that is done is mixed with it.
    extend = ("--extend", "--variants", "all-cnn-c", "net-2", "--gpus-per-trial", "0", "--dry-run")
    assert run(store, "--plugins", str(plugin), str(again), *extend) == 0
    shown = capsys.readouterr().out
    assert "extended  variants: recorded all-cnn-c, given all-cnn-c net-2" in shown
    assert "extended  again.py: recorded none, given sha256 " in shown


def test_a_dry_run_shows_what_is_left_and_writes_nothing(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    study = begin()
    rows = searched(study)
    store.write_trials([rows[0], rows[1] | {"state": "pending", "epochs_run": 1}])
    store.write_file(f"checkpoints/{rows[1]['trial_id']}/last.pt", b"after one epoch")
    before = contents(store)
    assert run(store, "--gpus-per-trial", "0", "--dry-run") == 0
    left = [line.split("left to run  ")[1] for line in capsys.readouterr().out.splitlines() if "left to run" in line]
    assert left == [
        f"shapes/none/all-cnn-c: lr {rows[1]['lr']:g} seed 0 from epoch 1",
        "then, of 3 that confirm what is chosen, those that are not in the record",
    ]
    store.write_trials([*rows, *confirmed(study, 0.005, 2)])
    assert run(store, "--seeds", "4", "--extend", "--gpus-per-trial", "0", "--dry-run") == 0
    left = [line.split("left to run  ")[1] for line in capsys.readouterr().out.splitlines() if "left to run" in line]
    assert left == [f"shapes/none/all-cnn-c confirm: lr 0.005 seed {seed}" for seed in (10_002, 10_003)]
    store.write_trials(rows[:1])
    assert (
        run(store, "--learning-rates", "0.01", "0.005", "0.02", "--extend", "--gpus-per-trial", "0", "--dry-run") == 0
    )
    shown = capsys.readouterr().out
    assert "extended  lr: recorded {0.01, 0.005}, given {0.01, 0.005, 0.02}" in shown
    (left,) = (line for line in shown.splitlines() if "left to run  shapes/none/all-cnn-c: " in line)
    # What has no row yet comes in the larger grid's own order.
    points = sorted(left.split(": ")[1].split("; "))
    assert points == sorted(f"lr {lr:g} seed 0" for lr in (0.01, 0.005, 0.02) if lr != rows[0]["lr"])
    store.write_trials([])
    assert store.read_run().study.space == Space(lr=Choice((0.01, 0.005)))
    assert before.keys() == contents(store).keys()


def left_of(store: Store, capsys: pytest.CaptureFixture[str], *only: str) -> list[str]:
    """Return what a dry run shows as left to run."""
    assert run(store, "--gpus-per-trial", "0", "--dry-run", *(("--only", *only) if only else ())) == 0
    return [line.split("left to run  ")[1] for line in capsys.readouterr().out.splitlines() if "left to run" in line]


def test_a_dry_run_of_named_variants_shows_theirs_alone(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    study = begin(variants=("all-cnn-c", "model-c"), learning_rates=(0.01,), seeds=1)
    # The second phase begins once the search of every variant has ended.
    assert left_of(store, capsys, "model-c") == ["shapes/none/model-c: lr 0.01 seed 0"]
    rows = searched(study)
    store.write_trials([one for one in rows if one["variant"] == "all-cnn-c"])
    assert left_of(store, capsys, "model-c") == [
        "shapes/none/model-c: lr 0.01 seed 0",
        "then, of 1 that confirm what is chosen, those that are not in the record",
    ]
    assert left_of(store, capsys, "all-cnn-c") == []
    store.write_trials(rows)
    assert left_of(store, capsys, "model-c") == ["shapes/none/model-c confirm: lr 0.01 seed 10000"]
    assert len(left_of(store, capsys)) == 2


@pytest.mark.parametrize(
    ("only", "got"), [(("nope",), "got 'nope'."), (("model-c", "all-cnn-b"), "got 'all-cnn-b'."), ((), "got none.")]
)
def test_variants_that_the_run_has_not_are_refused(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str], only: tuple[str, ...], got: str
) -> None:
    study = begin(variants=("all-cnn-c", "model-c"))
    said = f"error: only must name variants of the run, all-cnn-c, model-c, {got}"
    assert refused(store, capsys, "--only", *only) == [said]
    # Also where nothing is left to run.
    store.write_trials(searched(study, state="diverged"))
    assert refused(store, capsys, "--only", *only) == [said]


def test_variants_are_named_of_a_run_that_is_resumed(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", "--only", "model-c", "--output", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.startswith("error: only must be given with --resume --name NAME, the run ")
    assert not store.exists()


@pytest.mark.parametrize(("state", "status"), [("completed", 0), ("failed", 1)])
def test_a_run_that_has_ended_says_so_and_is_left_alone(
    store: Store, begin: Begin, capfd: pytest.CaptureFixture[str], state: str, status: int
) -> None:
    study = begin(seeds=2)
    write_rows(store, [*searched(study), *confirmed(study, 0.005, 1), confirmed(study, 0.005, 2)[1] | {"state": state}])
    before = contents(store)
    assert run(store) == status
    said = capfd.readouterr().out
    counts = "4 completed" if state == "completed" else "3 completed, 1 failed"
    output = store.location.rpartition("/")[0]
    options = f"--resume --retry-failed --output {output} --name mine"
    again = f" To begin failed trials again, once their cause is mended: {options}."
    assert said.splitlines()[0] == (
        f"The run mine has ended: {counts}; nothing is left to run. To add variants, learning rates, seeds or more to "
        f"it: --resume --extend --output {output} --name mine, and options that say what."
        + (again if "failed" in counts else "")
    )
    assert "| all-cnn-c |" in said
    assert contents(store) == before
    # Nor with an extension that is there already, and a dry run shows no table.
    assert run(store, "--extend", "--seeds", "2", "--dry-run") == status
    assert "all-cnn-c" not in capfd.readouterr().out
    assert contents(store) == before
    # Another study is refused all the same.
    assert run(store, "--width", "0.1") == 2
    assert capfd.readouterr().err.startswith(
        "error: The study must be the recorded one, got one that differs in width.\n"
    )


def test_a_run_with_a_choice_yet_to_confirm_has_not_ended(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    study = begin(seeds=2)
    # Confirmed was what is, after an extension, no longer chosen.
    store.write_trials([*searched(study), *confirmed(study, 0.01, 2)])
    assert run(store, "--gpus-per-trial", "0", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "has ended" not in shown
    assert shown.count("left to run  shapes/none/all-cnn-c confirm: lr 0.005 seed ") == 2


def test_a_run_without_a_completed_trial_has_ended_too(
    store: Store, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    study = begin()
    store.write_trials(searched(study, state="diverged"))
    assert run(store, "--dry-run") == 0
    assert "has ended: 2 diverged; nothing is left to run." in capsys.readouterr().out


def test_failed_trials_of_variants_that_do_not_run_stay_as_they_are(store: Store, begin: Begin) -> None:
    study = begin(variants=("all-cnn-c", "model-c"), learning_rates=(0.01,), seeds=1)
    rows = {each["trial_id"]: each for each in searched(study, state="failed", reason="boom")}
    write_rows(store, list(rows.values()))
    ours, other = "shapes_none_model-c_0000", "shapes_none_all-cnn-c_0000"
    assert rows.keys() == {ours, other}
    output, name = store.location.rsplit("/", 1)
    options = RunOptions(resume=True, output=output, name=name, retry_failed=True, only=("model-c",))
    found = recorded_run(None, options).trials()
    assert found[other] == rows[other]
    assert found[ours] == rows[ours] | {"state": "pending", "retries": 1, "retry_reasons": "boom"}
    both = recorded_run(None, replace(options, only=None)).trials()
    assert [row["state"] for row in both.values()] == ["pending", "pending"]
