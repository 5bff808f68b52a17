"""Every value of a trial's configuration can be searched: drawn, trained, recorded, resumed, extended and shown."""

import math
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args, get_origin

import pyarrow.parquet as pq
import pytest
import ray.train
import torch
from annotated_types import Ge, Gt, Le, Lt
from ray.train.torch import TorchTrainer
from torch import nn

from analysis.__main__ import main as analysis
from analysis.run_data import read_evidence
from analysis.tables import table_rows
from search_spaces import Scalar
from search_spaces.dimensions import in_words
from sweep.execution.recorder import Recorder
from sweep.record.params import column_name, label, read_params
from sweep.record.store import Store
from sweep.resume.recorded import recorded_run
from sweep.search.searcher import StudySearcher
from sweep.study.options import RunOptions
from sweep.study.study import Study
from tests.standings import data, run_document
from trainables.architectures import register_variant
from trainables.hyperparameters import NOT_SEARCHED, PATHS, kind_of
from trainables.worker import train_worker

STREAMED_ONLY = {"iterations"}
"""Steps of a streamed data set; tests/e2e trains one."""

GIVEN: dict[str, tuple[Scalar, Scalar]] = {
    "epochs": (1, 2),
    "batch_size": (16, 32),
    "train_size": (40, 60),
    "canvas": (32, 40),
    "width": (0.05, 0.1),
    "compiled": ("no", "auto"),
    "max_scale": (1.5, 1.8),
    "min_scale": (0.5, 0.7),
    "max_grad_norm": (None, 1.0),
    "precision": ("float32", "bfloat16"),
    "memory_format": ("contiguous", "channels_last"),
    "warmup_epochs": (0.0, 1.0),
    "preprocessing": ("gcn-zca", "standardise"),
}
"""Two values of fields whose bounds alone do not say which are quick to train with."""


@dataclass
class OwnOptions:
    """Options of a network of a user's own, one of each kind."""

    depth: Annotated[int, Ge(1)] = 1
    slope: float = 0.1
    norm: bool = False
    pool: Literal["mean", "max"] = "mean"
    note: str = "a"


@pytest.fixture
def own_net(registries: None) -> None:
    @register_variant("own-net", options=OwnOptions)
    def own_net(options: OwnOptions, num_classes: int) -> nn.Module:
        layers: list[nn.Module] = []
        for depth in range(options.depth):
            layers += [nn.Conv2d(3 if depth == 0 else 4, 4, 3, padding=1), nn.LeakyReLU(options.slope)]
            layers += [nn.GroupNorm(2, 4)] if options.norm else []
        pool = nn.AdaptiveAvgPool2d(1) if options.pool == "mean" else nn.AdaptiveMaxPool2d(1)
        return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(4, num_classes))


def bare(kind: Any) -> list[Any]:
    if hasattr(kind, "__metadata__"):
        return bare(get_args(kind)[0])
    if get_origin(kind) is types.UnionType:
        return [each for argument in get_args(kind) for each in bare(argument)]
    return [kind]


def bounds(kind: Any) -> tuple[float, float]:
    """Return the lowest and the highest value that a number's annotation allows."""
    low, high = -math.inf, math.inf
    for bound in getattr(kind, "__metadata__", ()):
        low = bound.ge if isinstance(bound, Ge) else bound.gt + 1e-3 if isinstance(bound, Gt) else low
        high = bound.le if isinstance(bound, Le) else bound.lt - 1e-3 if isinstance(bound, Lt) else high
    return low, high


def two_values(name: str, kind: Any) -> tuple[Scalar, Scalar]:
    """Return two values that a field may have, from its annotation."""
    if name in GIVEN:
        return GIVEN[name]
    (first, *_) = bare(kind)
    if first is bool:
        return False, True
    if first is str:
        return "a", "b"
    if get_origin(first) is Literal:
        return get_args(first)[0], get_args(first)[1]
    low, high = bounds(kind)
    if first is int:
        return (int(max(low, 0)), int(max(low, 0)) + 1)
    start = low if math.isfinite(low) else 0.1
    return round(start + 0.05, 6), round(min(high, start + 0.1), 6)


def options(tmp_path: Path, *vary: str, **given: Any) -> RunOptions:
    return RunOptions(output=str(tmp_path), name="run", vary=vary or None, **given)


def study_of(run: RunOptions, variant: str, name: str) -> Study:
    from sweep.study.catalog import quickstart

    setting = [
        *("width=0.05", "warmup_epochs=0", "train_size=40", "epochs=1", "batch_size=16"),
        *("class_relu=false", "momentum=0.5", "leaky_slope=0.1", "precision=float32", "memory_format=contiguous"),
    ]
    setting += ["canvas=126"] if variant == "large-all-cnn" else []
    kept = tuple(each for each in setting if each.partition("=")[0] != name)
    augmentations = ("heavy",) if PATHS.get(name, ("",))[0] == "heavy" else ("none",)
    base = RunOptions(
        variants=(variant,), protocol="paper", augmentations=augmentations, set=kept, learning_rates=(0.01,)
    ).apply(quickstart())
    return run.apply(base)


