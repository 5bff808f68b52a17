"""Whatever is given as a name or a place: it leads into the folder that it should, or a sentence says why not."""

import random
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.record.damage import salvage_record
from sweep.record.schema import TRIALS
from sweep.record.store import Store, check_name, check_trial_id, run_location
from tests.fuzzing import counted, examples, refused, seeds
from trainables.common.files import filesystem_of
from trainables.common.registry import Registry, load_plugins
from trainables.data.parquet import open_location

PIECES = (
    *(
        "..",
        ".",
        "/",
        "//",
        "\\",
        "~",
        "~root",
        "~nobody",
        "-",
        "--",
        "_",
        " ",
        "\t",
        "\n",
        "\r",
        "\x00",
        "\x7f",
        "%2e%2e",
    ),
    *("%00", "%", "?", "#", "&", "=", ":", "://", "@", "s3://", "gs://", "file://", "file:///", "hdfs://", "mock://"),
    *(
        "nope://",
        "a",
        "b",
        "A",
        "run",
        "model-c",
        "é",
        "\u202e",
        "\u2028",
        "\ud800",
        "\U0001f600",
        "CON",
        "x" * 120,
        "..;",
    ),
    *(
        "key:secret",
        "user@",
        "[::1]",
        "[",
        "]",
        "127.0.0.1:1",
        "region=eu-1",
        "scheme=http",
        "$HOME",
        "`id`",
        "{a}",
        "*",
    ),
)


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], None]]:
    with counted("names and places") as count:
        yield count


def name_of(seed: int) -> str:
    draws = random.Random(seed)
    if draws.random() < 0.2:
        return "".join(chr(draws.randrange(0x250)) for _ in range(draws.randrange(8)))
    if draws.random() < 0.2:
        return "".join(draws.choices(string.ascii_letters + string.digits + "._-/", k=draws.randrange(1, 110)))
    return "".join(draws.choice(PIECES) for _ in range(draws.randrange(6)))


def is_within(place: str, folder: str) -> bool:
    return Path(place).resolve().is_relative_to(Path(folder).resolve()) and Path(place).resolve() != Path(folder)


@examples(300, 0.45)
@given(seed=seeds())
def test_a_name_is_a_folders_in_the_output(seed: int, another: Callable[[], None]) -> None:
    another()
    name = name_of(seed)
    if refused(lambda: check_name(name)) is None:
        assert Path(name).parts == (name,)
        assert is_within(run_location("/runs", name), "/runs")
        assert run_location("s3://b/runs?region=x", name) == f"s3://b/runs/{name}?region=x"
    if refused(lambda: check_trial_id(name)) is None:
        assert is_within(Store("/runs/mine").checkpoint(name), "/runs/mine/checkpoints")
    else:
        assert refused(lambda: Store("/runs/mine").checkpoint(name)) is not None
    names: Registry[int] = Registry("variant")
    if refused(lambda: names.register(name)(1)) is None:
        assert Path(name).parts == (name,)
        assert list(names) == [name]
    refused(lambda: names[name])


@examples(100, 0.3)
@given(seed=seeds(), text=st.none() | st.text(max_size=12))
def test_a_place(seed: int, text: str | None, fast: Path, another: Callable[[], None]) -> None:
    another()
    place = name_of(seed) if text is None else text
    # Object stores are asked over the network, which these wait for.
    place = re.sub(r"(s3|gs|gcs|hdfs|viewfs|abfss?)(?=:|%3a)", "", place, flags=re.IGNORECASE)
    found: list[Store] = []
    refused(lambda: found.append(Store(place)))
    refused(lambda: run_location(place, "mine"))
    refused(lambda: open_location(place))
    refused(lambda: filesystem_of(place))
    if found and not place.startswith("mock"):
        refused(found[0].read_run)
        refused(found[0].is_empty)
        refused(lambda: salvage_record(found[0]))
    assert list(fast.iterdir()) == []


@examples(60, 0.25)
@given(seed=seeds())
def test_a_plugin_that_is_none(seed: int, another: Callable[[], None]) -> None:
    another()
    name = name_of(seed)
    assert refused(lambda: load_plugins([name])) is not None


@pytest.mark.parametrize("place", ["s3://key:secret@b/x", "gs://a:b@c/d", "hdfs://u:p@h/x"])
@pytest.mark.parametrize("opened", [Store, open_location])
def test_a_password_is_never_repeated(place: str, opened: Callable[[str], Any]) -> None:
    said = refused(lambda: opened(place))
    assert said is not None
    assert "secret" not in said
    assert "u:p" not in said


@pytest.mark.parametrize("trial_id", ["../../x", "/etc/x", "a/b", "..", "", ".x", "a\n", "a\x00", "x" * 251])
def test_a_record_leads_to_no_file_elsewhere(tmp_path: Path, trial_id: str) -> None:
    store = Store(str(tmp_path))
    row = dict.fromkeys(TRIALS.names) | {"phase": "search", "state": "completed", "dataset": "d", "augmentation": "n"}
    row |= {"variant": "v", "lr": 0.1, "params": '{"lr":0.1}', "seed": 0, "epochs_run": 0}
    store.write_trials([row | {"trial_id": trial_id, "epochs_budget": 1}])
    record = salvage_record(store)
    assert record.trials.num_rows == 0
    assert "must hold rows whose trial_id is letters, digits, dots, hyphens and underscores" in record.damages[0]
    assert isinstance(record.trials, pa.Table)
    said = refused(lambda: store.checkpoint(trial_id))
    assert said is not None
    assert said.startswith("trial_id must be at most 250 letters, digits, dots, hyphens and underscores")
