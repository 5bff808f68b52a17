"""Whatever study.json holds and whatever is typed: there is a study, or a sentence says why there is none."""

import copy
import json
import random
import string
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from analysis.run_data import read_evidence
from search_spaces import Choice, IntUniform, LogUniform, Space, Uniform
from sweep.cli.parse import parse
from sweep.execution.plan import check_study
from sweep.record.document import Code
from sweep.record.store import Store
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from sweep.study.study import Study
from tests.fuzzing import ODD, altered, counted, damaged, examples, refused, seeds
from tests.standings import data, execution, run_document
from trainables.common.registry import load_plugins
from trainables.config import TrialConfig

NAMES = tuple(STUDIES)[:7]


@pytest.fixture(scope="module")
def another() -> Iterator[Callable[[], None]]:
    with counted("study files and command lines") as count:
        yield count


@cache
def document(name: str) -> dict[str, Any]:
    """Return what study.json holds of a run of a named study."""
    study = STUDIES[name]()
    twice = (execution(), execution(code=Code(commit="1" * 40, altered=True)))
    images = dict.fromkeys(study.datasets, data(train_images=50, test_images=10))
    return json.loads(run_document(study, images, executions=twice).to_bytes())  # type: ignore[no-any-return]


def conditional(study: dict[str, Any]) -> dict[str, Any]:
    """Return a study that searches dimensions of each kind, one of them beside a certain value of another."""
    space = Space(
        lr=LogUniform(0.01, 0.1),
        momentum_form=Choice(("caffe", "pytorch")),
        momentum=Uniform(0.5, 0.9, 0.1).when("momentum_form", "caffe"),
        batch_size=IntUniform(16, 64),
    )
    own = {study["variants"][0]: Space(dropout=Choice((0.1, 0.2))).to_dict()}
    return study | {"search": "tpe", "trials_per_cell": 4, "space": space.to_dict(), "spaces": own}


def warm(study: dict[str, Any]) -> dict[str, Any]:
    """Return a study that an earlier run has told something."""
    point = {"cell": "cifar10/none/model-c", "params": {"lr": 0.1, "weight_decay": 0.001}, "error": 0.1}
    earlier = {"run": "runs/a", "points": [point], "skipped": 1}
    return study | {"search": "tpe", "trials_per_cell": 4, "warm_start": earlier}


def several(value: Any, draws: random.Random) -> Any:
    for _ in range(draws.choice((1, 1, 2, 3))):
        value = altered(value, draws)
    return value


@examples(300, 0.45)
@given(seed=seeds())
def test_a_study_with_other_values(seed: int, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    study = copy.deepcopy(document(draws.choice(NAMES))["study"])
    plain = several(draws.choice((warm, conditional, dict, dict, dict))(study), draws)
    found: list[Study] = []
    if refused(lambda: found.append(Study.from_dict(plain))) is None:
        # What was taken is whole: it can be written, and comes back equal.
        again = Study.from_dict(json.loads(json.dumps(found[0].to_dict())))
        assert again == found[0]
        assert refused(lambda: RunOptions(epochs=7).apply(again)) is None or again.base.epochs != 7
    if isinstance(plain, dict):
        refused(lambda: TrialConfig.from_dict(plain.get("base")))  # type: ignore[arg-type]


@examples(200, 0.44)
@given(seed=seeds())
def test_a_damaged_file(seed: int, fast: Path, another: Callable[[], None]) -> None:
    another()
    draws = random.Random(seed)
    whole = document(draws.choice(NAMES))
    if draws.random() < 0.5:
        raw = damaged(json.dumps(whole).encode(), seed)
    else:
        raw = json.dumps(several(whole, draws)).encode("utf-8", "surrogatepass")
    (fast / "study.json").write_bytes(raw)
    store = Store(str(fast))
    refused(store.read_run)
    refused(lambda: read_evidence(store))


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1e999", b"9" * 5000, b'"\\ud800"'])
def test_text_that_is_hard_to_read(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_bytes(raw)
    assert refused(Store(str(tmp_path)).read_run) is not None


OPTIONS = tuple(f"--{name.replace('_', '-')}" for name in RunOptions.__dataclass_fields__)
WORDS = (
    *map(str, ODD[:16]),
    *("nan", "inf", "-inf", "1e400", "0x10", "1_000", "0.1..0.2", "0.2..0.1", "..", "1..", "0..1", "1e-5..1e-2"),
    *("grid", "tpe", "TPESampler", "PartialFixedSampler", "asha", "halving", "holdout", "paper"),
    *(
        "none",
        "auto",
        "",
        " ",
        "-",
        "--",
        "---",
        "-x",
        "--nope",
        "--weight-decay",
        "--resume=1",
        "--",
        "é",
        "\n",
        "\x00",
    ),
    *(
        "model-c",
        "all-cnn-c",
        "large-all-cnn",
        "cifar10",
        "cifar100",
        "shapes",
        "flip-shift",
        "heavy",
        "../../x",
        "s3://a",
    ),
    *("9" * 400, "9" * 5000, "x" * 500, "\ud800", "--epochs", "--seeds=3", "--width=0.1"),
    *(
        "dropout=0.1,0.2",
        "lr=1e-3..0.1",
        "batch_size=8..64..8",
        "momentum=0.5..0.9 if momentum_form=caffe",
        "lr=log:0..1",
    ),
    *(
        "model-c:dropout=0.1",
        "class_relu=yes,no",
        "validation=0.2",
        "canvas=none",
        "=",
        "a=b if c=d",
        "dropout=..",
        "lr=,",
    ),
    *("~nobody/x", "~", "/dev/null", "1e-320", "128", "64", "3", "0.05", "126"),
)


def typed(seed: int) -> list[str]:
    """Return a command line."""
    draws = random.Random(seed)
    line = [draws.choice(NAMES)] if draws.random() < 0.8 else []
    for _ in range(draws.randrange(6)):
        line.append(draws.choice(OPTIONS))
        for _ in range(draws.choice((0, 1, 1, 1, 2))):
            if draws.random() < 0.9:
                line.append(draws.choice(WORDS))
            else:
                line.append("".join(draws.choices(string.printable, k=draws.randrange(12))))
    return line


def begun(line: list[str]) -> Study | None:
    """Return the study of a command line as `sweep.run` makes it, as far as nothing is read but the line."""
    parsed = parse([word for word in line if word not in ("--help", "-h")])
    assert parsed is not None
    name, options = parsed
    return options.apply(STUDIES[name or "cifar10"]())


@examples(200, 0.1)  # each takes some 25 ms, a study file 2
@given(seed=seeds())
def test_a_command_line(seed: int, another: Callable[[], None]) -> None:
    another()
    refused(lambda: begun(typed(seed)))


@examples(25, 0.01)
@given(seed=seeds())
def test_a_study_that_a_command_line_made_is_checked(seed: int, another: Callable[[], None]) -> None:
    another()
    study: list[Study | None] = []
    if refused(lambda: study.append(begun(typed(seed)))) is None:
        assert study[0] is not None
        if "imagenet" not in study[0].datasets:  # its classes are counted where it lies
            refused(lambda: check_study(study[0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_plugins_of_any_value(value: Any) -> None:
    if value not in ([], {}, ()):
        assert refused(lambda: load_plugins(value)) is not None
        assert refused(lambda: load_plugins([value])) is not None
