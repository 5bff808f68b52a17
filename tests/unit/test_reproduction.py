"""The state of the reproduction, from small records whose numbers are worked out by hand."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis import Evidence
from analysis.__main__ import main
from analysis.inference import binomial_half_width
from analysis.reproduction import BEGIN, END, state_of
from analysis.tables import LARGE_NOTE
from sweep.record.document import RunDocument
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from tests.looked_at import write_rows
from tests.reported import seeds, trial
from tests.standings import data, run_document

IMAGES = {"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "imagenet": (1_281_167, 50_000)}


def document(
    study: str = "cifar10",
    *,
    protocol: str = "paper",
    generated: bool = False,
    images: int | None = None,
    **options: Any,
) -> RunDocument:
    """Return study.json as a run of a named study writes it, but for what is given."""
    chosen = RunOptions(**options).apply(replace(STUDIES[study](), protocol=protocol))
    found = {
        name: data(train_images=images or IMAGES[name][0], test_images=IMAGES[name][1], generated=generated)
        for name in chosen.datasets
    }
    return run_document(chosen, found, planned_trials=4)


def run(rows: list[Any], study: str = "cifar10", **values: Any) -> Evidence:
    return Evidence(document=document(study, **values), trials=rows)


def one(number: int, error: float | None, **values: Any) -> Any:
    return trial(number, test_error=error, **{"variant": "all-cnn-c"} | values)


def row_of(runs: dict[str, Evidence], network: str = "ALL-CNN-C", data: str = "cifar10") -> dict[str, str]:
    (row,) = [row for row in state_of(runs)[0] if (row["network"], row["data"]) == (network, data)]
    return row


def test_without_runs_all_sixteen_networks_are_not_run_and_no_column_is_empty() -> None:
    rows, notes = state_of({})
    assert [(row["network"], row["data"], row["paper %"]) for row in rows[::4]] == [
        ("Model A", "cifar10", "12.47"),
        ("Model B", "cifar10", "10.20"),
        ("Model C", "cifar10", "9.74"),
        ("ALL-CNN-C", "cifar10 flip-shift", "7.25"),
    ]
    assert [(row["network"], row["data"], row["paper %"]) for row in rows[13:]] == [
        ("ALL-CNN-C", "cifar100", "33.71"),
        ("Large ALL-CNN", "cifar10 heavy", "4.41"),
        ("Upscaled ALL-CNN-B", "imagenet crop-flip", "41.20"),
    ]
    assert len(rows) == 16
    assert all(list(row) == ["network", "data", "paper %", "ours %"] for row in rows)
    assert {row["ours %"] for row in rows} == {"not run"}
    (note,) = notes
    assert "arXiv 1412.6806v3" in note
    assert "the number of Large ALL-CNN is known from memory only" in note


def test_three_seeds_give_their_mean_and_its_t_interval() -> None:
    trials = seeds(0, "all-cnn-c", 0.0900, 0.0950, 0.0910, device="NVIDIA H100", epochs_run=350)
    for row, seconds in zip(trials, (3000.0, 3100.0, 3110.0), strict=True):
        row["duration_s"] = seconds
    runs = {"first": run(trials, seeds=3)}
    # Mean 9.20; deviations -0.2, 0.3 and -0.1, a variance of 0.07 and a deviation of 0.26458 points. The interval is
    # 4.30265 times that over the root of 3.
    assert row_of(runs) == {
        "network": "ALL-CNN-C",
        "data": "cifar10",
        "paper %": "9.08",
        "ours %": "9.20",
        "difference": "+0.12",
        "± 95 %": "0.66",
        "seeds": "3",
        "learning rate": "0.05",
        "epochs": "350",
        "device": "H100",
        "s/trial": "3,070",
    }
    notes = " ".join(state_of(runs)[1])
    assert "Student t interval" in notes
    assert "binomial" not in notes


def test_one_seed_has_only_the_interval_of_the_test_images() -> None:
    runs = {"first": run([one(0, 0.0950)])}
    # The root of 0.095 * 0.905 / 10,000 is 0.293215 points, and 1.95996 times that 0.574691.
    assert binomial_half_width(0.095, 10_000) == pytest.approx(0.00574691, abs=1e-8)
    assert [row_of(runs)[name] for name in ("ours %", "difference", "± 95 %", "seeds")] == [
        "9.50",
        "+0.42",
        "0.57",
        "1",
    ]
    notes = " ".join(state_of(runs)[1])
    assert "binomial sampling interval of the test images alone" in notes
    assert "Student" not in notes


def test_a_network_better_than_the_papers_has_a_negative_difference_and_others_stay_not_run() -> None:
    runs = {"first": run([one(0, 0.0900)])}
    assert row_of(runs)["difference"] == "-0.08"
    other = row_of(runs, "Model A")
    assert other["ours %"] == "not run"
    assert {other[name] for name in list(other)[4:]} == {"-"}
    assert list(other) == list(row_of(runs))


def test_the_rates_that_ended_stand_beside_the_selected_one() -> None:
    rows = [
        one(0, 1.0, lr=0.25, state="diverged"),
        one(1, None, lr=0.1, state="running"),
        one(2, 0.093, lr=0.05),
        one(3, 0.101, lr=0.01),
    ]
    row = row_of({"first": run(rows)})
    assert (row["ours %"], row["learning rate"]) == ("9.30", "0.05 (of 0.25/0.05/0.01)")
    # A diverged rate says that it was tried; one that failed says nothing of the rate.
    assert row_of({"a": run(rows[:3])})["learning rate"] == "0.05 (of 0.25/0.05)"
    assert row_of({"a": run([rows[2], one(4, None, lr=0.1, state="failed")])})["learning rate"] == "0.05"


def test_a_grid_of_other_rates_is_comparable_and_many_are_counted() -> None:
    rates = (0.06, 0.05, 0.04, 0.03, 0.02)
    rows = [one(place, 0.1 + place / 100, lr=rate) for place, rate in enumerate(rates)]
    row = row_of({"first": run(rows, learning_rates=rates)})
    assert (row["ours %"], row["learning rate"]) == ("10.00", "0.06 (of 5)")


def test_what_the_paper_leaves_open_may_differ() -> None:
    assert row_of({"first": run([one(0, 0.1)], set=("initialisation=he",), batch_size=256)})["ours %"] == "10.00"
    caffe = {"set": ("momentum_form=caffe", "bias_lr_factor=2", "bias_weight_decay=false")}
    assert row_of({"first": run([one(0, 0.1)], **caffe)})["ours %"] == "10.00"
    # One listed weight decay is no search.
    assert row_of({"first": run([one(0, 0.1)], vary=("weight_decay=0.001",))})["ours %"] == "10.00"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"width": 0.25, "epochs": 40}, "first is left out: epochs 40 (paper: 350), width 0.25 (paper: 1)."),
        ({"images": 5000}, "first is left out: training images 5,000 (paper: 50,000)."),
        ({"early_stopping": "halving"}, "first is left out: early_stopping halving (paper: none)."),
        ({"set": ("class_relu=false",)}, "first is left out: class_relu no (paper: yes)."),
        ({"set": ("max_grad_norm=1",)}, "first is left out: max_grad_norm 1 (paper: none)."),
        ({"vary": ("weight_decay=0.001,0.0005",)}, "first is left out: weight_decay 0.001/0.0005 (paper: 0.001)."),
        ({"generated": True}, "first is left out: its images are generated."),
    ],
)
def test_a_run_with_other_settings_is_left_out_with_its_reason(values: dict[str, Any], reason: str) -> None:
    rows, notes = state_of({"first": run([one(0, 0.0908)], **values)})
    assert {row["ours %"] for row in rows} == {"not run"}
    assert list(rows[0]) == ["network", "data", "paper %", "ours %"]
    assert notes[-1] == reason


def test_a_run_without_a_completed_trial_or_a_network_of_the_papers_says_so() -> None:
    dead = [one(0, 1.0, state="diverged"), one(1, None, state="running", lr=0.01)]
    own = run([trial(0, variant="mine")], variants=("model-c-p2",))
    state, notes = state_of({"dead": run(dead, variants=("all-cnn-c",)), "own": own})
    assert {row["ours %"] for row in state} == {"not run"}
    assert notes[-2:] == [
        "dead is left out: no trial completed.",
        "own is left out: no trial of one of the paper's networks has ended.",
    ]
    # Strided-CNN-C has not been begun, which its row says already.
    rows = [one(0, 0.1), trial(1, state="diverged", test_error=1.0)]
    half = run(rows, variants=("model-c", "strided-cnn-c", "all-cnn-c"))
    assert state_of({"half": half})[1][-1] == "half is left out for Model C: no trial completed."


def test_the_first_run_with_a_result_gives_the_row_and_a_later_one_is_named() -> None:
    runs = {
        "small": run([one(0, 0.05)], epochs=40),
        "second": run([one(0, 0.095)], variants=("all-cnn-c",)),
        "third": run([one(0, 0.091), trial(1, test_error=0.1)], variants=("model-c", "all-cnn-c")),
    }
    rows, notes = state_of(runs)
    shown = {row["network"]: (row["ours %"], row["run"]) for row in rows if row["ours %"] != "not run"}
    assert shown == {"ALL-CNN-C": ("9.50", "second"), "Model C": ("10.00", "third")}
    assert "third has results too: ALL-CNN-C 9.10 %." in notes
    assert "small is left out: epochs 40 (paper: 350)." in notes
    (protocol,) = [note for note in notes if note.startswith("Protocol")]
    assert protocol.startswith("Protocol paper (second, third): ours is the lowest mean test error")


def test_under_holdout_ours_is_the_mean_of_the_confirmation() -> None:
    searched = [one(0, None, lr=0.05, val_error=0.2), one(1, None, lr=0.01, val_error=0.1)]
    confirmed = [one(2 + seed, error, lr=0.01, seed=seed, phase="confirm") for seed, error in enumerate((0.10, 0.12))]
    runs = {"held": run([*searched, *confirmed], protocol="holdout", variants=("all-cnn-c",))}
    row = row_of(runs)
    # 12.7062 times one point: the deviation of two values two points apart over the root of 2.
    assert [row[name] for name in ("ours %", "difference", "± 95 %", "seeds", "learning rate")] == [
        *("11.00", "+1.92", "12.71", "2", "0.01 (of 0.05/0.01)"),
    ]
    assert "Protocol holdout (held): ours is the mean test error of the configuration" in " ".join(state_of(runs)[1])
    unconfirmed = {"held": run(searched, protocol="holdout", variants=("all-cnn-c",))}
    assert row_of(unconfirmed)["ours %"] == "not run"
    assert state_of(unconfirmed)[1][-1] == "held is left out: no confirmation trial completed."


def test_a_lost_seed_is_counted() -> None:
    rows = [*seeds(0, "all-cnn-c", 0.09, 0.10), one(2, 1.0, seed=2, state="diverged")]
    runs = {"first": run(rows, seeds=3)}
    assert (row_of(runs)["ours %"], row_of(runs)["seeds"]) == ("9.50", "2 of 3")
    assert any("Seeds such as 2 of 3" in note for note in state_of(runs)[1])


def test_cifar100_and_flips_are_rows_of_their_own() -> None:
    hundred = [one(n, error, dataset="cifar100", lr=lr) for n, error, lr in ((0, 0.34, 0.05), (1, 0.35, 0.01))]
    flipped = [one(0, 0.07, augmentation="flip-shift")]
    runs = {"hundred": run(hundred, "cifar100"), "flipped": run(flipped, "cifar10-augmented")}
    assert row_of(runs)["ours %"] == "not run"
    row = row_of(runs, data="cifar100")
    assert (row["ours %"], row["difference"], row["run"]) == ("34.00", "+0.29", "hundred")
    assert row_of(runs, data="cifar10 flip-shift")["difference"] == "-0.25"
    # The paper kept the rate of CIFAR-10: the lower one of two is more than it allowed itself.
    assert any(note.startswith("On CIFAR-100 the paper used the learning rate") for note in state_of(runs)[1])
    assert not any("CIFAR-100" in note for note in state_of({"hundred": run(hundred[:1], "cifar100")})[1])


def test_the_large_network_is_comparable_by_its_layers_alone() -> None:
    rows = [trial(0, variant="large-all-cnn", augmentation="heavy", test_error=0.05)]
    runs = {"large": run(rows, "cifar10-large", epochs=100)}
    row = row_of(runs, "Large ALL-CNN", "cifar10 heavy")
    assert (row["ours %"], row["difference"], row["epochs"]) == ("5.00", "+0.59", "100")
    assert LARGE_NOTE in state_of(runs)[1]
    small = state_of({"large": run(rows, "cifar10-large", width=0.1)})[1]
    assert small[-1] == "large is left out: width 0.1 (paper: 1)."


def test_the_network_of_imagenet_is_trained_by_steps() -> None:
    rows = [trial(0, dataset="imagenet", augmentation="crop-flip", variant="imagenet-all-cnn-b", test_error=0.42)]
    row = row_of({"big": run(rows, "imagenet")}, "Upscaled ALL-CNN-B", "imagenet crop-flip")
    # The root of 0.42 * 0.58 / 50,000, times 1.96.
    assert [row[name] for name in ("ours %", "difference", "± 95 %", "epochs")] == [
        *("42.00", "+0.80", "0.43", "450,000 steps"),
    ]
    other = state_of({"big": run(rows, "imagenet", batch_size=128, images=600)})[1]
    assert other[-1] == "big is left out: batch_size 128 (paper: 64), training images 600 (paper: 1,281,167)."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder `runs` with two runs, in the current one."""
    for name, error in (("a", 0.095), ("b", 0.0908)):
        store = Store(str(tmp_path / "runs" / name))
        store.write_run(document(variants=("all-cnn-c",)))
        write_rows(store, [one(0, error, epochs_run=3, device=None, duration_s=None)])
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert main(["reproduction", *arguments, "--format", "csv"]) == 0
    (row,) = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["ours %"] != "not run"]
    return row


