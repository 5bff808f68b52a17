import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from sweep.record.schema import EPOCHS, SCHEMA_VERSION
from sweep.record.store import Store
from sweep.study.catalog import quickstart
from tests import reported
from tests.looked_at import make_run, write_rows
from tests.standings import data, run_document


def trial(number: int, **values: Any) -> Any:
    usual = {"dataset": "shapes", "variant": "all-cnn-c", "lr": 0.01, "trial_id": f"t{number}"}
    ended = {"epochs_run": 5, "epochs_budget": 5, "test_error": 0.25, "num_parameters": 10}
    return reported.trial(number, **usual | ended | values)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "runs" / "first"))
    shapes = data(train_images=4000, test_images=2000, generated=True)
    store.write_run(run_document(replace(quickstart(), protocol="paper"), {"shapes": shapes}, planned_trials=8))
    write_rows(store, [trial(0), trial(1, lr=0.02, test_error=0.5), trial(2, variant="model-c", state="running")])
    return store


def rewrite(run: Store, **changes: Any) -> None:
    """Change what study.json holds, as a damaged or foreign one would."""
    file = Path(run.location) / "study.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_table(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", run.location]) == 0
    out = capsys.readouterr().out
    assert "all-cnn-c" in out
    assert "25.00" in out
    assert "2 of 8 planned trials have ended." in out
    assert "Test-set sampling error of shapes: up to ±0.97 points (binomial standard error, n = 2,000)." in out
    # Findings come last, in order of their numbers.
    remarks = [line for line in out.splitlines() if line.startswith("F")]
    assert [remark.split()[:2] for remark in remarks] == [["F1", "all-cnn-c:"], ["F2", "all-cnn-c:"], ["F8", "the"]]
    assert out.splitlines()[-1] == remarks[-1]


def seeds(variant: str, *errors: float, first: int = 0, **values: Any) -> list[Any]:
    return [
        trial(first + seed, variant=variant, seed=seed, test_error=error, **values)
        for seed, error in enumerate(errors, start=1)
    ]


