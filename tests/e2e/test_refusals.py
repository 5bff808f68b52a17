"""Every kind of bad input: one sentence, exit status 2, nothing written, and no Ray started."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from sweep.run import main

REFUSED = {
    "unknown study": (
        ["table4"],
        "study must be one of quickstart, cifar10, cifar10-augmented, cifar100, got 'table4'.",
    ),
    "unknown variant": (["quickstart", "--variants", "model-d"], "variant must be one of model-a, "),
    "unknown data set": (["quickstart", "--datasets", "mnist"], "dataset must be one of cifar10, cifar100, shapes, "),
    "unknown option": (["quickstart", "--learning-rate", "0.1"], "Unknown option: --learning-rate."),
    "unknown search": (["quickstart", "--search", "best"], 'Invalid value "best" for --search. Choose from: '),
    "unknown protocol": (["quickstart", "--protocol", "best"], 'Invalid value "best" for --protocol.'),
    "rate zero": (
        ["quickstart", "--learning-rates", "0"],
        "each value of a choice must be a finite number above 0, got 0",
    ),
    "rate negative": (
        ["quickstart", "--learning-rates", "-0.1"],
        "each value of a choice must be a finite number above",
    ),
    "rate nan": (
        ["quickstart", "--learning-rates", "nan"],
        "each value of a choice must be a finite number above 0, got",
    ),
    "rate a word": (
        ["quickstart", "--learning-rates", "high"],
        'Invalid value for --learning-rates: unable to convert "',
    ),
    "rate twice": (
        ["quickstart", "--learning-rates", "0.1", "0.1"],
        "The values of a choice must differ from each other",
    ),
    "no variant": (["quickstart", "--variants"], "variants must hold at least one name, got none."),
    "epochs 0": (["quickstart", "--epochs", "0"], "epochs must be at least 1, got 0."),
    "epochs 1.5": (
        ["quickstart", "--epochs", "1.5"],
        "Invalid value for --epochs: it must be a whole number, got '1.5'.",
    ),
    "train size 0": (["quickstart", "--train-size", "0"], "train_size must be at least 1, got 0."),
    "width": (["quickstart", "--width", "0.001"], "width must leave every layer at least one channel, got 0.001"),
    "width 0": (["quickstart", "--width", "0"], "width must be a finite number above 0, got 0.0."),
    "dropout": (["quickstart", "--dropout", "1"], "dropout must be at least 0 and below 1, got 1.0."),
    "seeds 0": (["quickstart", "--seeds", "0"], "seeds must be at least 1, got 0."),
    "grid and count": (
        ["quickstart", "--trials-per-cell", "3"],
        "trials_per_cell must be left out for the grid search",
    ),
    "too few CPUs": (
        ["quickstart", "--workers-per-trial", "9999"],
        "workers_per_trial must leave one trial within the ",
    ),
    "no worker": (["quickstart", "--workers-per-trial", "0"], "workers_per_trial must be at least 1, got 0."),
    "too few GPUs": (["quickstart", "--gpus-per-trial", "99"], "gpus_per_trial must be at most the "),
    "split GPUs": (
        ["quickstart", "--gpus-per-trial", "0.5", "--workers-per-trial", "2"],
        "gpus_per_trial must be a whole number for each of the 2 workers, got 0.5;",
    ),
    "no slot": (["quickstart", "--max-concurrent", "0"], "max_concurrent must be at least 1, got 0."),
    "name with a slash": (["quickstart", "--name", "a/b"], "name must be at most 100 letters, digits, dots, "),
    "name above": (["quickstart", "--name", ".."], "name must be at most 100 letters, digits, dots, "),
    "missing plugin": (["quickstart", "--plugins", "nowhere.py"], "plugins must be existing Python files, got "),
    "missing data": (
        ["cifar10", "--data", "/nowhere"],
        "The data location must be an existing folder or a URI, got '/now",
    ),
    "nothing to resume": (["--resume", "--name", "none"], "A run's folder must hold study.json, got "),
    "resume what": (["--resume"], "name must say which run to resume, got none; add --name NAME."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    arguments, sentence = REFUSED[case]
    assert main([*arguments, "--output", str(tmp_path / "runs")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {sentence}"), errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    assert not ray.is_initialized()


def write_parquet(path: Path, images: list[bytes | None], labels: list[int | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    structs = pa.array([{"bytes": data, "path": None} for data in images], kind)
    pq.write_table(pa.table({"img": structs, "label": pa.array(labels, pa.int64())}), path)


def encoded(form: str, side: int = 32, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def test_a_train_size_beyond_the_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / "data" / "cifar10" / f"{split}-0.parquet", [encoded("PNG")] * 4, [0, 1, 2, 9])
    arguments = ["cifar10", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "runs"), "--train-size", "5"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "error: train_size must be at most the 4 training images that cifar10 holds here, got 5.\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        ([encoded("JPEG")], [0], "must hold a whole PNG or lossless WebP image, got one that cannot be read."),
        ([encoded("WEBP", quality=50)], [0], "must hold a PNG or a lossless WebP image, got a lossy one."),
        ([None], [0], "must hold a PNG or a lossless WebP image, got none."),
        ([encoded("PNG")[:100]], [0], "must hold a whole PNG or lossless WebP image, got one that cannot be read."),
        ([encoded("PNG", side=28)], [0], "must hold an image of 32x32 pixels, got 28x28."),
        ([encoded("PNG")], [10], "The train labels must be from 0 to 9, got 10 at row 0."),
        ([encoded("PNG")], [-1], "The train labels must be from 0 to 9, got -1 at row 0."),
        ([encoded("PNG")], [None], "must have a label, got none in 1."),
        ([], [], "must hold at least one image, got none."),
    ],
)
def test_data_that_is_not_what_it_should_be_is_refused(
    images: list[bytes | None],
    labels: list[int | None],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_parquet(tmp_path / "cifar10" / "train-0.parquet", images, labels)
    write_parquet(tmp_path / "cifar10" / "test-0.parquet", [encoded("WEBP", lossless=True)], [0])
    assert main(["cifar10", "--data", str(tmp_path), "--output", str(tmp_path / "runs")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.endswith(f"{sentence}\n")
    assert errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("fault", ["truncated", "no test split", "no column", "nothing"])
def test_files_that_are_missing_or_broken_are_refused(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    if fault != "nothing":
        write_parquet(folder / "train-0.parquet", [encoded("PNG")], [0])
    if fault in ("truncated", "no column"):
        write_parquet(folder / "test-0.parquet", [encoded("PNG")], [0])
    if fault == "truncated":
        (folder / "test-0.parquet").write_bytes((folder / "test-0.parquet").read_bytes()[:-20])
    if fault == "no column":
        pq.write_table(pa.table({"image": [1]}), folder / "test-0.parquet")
    sentence = {
        "truncated": "must be a whole Parquet file, got one that cannot be read",
        "no test split": "must hold both splits of cifar10, got no file cifar10/test-*.parquet.",
        "no column": "must have the columns img and label, got image.",
        "nothing": "or torchvision's folder cifar-10-batches-py, got ",
    }[fault]
    assert main(["cifar10", "--data", str(tmp_path), "--output", str(tmp_path / "runs")]) == 2
    errors = capsys.readouterr().err
    assert sentence in errors
    assert errors.count("\n") == 1