def test_the_command_takes_runs_and_folders_of_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = printed(capsys, "runs")
    assert (row["ours %"], row["device"], row["s/trial"]) == ("9.50", "", "")
    assert printed(capsys, "runs/b")["ours %"] == "9.08"
    assert printed(capsys, "runs/b", "runs/a")["difference"] == "+0.00"
    (folder.parent / "none").mkdir()
    assert main(["reproduction", "none"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("No run lies in none.")


def test_the_command_writes_between_the_marks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduction", "runs"]) == 0
    table = capsys.readouterr().out.rstrip("\n")
    for name in ("ONE.md", "two.md"):
        Path(name).write_text(f"# ä {name}\n\n{BEGIN}\nold\n{END}\n\nAfter. <!-- end -->\n", encoding="utf-8")
    for _ in range(2):
        assert main(["reproduction", "runs", "--write", "ONE.md", "two.md"]) == 0
        assert capsys.readouterr().out == "ONE.md\ntwo.md\n"
        for name in ("ONE.md", "two.md"):
            expected = f"# ä {name}\n\n{BEGIN}\n\n{table}\n\n{END}\n\nAfter. <!-- end -->\n"
            assert Path(name).read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing"], "There is no folder"),
        (["runs", "runs/a"], "RUN must name each run once"),
        (["--write", "bare.md"], "bare.md needs a place for the table: one line <!-- what"),
        (["--write", "twice.md"], "twice.md needs a place"),
        (["--write", "missing.md"], "missing.md cannot be rewritten"),
        (["--write", "bare.md", "--format", "csv"], "format must be markdown where the table is written"),
    ],
)
def test_bad_input_is_one_line_and_changes_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    texts = {"bare.md": f"{BEGIN}\n", "twice.md": f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"}
    for name, held in texts.items():
        Path(name).write_text(held)
    assert main(["reproduction", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert text in said.err
    assert {name: Path(name).read_text() for name in texts} == texts


def test_a_damaged_run_is_said_and_gives_its_good_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a" / "epochs" / "part-00000000.parquet").unlink()
    assert main(["reproduction", "runs/a"]) == 1
    said = capsys.readouterr()
    assert "|     9.50 |" in said.out
    assert "must hold the 3 epochs that trials.parquet counts" in said.out
    assert said.err.startswith("damaged: ")
