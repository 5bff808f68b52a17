import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from trainables.data import open_dataset
from trainables.data.parquet import open_location
from trainables.data.source import Split

pytestmark = pytest.mark.usefixtures("own_cache")


def pixels(count: int, seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def rows(images: Sequence[np.ndarray], kind: str = "PNG", **options: Any) -> list[dict[str, Any] | None]:
    return [{"bytes": encoded(image, kind, **options), "path": None} for image in images]


def write(file: Path, img: Sequence[Any], label: Sequence[Any], label_name: str = "label") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"img": pa.array(img, struct), label_name: pa.array(label, pa.int64())}
    pq.write_table(pa.table(columns), file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that holds a small data set; the tests spoil one of its training files."""
    root = tmp_path / "data"
    images = pixels(7)
    write(root / "cifar10/train-00000-of-00002.parquet", rows(images[:3]), [0, 1, 2])
    write(root / "cifar10/train-00001-of-00002.parquet", rows(images[3:5], "WEBP", lossless=True), [3, 9])
    write(root / "cifar10/test-00000-of-00001.parquet", rows(images[5:]), [8, 0])
    return root


def train_file(folder: Path) -> Path:
    return folder / "cifar10/train-00001-of-00002.parquet"


def holds_the_seven(folder: str) -> None:
    data = open_dataset("cifar10", folder)
    images = pixels(7).transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.images, images[:5])
    assert np.array_equal(data.test.images, images[5:])
    assert data.train.labels.tolist() == [0, 1, 2, 3, 9]
    assert data.test.labels.tolist() == [8, 0]


def test_png_and_lossless_webp_are_read_in_order_of_files(folder: Path) -> None:
    holds_the_seven(str(folder))


def test_a_file_uri_is_read_like_a_folder(folder: Path) -> None:
    holds_the_seven(f"file://{folder}")
    assert open_dataset("cifar10", f"file://{folder}").checksum == open_dataset("cifar10", str(folder)).checksum


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    for split in ("train", "test"):
        file = tmp_path / f"cifar100/{split}-0.parquet"
        write(file, rows(pixels(2)), [99, 0], "fine_label")
        table = pq.read_table(file)
        pq.write_table(table.append_column("coarse_label", pa.array([1, 2])), file)
    data = open_dataset("cifar100", str(tmp_path))
    assert data.num_classes == 100
    assert data.train.labels.tolist() == [99, 0]


def test_a_file_that_changes_is_read_anew(folder: Path) -> None:
    before = open_dataset("cifar10", str(folder)).checksum
    write(train_file(folder), rows(pixels(3, seed=5)), [1, 1, 1])
    after = open_dataset("cifar10", str(folder))
    assert after.train.labels.tolist() == [0, 1, 2, 1, 1, 1]
    assert after.checksum != before


def refused(folder: Path | str, *parts: str) -> None:
    with pytest.raises(ValueError, match=".*".join(re.escape(part) for part in parts)):
        open_dataset("cifar10", str(folder))


@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
def test_a_truncated_file_is_refused(folder: Path, keep: float) -> None:
    file = train_file(folder)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else int(keep)])
    refused(folder, f"{file} must be a whole Parquet file, got one that cannot be read (")


@pytest.mark.parametrize("name", ["img", "label"])
def test_a_missing_column_is_refused(folder: Path, name: str) -> None:
    file = train_file(folder)
    pq.write_table(pq.read_table(file).rename_columns({name: "other"}), file)
    got = {"img": "other, label", "label": "img, other"}[name]
    refused(folder, f"{file} must have the columns img and label, got {got}.")


def test_images_that_are_no_struct_with_bytes_are_refused(folder: Path) -> None:
    file = train_file(folder)
    pq.write_table(pa.table({"img": [b"x"], "label": [1]}), file)
    refused(folder, f"The column img of {file} must be a struct with a binary field bytes, got binary.")
    pq.write_table(pa.table({"img": [{"path": "x"}], "label": [1]}), file)
    refused(folder, f"The column img of {file} must be a struct with a binary field bytes, got struct<path: string>.")
    pq.write_table(pa.table({"img": [{"bytes": "x"}], "label": [1]}), file)
    refused(folder, f"The column img of {file} must be a struct with a binary field bytes, got struct<bytes: string>.")


@pytest.mark.parametrize("label", ["3", 3.5, True])
def test_labels_that_are_no_whole_numbers_are_refused(folder: Path, label: object) -> None:
    file = train_file(folder)
    pq.write_table(pa.table({"img": [{"bytes": b"x"}], "label": [label]}), file)
    kind = pa.array([label]).type
    refused(folder, f"The column label of {file} must hold whole numbers, got {kind}.")


def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    write(train_file(folder), [{"bytes": buffer.getvalue(), "path": None}], [0])
    refused(folder, f"Row 0 of {train_file(folder)} must hold ")


def test_a_missing_file_of_a_numbered_split_is_refused(folder: Path) -> None:
    where = train_file(folder).parent
    (where / "train-00000-of-00002.parquet").unlink()
    refused(folder, f"{where} must hold all 2 files of the split train, got 1: number 0 is missing.")
    train_file(folder).with_name("train-00000-of-00001.parquet").write_bytes(train_file(folder).read_bytes())
    refused(folder, f"{where} must hold the split train once, got files of more than one numbering.")


def test_a_file_without_rows_is_refused(folder: Path) -> None:
    write(train_file(folder), [], [])
    refused(folder, f"{train_file(folder)} must hold at least one image, got none.")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossy_webp_is_refused(folder: Path, mode: str) -> None:
    image = pixels(2)
    if mode == "RGBA":
        image = np.concatenate([image, image[..., :1]], axis=-1)
    write(train_file(folder), [*rows(pixels(1)), *rows(image, "WEBP", quality=80)], [1, 2, 3])
    refused(folder, f"Row 1 of {train_file(folder)} must hold a PNG or a lossless WebP image, got a lossy one.")


@pytest.mark.parametrize("null", [None, {"bytes": None, "path": "x.png"}])
def test_a_null_image_is_refused(folder: Path, null: Any) -> None:
    write(train_file(folder), [*rows(pixels(1)), null], [1, 2])
    refused(folder, f"Row 1 of {train_file(folder)} must hold a PNG or a lossless WebP image, got none.")


@pytest.mark.parametrize(
    "data", [encoded(pixels(1)[0], "JPEG"), encoded(pixels(1)[0], "GIF"), b"", b"not an image at all, but words"]
)
def test_another_format_is_refused(folder: Path, data: bytes) -> None:
    write(train_file(folder), [{"bytes": data, "path": None}], [1])
    refused(folder, f"Row 0 of {train_file(folder)} must hold a whole PNG or lossless WebP image, got one that cannot")


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_truncated_image_is_refused_wherever_it_ends(folder: Path, kind: str, options: dict[str, Any]) -> None:
    from trainables.data.parquet import _decode

    whole = encoded(pixels(1)[0], kind, **options)
    for length in range(0, len(whole) - 20, 37):
        with pytest.raises(ValueError, match=r"^Row 4 of here must hold a whole PNG or lossless WebP image"):
            _decode(whole[:length], "here", 4)


def test_an_image_of_another_size_is_refused(folder: Path) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    write(train_file(folder), [*rows(pixels(1)), *rows([image])], [1, 2])
    refused(folder, f"Row 1 of {train_file(folder)} must hold an image of 32x32 pixels, got 24x16.")


@pytest.mark.parametrize("wrong", [10, -1])
def test_a_label_out_of_range_is_refused(folder: Path, wrong: int) -> None:
    write(train_file(folder), rows(pixels(2)), [1, wrong])
    refused(folder, f"The train labels must be from 0 to 9, got {wrong} at row 4.")


def test_a_missing_label_is_refused(folder: Path) -> None:
    write(train_file(folder), rows(pixels(3)), [1, None, None])
    refused(folder, f"Each row of {train_file(folder)} must have a label, got none in 2.")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_refused(folder: Path, split: str) -> None:
    for file in (folder / "cifar10").glob(f"{split}-*"):
        file.unlink()
    refused(folder, f"{folder} must hold both splits of cifar10, got no file cifar10/{split}-*.parquet.")


def test_a_folder_with_nothing_in_it_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "The data location must hold cifar10/train-*.parquet and cifar10/test-*.parquet, or torchvision's folder "
        f"cifar-10-batches-py, got '{tmp_path}', which holds neither.",
    )


def test_a_file_uri_to_nowhere_is_refused(tmp_path: Path) -> None:
    refused(f"file://{tmp_path}/nowhere", "The data location must hold cifar10/train-*.parquet", "which holds neither")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "no", f"The data location must be an existing folder or a URI, got '{tmp_path / 'no'}'.")


@pytest.mark.parametrize("uri", ["nope://bucket/x", "://", "s3 ://x"])
def test_a_bad_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=f"^The data location must be a folder or a URI, got {re.escape(repr(uri))} "):
        open_location(uri)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64), "images must be uint8 of shape (N, 3, 32, 32)"),
        (np.zeros((2, 3, 32, 32)), np.zeros(2, np.int64), "got float64 of shape (2, 3, 32, 32)."),
        (np.zeros((0, 3, 32, 32), np.uint8), np.zeros(0, np.int64), "with N at least 1, got uint8 of shape (0,"),
        (
            np.zeros((2, 3, 32, 32), np.uint8),
            np.zeros(3, np.int64),
            "one for each of the 2 images, got int64 of shape (3,)",
        ),
        (np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int32), "labels must be int64"),
        (np.zeros((2, 3, 32, 32), np.uint8), np.array([0, 4]), "labels must be from 0 to 3, got 4 at row 1."),
    ],
)
def test_a_split_refuses_what_does_not_fit(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Split(name="train", images=images, labels=labels, num_classes=4)
