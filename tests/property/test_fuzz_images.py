"""Whatever lies where a data set should: there are its images, or a sentence says why there are none."""

import hashlib
import io
import json
import random
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from PIL import Image

from tests.fuzzing import counted, damaged, examples, refused, seeds
from trainables.data.cache import cached_arrays
from trainables.data.cifar import CIFAR10
from trainables.data.images import decode_crop, index_images
from trainables.data.parquet import _decode, find_split
from trainables.data.source import Split

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LOCAL = pafs.LocalFileSystem()


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], None]]:
    with counted("data sets") as count:
        yield count


@cache
def image(kind: str, side: int = 32, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    pixels[: side // 2] = 7  # so that files are small
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **options)
    return out.getvalue()


IMAGES = (
    *(
        ("PNG", 32, "RGB"),
        ("PNG", 32, "P"),
        ("PNG", 32, "L"),
        ("PNG", 32, "RGBA"),
        ("PNG", 31, "RGB"),
        ("GIF", 32, "P"),
    ),
    *(("WEBP", 32, "RGB"), ("WEBP", 32, "RGBA"), ("JPEG", 32, "RGB"), ("JPEG", 32, "CMYK"), ("BMP", 32, "RGB")),
)


def some_image(draws: random.Random) -> bytes:
    """Return a file of a small image, mostly damaged."""
    kind, side, mode = draws.choice(IMAGES)
    data = image(kind, side, mode, **({"lossless": draws.random() < 0.7} if kind == "WEBP" else {}))
    if kind == "PNG" and draws.random() < 0.5:
        # Only with checksums that fit does a damage reach what is behind them.
        return png_with_checksums(damaged(data, draws.randrange(2**40)))
    return damaged(data, draws.randrange(2**40)) if draws.random() < 0.9 else data


def png_with_checksums(data: bytes) -> bytes:
    import zlib

    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        size = int.from_bytes(out[place : place + 4], "big")
        end = place + 8 + size
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(out)


@examples(300, 0.6)
@given(seed=seeds())
def test_an_image(seed: int, another: Callable[[], None]) -> None:
    another()
    data = some_image(random.Random(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(lambda: _decode(data, "train.parquet", 3))
        if seed % 10 == 0:
            refused(lambda: decode_crop(data, "Row 3 of train.parquet", None))


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size; it holds next to nothing."""
    data = bytearray(image("PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return png_with_checksums(bytes(data))


@pytest.mark.parametrize("side", [13_000, 2**15, 2**31 - 1])
def test_an_image_that_claims_to_be_huge_is_not_unpacked(side: int) -> None:
    said = refused(lambda: decode_crop(png_of(side, side), "a.png", None))
    assert said is not None
    assert said.startswith("a.png must hold ")
    assert refused(lambda: _decode(png_of(side, side), "a.parquet", 0)) is not None


def table(draws: random.Random, column: str = "img", label: str = "label") -> pa.Table:
    """Return a few images with labels, some of which no data set holds."""
    count = draws.randrange(1, 5)
    files: list[Any] = [image("PNG", 32) for _ in range(count)]
    labels: list[Any] = [draws.randrange(10) for _ in range(count)]
    for _ in range(draws.choice((0, 0, 1, 2))):
        files[draws.randrange(count)] = draws.choice((None, b"", some_image(draws), b"x" * 100))
        labels[draws.randrange(count)] = draws.choice((None, -1, 10, 2**62, -(2**63), 99))
    rows = [None if data is None and draws.random() < 0.5 else {"bytes": data, "path": None} for data in files]
    kind = draws.choice((pa.int64(), pa.int64(), pa.int8(), pa.uint64(), pa.float32(), pa.string(), pa.bool_()))
    try:
        array = pa.array(labels, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        array = pa.array(labels, pa.int64())
    found = pa.table({column: pa.array(rows, STRUCT), label: array})
    if draws.random() < 0.1:
        found = draws.choice(
            (found.drop_columns([label]), found.rename_columns([label, column]), found.slice(0, 0), found.select([]))
        )
    return found


def parquet(found: pa.Table, draws: random.Random) -> bytes:
    sink = io.BytesIO()
    pq.write_table(found, sink, row_group_size=draws.choice((1, 2, 100)), compression=draws.choice(("snappy", "none")))
    raw = sink.getvalue()
    return damaged(raw, draws.randrange(2**40)) if draws.random() < 0.5 else raw


@examples(150, 0.2)
@given(seed=seeds())
def test_parquet_in_hugging_faces_layout(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    (fast / "cifar10").mkdir(exist_ok=True)
    for split in ("train", "test"):
        (fast / "cifar10" / f"{split}-00000-of-00001.parquet").write_bytes(parquet(table(draws), draws))
    splits: list[tuple[Split, Split]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(lambda: splits.append(CIFAR10.read(str(fast), None)))
    for split in splits[0] if splits else ():
        assert split.images.shape[1:] == (3, 32, 32)
        assert set(split.labels.tolist()) <= set(range(10))


@pytest.mark.parametrize(
    ("column", "names", "read"),
    [
        (
            "img",
            ("cifar10/train-00000-of-00001", "cifar10/test-00000-of-00001"),
            lambda at: CIFAR10.read(str(at), None),
        ),
        ("image", ("train-00000-of-00001", "val-00000-of-00001"), lambda at: index_images(LOCAL, str(at))),
    ],
)
def test_a_column_whose_name_is_no_text(
    column: str, names: tuple[str, ...], read: Callable[[Path], Any], tmp_path: Path
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({column: pa.array([{"bytes": b"", "path": None}], STRUCT), "label": [0]}), sink)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.parquet").write_bytes(sink.getvalue().replace(b"label", b"la\xe2el"))
    assert "must be a whole Parquet file" in str(refused(lambda: read(tmp_path)))


@examples(100, 0.15)
@given(seed=seeds())
def test_parquet_of_a_streamed_set(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    (fast / "net").mkdir(exist_ok=True)
    for split in ("train", "val"):
        raw = parquet(table(draws, "image"), draws)
        (fast / "net" / f"{split}-00000-of-00001.parquet").write_bytes(raw)
    refused(lambda: index_images(LOCAL, str(fast / "net")))


@pytest.fixture(scope="module")
def pickles(fast: Path) -> dict[str, bytes]:
    """Return files like those of torchvision's folder, by their names: none has the checksum that it knows."""
    import pickle

    base = fast / CIFAR10._torchvision_class.base_folder
    base.mkdir()
    batch = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]})
    names = [name for name, _ in (*CIFAR10._torchvision_class.train_list, *CIFAR10._torchvision_class.test_list)]
    return dict.fromkeys([*names, "batches.meta"], batch)