def test_table_against_a_reference(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(
        run,
        [*seeds("model-c", 0.2, 0.21, 0.22), *seeds("all-cnn-c", 0.1, 0.11, 0.12, first=10), trial(20, variant="mine")],
    )
    assert main(["table", run.location, "--compare", "model-c", "--format", "csv"]) == 0
    read = {row["variant"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert "model-c" not in read
    row = read["all-cnn-c"]
    # Equal variances of 1e-4 over three values: a standard error of 0.8165 points, 4 degrees of freedom, t 12.25.
    assert (float(row["model-c %"]), float(row["error %"]), float(row["difference"])) == (21, 11, -10)
    assert float(row["± 95 %"]) == pytest.approx(2.7764 * 0.8165, abs=0.005)
    assert float(row["p"]) == pytest.approx(0.00026, abs=0.00001)
    assert row["difference is"] == "significant"
    assert read["mine"]["difference is"] == "not known: fewer than 2 seeds"
    assert main(["table", run.location, "--compare", "model-c"]) == 0
    out = capsys.readouterr().out
    assert "Differences are to model-c (3 seeds), in points of error" in out
    assert "F2 mine: fewer than 3 seeds" in out


def test_a_stopped_trial_is_looked_at_by_its_epochs(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(run, [trial(0), trial(1, lr=0.005, state="stopped", epochs_run=3, test_error=0.3)])
    curve = [dict.fromkeys(EPOCHS.names) | {"trial_id": "t0", "epoch": 3, "test_error": 0.4}]
    run.append_epochs(curve)
    assert main(["table", run.location]) == 0
    out = capsys.readouterr().out
    assert "F4 all-cnn-c: 1 trial was stopped while ahead" in out
    assert "30.00 % after epoch 3 against 40.00 %" in out


def test_table_under_holdout(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    document = run.read_run()
    run.write_run(replace(document, study=replace(document.study, protocol="holdout", seeds=3)))
    searched = [trial(n, lr=lr, test_error=None, val_error=error) for n, lr, error in ((0, 0.01, 0.3), (1, 0.005, 0.2))]
    confirmed = seeds("all-cnn-c", 0.2, 0.22, 0.24, first=10, phase="confirm", lr=0.005)
    write_rows(run, [*searched, *confirmed])
    assert main(["table", run.location, "--format", "csv"]) == 0
    (row,) = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["variant"] == "all-cnn-c"]
    assert {name: row[name] for name in ("mean test error %", "sd", "seeds", "validation %", "learning rate")} == {
        "mean test error %": "22.00",
        "sd": "2.00",
        "seeds": "3",
        "validation %": "20.00",
        "learning rate": "0.005",
    }
    assert float(row["± 95 %"]) == pytest.approx(4.3027 * 2 / 3**0.5, abs=0.005)
    assert main(["table", run.location]) == 0
    assert "F8" not in capsys.readouterr().out


def test_a_table_shows_what_a_run_searched_beside_the_rate(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(
        run,
        [
            trial(0, weight_decay=0.0, batch_size=32, test_error=0.3),
            trial(1, weight_decay=0.0005, batch_size=32, test_error=0.2),
        ],
    )
    assert main(["table", run.location, "--format", "csv"]) == 0
    (row,) = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["variant"] == "all-cnn-c"]
    assert (row["best error %"], row["weight decay"]) == ("20.00", "0.0005")
    assert "batch size" not in row


def test_table_as_csv_by_learning_rate(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", run.location, "--format", "csv", "--by", "lr"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["variant"], row["learning rate"], row["error %"]) for row in read][1:] == [
        ("all-cnn-c", "0.02", "50.00"),
        ("all-cnn-c", "0.01", "25.00"),
    ]


def test_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["published", "--format", "csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (large,) = [row for row in read if row["method"] == "Large ALL-CNN"]
    assert (large["error %"], large["augmentation"], large["known from"]) == ("4.41", "heavy", "memory")
    assert main(["published"]) == 0
    assert "arXiv 1412.6806v3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["table", "{folder}/missing"], "A run's folder must exist and hold study.json, got "),
        (["table", "nope://x"], "A location must be a folder or a URI, got 'nope://x'"),
        (["table"], "RUN"),
        (["table", "{folder}/runs/first", "--format", "xlsx"], "xlsx"),
        (["table", "{folder}/runs/first", "--by", "width"], "width"),
        (
            ["table", "{folder}/runs/first", "--compare", "nope"],
            "compare must be one of the run's variants, model-c, strided-cnn-c, convpool-cnn-c, all-cnn-c, got 'nope'.",
        ),
        (
            ["table", "{folder}/runs/first", "--compare", "model-c", "--by", "lr"],
            "by must be variant where variants are compared, got 'lr'; leave --by or --compare out.",
        ),
        (["nope"], "nope"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    run: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main([argument.format(folder=tmp_path) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert text in said.err


def test_a_run_without_trials_has_a_table_of_dashes(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(run, [])
    (Path(run.location) / "epochs/part-00000000.parquet").unlink()
    assert main(["table", run.location, "--format", "csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["variant"] for row in read] == list(quickstart().variants)
    assert {row["best error %"] for row in read} == {""}


def test_a_lost_table_of_trials_is_said_and_what_epochs_tell_is_shown(
    run: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run.append_epochs([dict.fromkeys(EPOCHS.names) | {"trial_id": "t1", "epoch": 5, "test_error": 0.5}])
    (Path(run.location) / "trials.parquet").write_bytes(b"PAR1")
    assert main(["table", run.location]) == 1
    said = capsys.readouterr()
    assert "| t1      |        5 |              - |    50.00 |" in said.out
    assert "trials.parquet is lost: these are the 3 trials that epochs hold rows of" in said.out
    assert said.err.startswith(f"damaged: {run.location}/trials.parquet cannot be read: its checksum")
    assert said.err.count("\n") == 1
    assert said.err.removeprefix("damaged: ") in said.out


def test_shift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(str(tmp_path / "looked"))
    assert main(["shift", run.location, "--max-shift", "2", "--images", "30", "--variants", "model-c"]) == 0
    out = capsys.readouterr().out
    assert "| unchanged % | model-c   |              4 | 100.00 |" in out
    assert "all-cnn-c" not in out
    assert "30 test images." in out
    # Generated images say nothing about natural ones.
    assert "The data set shapes is generated" in out
    report = Path(run.location) / "report"
    assert sorted(file.name for file in report.iterdir()) == ["shift.csv", "shift.png"]
    assert f"Written: {report}/shift.png, {report}/shift.csv." in out


def test_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(str(tmp_path / "looked"))
    options = ["--images", "20", "--filters", "1", "--patches", "2", "--layer", "conv1", "--output", f"{tmp_path}/out"]
    assert main(["features", run.location, *options]) == 0
    names = ["model-c-conv1-guided.png", "all-cnn-c-conv1-guided.png", "compare.png"]
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/out/{name}" for name in names]
    assert main(["features", run.location, "--without-image", "--filters", "1", "--variant", "all-cnn-c"]) == 0
    assert capsys.readouterr().out == f"{run.location}/report/features/all-cnn-c-without-image.png\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["shift", "{run}", "--max-shift", "32"], "max_shift must be at least 0 and below the images' 32 px, got 32."),
        (["shift", "{run}", "--max-shift", "-1"], "max_shift must be at least 0 and below the images' 32 px, got -1."),
        (["shift", "{run}", "--images", "0"], "images must be at least 1, got 0."),
        (["shift", "{run}", "--variants", "model-a"], "variant must be one of the run's, model-c, all-cnn-c, got"),
        (["shift", "{run}", "--format", "png"], "png"),
        (["shift", "{run}/missing"], "A run's folder must exist and hold study.json, got "),
        (["shift", "{run}", "--output", "{run}/study.json/x"], "output must be a folder that can be written to, got"),
        (["features", "{run}", "--layer", "conv8"], "for model-c conv1, conv2, conv3, conv4, conv5, conv6, conv7, got"),
        (["features", "{run}", "--method", "gradcam"], "gradcam"),
        (["features", "{run}", "--filters", "0"], "filters must be at least 1, got 0."),
        (["features", "{run}", "--patches", "-2"], "patches must be at least 1, got -2."),
        (["features", "{run}", "--variant", "nope"], "variant must be one of the run's, model-c, all-cnn-c, got"),
        (["features", "{run}", "--layer", "conv5", "--without-image"], "layer must lie below every pool"),
    ],
)
def test_bad_input_to_what_looks_into_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    run = make_run(str(tmp_path / "looked"))
    before = sorted(tmp_path.rglob("*"))
    assert main([argument.format(run=run.location) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert text in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_checkpoint_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(str(tmp_path / "looked"))
    Path(run.checkpoint("t-all-cnn-c")).write_bytes(b"PK")
    for command in ("shift", "features"):
        assert main([command, run.location]) == 2
        assert capsys.readouterr().err.endswith("last.pt must be a whole checkpoint, got one that cannot be read.\n")


def flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 3] ^= 16
    file.write_bytes(raw)


def test_a_damaged_part_leaves_the_other_rows_and_is_said(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", run.location]) == 0
    whole = capsys.readouterr().out.split("\n\n")
    run.append_epochs([dict.fromkeys(EPOCHS.names) | {"trial_id": "t0", "epoch": 6}])
    part = Path(run.location) / "epochs/part-00000000.parquet"
    flip(part)
    assert main(["table", run.location]) == 1
    said = capsys.readouterr()
    table, *remarks = said.out.rstrip("\n").split("\n\n")
    assert table == whole[0], "no number of the table comes from the epochs"
    assert remarks[:2] == [
        f"{part} cannot be read: its checksum is missing or does not match its contents.",
        f"{run.location}/epochs must hold the 15 epochs that trials.parquet counts, got 15 fewer: they are missing "
        "of 3 of 3 trials, 5 of 5 of t0 among them.",
    ]
    assert said.err.splitlines() == [f"damaged: {line}" for line in remarks[:2]]


def test_a_part_that_is_gone_is_no_silent_gap(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(run.location) / "epochs/part-00000000.parquet").unlink()
    assert main(["table", run.location, "--format", "csv"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("variant,")
    assert said.err.startswith("damaged: ")
    assert "must hold the 15 epochs that trials.parquet counts, got 15 fewer" in said.err


def test_a_record_of_a_newer_version_is_refused(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(run, schema_version=SCHEMA_VERSION + 1)
    assert main(["table", run.location]) == 2
    said = capsys.readouterr().err
    assert f"must hold a record of version {SCHEMA_VERSION}, got {SCHEMA_VERSION + 1}; read it with" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"study": 5}, "something else (A study must be made of values by name, got 5.)"),
        ({"planned_trials": True}, "something else (planned_trials must be a whole number at least 0"),
        ({"data": {}}, "data must describe each data set, got none of 'shapes'."),
        ({"data": {"shapes": {"generated": "yes"}}}, "must hold checksum"),
    ],
)
def test_a_study_of_which_no_table_can_be_made_is_one_line(
    run: Store, capsys: pytest.CaptureFixture[str], change: dict[str, Any], text: str
) -> None:
    rewrite(run, **change)
    assert main(["table", run.location]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert text in said.err


def test_rows_that_no_run_writes_are_left_out_and_said(run: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(
        run,
        [
            trial(0),
            trial(1, state="zombie"),
            trial(2, test_error=float("nan")),
            trial(3, dataset="elsewhere"),
            trial(4, test_error=None),
        ],
    )
    assert main(["table", run.location]) == 1
    said = capsys.readouterr()
    assert "25.00" in said.out
    assert (
        "rows whose state is one of pending, running, completed, stopped, diverged, failed, got 'zombie' in" in said.err
    )
    assert "rows whose test_error is a fraction in [0, 1], got nan in row 2; 1 of its 5 rows is left out" in said.err
    assert "study.json must describe each trial's data, got none of elsewhere; 1 trials are left out." in said.err
    assert "must hold the test_error of each completed trial of the search, got 1 without" in said.err


def test_what_looks_into_networks_says_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(str(tmp_path / "looked"))
    flip(Path(run.location) / "epochs/part-00000000.parquet")
    assert main(["shift", run.location, "--max-shift", "1", "--images", "10"]) == 1
    assert capsys.readouterr().err.startswith("damaged: ")
