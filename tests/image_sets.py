"""Small image sets in both layouts, drawn from the generated shapes at sizes of photographs."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trainables.data.shapes import make_shapes


def jpegs(name: str, count: int) -> list[tuple[bytes, int]]:
    """Return JPEG files and labels, every class among them from 10 images on."""
    split, rng = make_shapes(name, count, 1), np.random.default_rng(0)
    found = []
    for number, pixels in enumerate(split.images):
        width, height = (int(side) for side in rng.integers(260, 400, 2))
        buffer = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).resize((width, height)).save(buffer, "JPEG", quality=80)
        found.append((buffer.getvalue(), number % 10))
    return found


def class_folders(root: Path, train: int = 53, val: int = 21) -> Path:
    for split, count in (("train", train), ("val", val)):
        for number, (data, label) in enumerate(jpegs(split, count)):
            file = root / split / f"class-{label}" / f"{number:05d}.jpeg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    return root


def parquet(root: Path, train: int = 53, val: int = 21, group: int = 8) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("validation", val)):
        rows = [{"image": {"bytes": data, "path": None}, "label": label} for data, label in jpegs(split, count)]
        half = len(rows) // 2
        for number, part in enumerate((rows[:half], rows[half:])):
            pq.write_table(
                pa.Table.from_pylist(part), root / f"{split}-{number:05d}-of-00002.parquet", row_group_size=group
            )
    return root


def tiny_cifar10(root: Path) -> Path:
    """Make a CIFAR-10 of 20 training and 10 test images."""
    folder = root / "cifar10"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", 20), ("test", 10)):
        rows = []
        for number in range(size):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
            rows.append({"img": {"bytes": buffer.getvalue(), "path": None}, "label": number % 10})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    return root


LAYOUTS = {"class folders": class_folders, "parquet": parquet}
