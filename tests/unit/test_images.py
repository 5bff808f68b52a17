"""Where the images of a streamed set lie, and what one becomes."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.image_sets import LAYOUTS, class_folders, jpegs, parquet
from trainables.data import StreamedDataset, open_dataset
from trainables.data.images import decode_crop


def opened(root: Path, size: int | None = None) -> StreamedDataset:
    data = open_dataset("imagenet", str(root), size)
    assert isinstance(data, StreamedDataset)
    return data


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("inside", ["", "imagenet"])
def test_every_image_is_found_with_its_label(make: Callable[..., Path], inside: str, tmp_path: Path) -> None:
    make(tmp_path / inside)
    data = opened(tmp_path)
    assert (len(data.train), len(data.test), data.num_classes) == (53, 21, 10)
    assert np.bincount(data.train.labels).tolist() == [6, 6, 6, 5, 5, 5, 5, 5, 5, 5]
    assert not data.generated
    assert opened(tmp_path).checksum == data.checksum
    part = opened(tmp_path, 20)
    assert len(part.train) == 20
    assert part.checksum == data.checksum
    places = set(zip(part.train.files.tolist(), part.train.rows.tolist(), strict=True))
    assert len(places) == 20


def test_rows_and_row_groups_of_parquet(tmp_path: Path) -> None:
    train = opened(parquet(tmp_path, train=20, group=4)).train
    assert train.files.tolist() == [0] * 10 + [1] * 10
    assert train.rows.tolist() == [*range(10), *range(10)]
    assert train.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2] * 2
    assert train.labels.tolist() == [*range(10)] * 2


def test_a_marker_says_that_images_are_generated(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "GENERATED").touch()
    assert opened(tmp_path).generated


def refuse(root: Path, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        opened(root)


def test_no_location() -> None:
    with pytest.raises(
        ValueError, match=r"^imagenet must come from --data PATH or the variable SWEEP_DATA, got neither"
    ):
        open_dataset("imagenet")


def test_neither_layout(tmp_path: Path) -> None:
    refuse(tmp_path, f"{tmp_path} must hold the folders train and val with a folder for each class, or")


def test_an_empty_class_folder(tmp_path: Path) -> None:
    class_folders(tmp_path)
    empty = tmp_path / "train" / "class-4"
    for file in empty.iterdir():
        file.rename(file.with_suffix(".txt"))
    refuse(tmp_path, f"{empty} must hold at least one JPEG or PNG file, got an empty class folder.")


def test_a_class_missing_from_validation(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "val" / "class-7").rename(tmp_path / "aside")
    message = f"{tmp_path} must hold the same classes in train and val, got 'class-7' in train but not in val."
    refuse(tmp_path, message)


def test_a_gap_in_the_labels(tmp_path: Path) -> None:
    parquet(tmp_path, val=5)
    table = pa.table({"image": [{"bytes": b""}] * 2, "label": [0, 2]})
    pq.write_table(table, tmp_path / "validation-00000-of-00002.parquet")
    pq.write_table(table, tmp_path / "validation-00001-of-00002.parquet")
    refuse(tmp_path, "The val labels must be 0, 1, 2 and so on without a gap, got none with 1.")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"img": [{"bytes": b""}], "label": [0]}, "must have the columns image and label, got img, label."),
        ({"image": [b""], "label": [0]}, "must be a struct with a binary field bytes, got binary."),
        ({"image": [{"bytes": b""}], "label": ["cat"]}, "must hold whole numbers, got string."),
        ({"image": [{"bytes": b""}], "label": pa.array([None], pa.int64())}, "must have a label, got none in 1."),
    ],
)
def test_columns_that_do_not_fit(table: dict[str, object], message: str, tmp_path: Path) -> None:
    parquet(tmp_path)
    pq.write_table(pa.table(table), tmp_path / "train-00001-of-00002.parquet")
    with pytest.raises(ValueError, match=re.escape(message)):
        opened(tmp_path)


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    file = parquet(tmp_path) / "train-00000-of-00002.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(
        ValueError, match=re.escape(f"{file} must be a whole Parquet file, got one that cannot be read")
    ):
        opened(tmp_path)


def test_a_crop_by_hand() -> None:
    # 256 px high already, so that nothing is scaled: pixels tell where they were.
    rows, columns = np.mgrid[:256, :300]
    pixels = np.stack([rows, columns % 256, columns // 256], 2).astype(np.uint8)
    centre = decode_crop(encoded(pixels), "x", None)
    assert centre.shape == (3, 224, 224)
    assert np.array_equal(centre.transpose(1, 2, 0), pixels[16:240, 38:262])
    corner = decode_crop(encoded(pixels), "x", (0.0, 1.0, False))
    assert np.array_equal(corner.transpose(1, 2, 0), pixels[:224, 76:])
    mirrored = decode_crop(encoded(pixels), "x", (0.0, 1.0, True))
    assert np.array_equal(mirrored, corner[:, :, ::-1])


@pytest.mark.parametrize(("width", "height"), [(100, 40), (40, 100), (224, 224), (600, 700)])
def test_any_size_gives_a_crop(width: int, height: int) -> None:
    flat = np.full((height, width, 3), (10, 120, 250), np.uint8)
    crop = decode_crop(encoded(flat), "x", (0.3, 0.9, True))
    assert crop.shape == (3, 224, 224)
    assert np.array_equal(crop[:, 5, 7], [10, 120, 250])


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG")]
)
def test_grey_scale_and_other_kinds_become_rgb(mode: str, form: str) -> None:
    crop = decode_crop(encoded(np.full((256, 256, 3), 51, np.uint8), form, mode), "x", None)
    assert crop.shape == (3, 224, 224)
    assert np.abs(crop.astype(int) - 51).max() <= 2


@pytest.mark.parametrize("data", [None, b"", b"text", jpegs("train", 1)[0][0][:2000]])
def test_a_corrupt_image(data: bytes | None) -> None:
    message = r"^Row 3 of a\.parquet must hold a whole JPEG or PNG image, got one that cannot be read\.$"
    with pytest.raises(ValueError, match=message):
        decode_crop(data, "Row 3 of a.parquet", None)