@examples(60, 0.05)
@given(seed=seeds())
def test_torchvisions_folder(seed: int, fast: Path, pickles: dict[str, bytes], another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    root = fast / CIFAR10._torchvision_class.base_folder
    for name in draws.sample(sorted(pickles), 3):
        if draws.random() < 0.1:
            (root / name).unlink(missing_ok=True)
        else:
            (root / name).write_bytes(damaged(pickles[name], draws.randrange(2**40)))
    said = refused(lambda: CIFAR10._from_torchvision(str(fast)))
    assert said is not None, "the checksum is compared before anything is unpickled"


class Code:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self._mark),)


def test_code_in_torchvisions_folder_is_not_run(tmp_path: Path) -> None:
    import pickle

    base = tmp_path / CIFAR10._torchvision_class.base_folder
    base.mkdir()
    for name, _ in (*CIFAR10._torchvision_class.train_list, *CIFAR10._torchvision_class.test_list):
        (base / name).write_bytes(pickle.dumps({"data": Code(str(tmp_path / "run")), "labels": []}))
    assert "must be whole and have the checksums" in str(refused(lambda: CIFAR10.read(str(tmp_path), None)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["train-0-of-99999999999.parquet"],
        ["train-00000-of-00000.parquet"],
        ["train-5-of-3.parquet", "train-0-of-3.parquet", "train-1-of-3.parquet"],
        [f"train-{'9' * 200}-of-{'9' * 20}.parquet"],
    ],
)
def test_numbers_in_names_that_no_set_has(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    said = refused(lambda: find_split(LOCAL, str(tmp_path), "train"))
    assert said is not None
    assert "must hold all " in said


def test_a_huge_label_is_refused_without_a_list_of_all_below_it(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = pa.array([{"bytes": b"", "path": None}] * 2, STRUCT)
        pq.write_table(pa.table({"image": rows, "label": [0, 2**62]}), tmp_path / f"{split}-0.parquet")
    assert "got none with 1" in str(refused(lambda: index_images(LOCAL, str(tmp_path))))


@examples(50, 0.02)
@given(seed=seeds())
def test_the_cache(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(fast / "cache"))
        arrays = {"a": np.arange(6, dtype=np.int64), "b": np.zeros((2, 3), np.uint8)}
        cached_arrays("x", {"k": 1}, lambda: arrays)
        (folder,) = (path for path in (fast / "cache").iterdir() if path.is_dir())
        file = draws.choice(sorted(folder.iterdir()))
        whole = file.read_bytes()
        other = json.dumps(draws.choice(([], {}, None, {"arrays": 5}, {"arrays": ["../../a"]}, {"arrays": [None]})))
        fit = file.suffix == ".json" and draws.random() < 0.3
        file.write_bytes(other.encode() if fit else damaged(whole, draws.randrange(2**40)))
        try:
            refused(lambda: cached_arrays("x", {"k": 1}, lambda: arrays))
        finally:
            file.write_bytes(whole)


def test_the_seed_of_these_files_is_the_same_everywhere() -> None:
    draws = [damaged(image("PNG"), seed) for seed in range(50)]
    assert len({hashlib.sha256(data).digest() for data in draws}) > 40