def train_here(config: dict[str, Any], checkpoint: str, report: Callable[[dict[str, Any]], None]) -> None:
    """Train a trial in this process as its own process would: Ray Train's local mode starts none."""
    scaling = ray.train.ScalingConfig(num_workers=0, use_gpu=False)
    TorchTrainer(lambda: train_worker(config, checkpoint, report, 1), scaling_config=scaling).fit()


def train(study: Study, store: Store, recorded: Any, most: int = 1_000) -> list[Any]:
    """Train what the search deals, at most so many trials, each in this process; the rest stays to be resumed."""
    recorder = Recorder(store, study, recorded=recorded)
    searcher = StudySearcher(study, recorded)
    for number in range(most):
        parameters = searcher.suggest(f"ray{number}")
        if not isinstance(parameters, dict):
            break
        trial = SimpleNamespace(config=parameters, trial_id=f"ray{number}")
        recorder.on_trial_start(0, [], trial)
        last: dict[str, Any] = {}

        def report(result: dict[str, Any], trial: Any = trial, last: dict[str, Any] = last) -> None:
            recorder.on_trial_result(0, [], trial, result)
            searcher.on_trial_result(trial.trial_id, result)
            last.update(result)

        train_here(parameters["config"], store.checkpoint(parameters["trial_id"]), report)
        recorder.on_trial_complete(0, [], trial)
        searcher.on_trial_complete(trial.trial_id, last)
    recorder.close()
    return recorder.rows


NAMES = [name for name in PATHS if name not in NOT_SEARCHED and name not in STREAMED_ONLY]
OWN_NAMES = [f"options.{field}" for field in ("depth", "slope", "norm", "pool", "note")]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("own_net")
@pytest.mark.parametrize("name", [*NAMES, *OWN_NAMES])
def test_a_value_is_searched_interrupted_resumed_extended_and_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = "own-net" if name.startswith("options.") else "large-all-cnn" if name == "leaky_slope" else "all-cnn-c"
    variant = "strided-cnn-c" if name == "strided_dropout" else variant
    first, second = two_values(name, kind_of(name, OwnOptions))
    vary = f"{name}={in_words(first)},{in_words(second)}"
    study = study_of(options(tmp_path, vary), variant, name)
    assert study.space_of(variant)[name].listed() == (first, second)
    store = Store(str(tmp_path / "run"))
    store.write_run(run_document(study, {"shapes": data(train_images=40, test_images=2_000, generated=True)}))

    # Interrupted after one of the two trials, and resumed from the record alone.
    train(study, store, {}, most=1)
    assert [row["state"] for row in store.trial_rows()] == ["completed"]
    resumed = recorded_run(None, options(tmp_path, resume=True))
    rows = train(resumed.study, store, resumed.trials())
    assert sorted(repr(read_params(row["params"])[name]) for row in rows) == sorted((repr(first), repr(second)))
    assert {row["state"] for row in rows} == {"completed"}

    # Extended by another dimension, over which what is recorded stays what it was.
    other = "momentum" if name != "momentum" else "weight_decay"
    before = {row["trial_id"]: row["test_error"] for row in rows}
    now = read_params(rows[0]["params"]).get(other, 0.5 if other == "momentum" else 0.001)
    extended = recorded_run(None, options(tmp_path, f"{other}={now},0.25", resume=True, extend=True))
    rows = train(extended.study, store, extended.trials())
    assert len(rows) == 4
    assert {trial_id: row["test_error"] for row in rows if (trial_id := row["trial_id"]) in before} == before

    # Other programs filter by a column of its own, and a table shows it.
    table = pq.read_table(tmp_path / "run" / "trials.parquet").to_pylist()
    assert sorted(repr(row[column_name(name)]) for row in table) == sorted(2 * [repr(first), repr(second)])
    store.write_run(run_document(extended.study, {"shapes": data(train_images=40, test_images=2_000, generated=True)}))
    (shown,) = table_rows(read_evidence(store).results, store.read_run())
    heading = label(name)
    if name == "lr":
        assert shown["learning rate"] in (f"{first:g}", f"{second:g}")
    else:
        assert shown[heading] in (in_words(first), in_words(second))
    assert analysis(["table", store.location]) == 0
    assert heading in capsys.readouterr().out


def test_every_value_is_there() -> None:
    assert len(NAMES) > 30
    assert {"lr", "dropout", "hue", "momentum_form", "initialisation", "epochs"} <= set(NAMES)
