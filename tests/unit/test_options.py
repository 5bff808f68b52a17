import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from search_spaces import Choice, LogUniform
from search_spaces.paper import LEARNING_RATE_RANGE
from sweep.cli.help import COMMON, EXAMPLES, TOPICS
from sweep.cli.parse import parse
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from sweep.study.study import Study
from trainables.config import HeavyConfig


def options(*arguments: str) -> RunOptions:
    parsed = parse(arguments)
    assert parsed is not None
    return parsed[1]


def applied(*arguments: str) -> Study:
    return options(*arguments).apply(STUDIES["quickstart"]())


def test_nothing_given_changes_nothing() -> None:
    assert parse([]) == (None, RunOptions())
    assert applied() == STUDIES["quickstart"]()
    assert RunOptions().study_options() == {}


def test_a_variable_says_where_runs_lie_and_the_option_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEP_OUTPUT", raising=False)
    assert options().output == "runs"
    monkeypatch.setenv("SWEEP_OUTPUT", "s3://bucket/my runs")
    assert options().output == "s3://bucket/my runs"
    assert options("--output", "elsewhere").output == "elsewhere"


def test_the_studys_name_and_options_are_read() -> None:
    assert parse(["cifar10", "--epochs", "3", "--name", "x", "--resume", "--dry-run"]) == (
        "cifar10",
        RunOptions(epochs=3, name="x", resume=True, dry_run=True),
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope", "1"], "nope"),
        (["--precision", "float8"], "precision"),
        (["--learning-rates", "fast"], "learning-rates"),
        (["--epochs", "1.5"], "epochs"),
        (["--epochs", "many"], "epochs"),
        (["--epochs"], "epochs"),
        (["--seeds", "2.0"], "seeds"),
        (["--batch-sizes", "64", "1.5"], "batch-sizes"),
        (["--learning-rates", "0.1..fast"], "it must be numbers, or a range LOW..HIGH, got '0.1..fast'"),
        (["--learning-rates", "0.1..0.2", "0.3"], "--learning-rates: it must be a number, got '0.1..0.2'"),
        (["--workers-per-trial", "few"], "workers-per-trial"),
        (["--width", "wide"], "width"),
        (["cifar10", "cifar100"], "cifar100"),
    ],
)
def test_arguments_that_cannot_be_understood_are_refused_in_one_line(arguments: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 10


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epochs", "0"], "epochs must be at least 1 and at most 1000000, got 0."),
        (["--width", "0"], "width must be above 0 and at most 64, got 0.0."),
        (["--width", "nan"], "width must be above 0 and at most 64, got nan."),
        (["--seeds", "-1"], "seeds must be at least 0 and at most 10000, got -1."),
        (["--seed", "-1"], "seed must be at least 0 and below 4294967296, got -1."),
        (["--train-size", "0"], "train_size must be at least 1, got 0."),
        (["--batch-size", "0"], "batch_size must be at least 1 and at most 1000000, got 0."),
        (["--dropout", "1"], "dropout must be at least 0 and below 1, got 1.0."),
        (["--head-padding", "2"], "head_padding must be 0 or 1, got 2."),
        (["--learning-rates", "0"], "learning_rates: each value must be a finite number above 0, got 0.0."),
        (["--learning-rates", "-0.1"], "learning_rates: each value must be a finite number above 0, got -0.1."),
        (["--learning-rates", "0.1", "nan"], "learning_rates: each value must be a finite number above 0, got nan."),
        (["--learning-rates", "inf"], "learning_rates: each value must be a finite number above 0, got inf."),
        (["--learning-rates", "0.1", "0.1"], "learning_rates: the values must differ from each other, got 0.1, 0.1."),
        (["--early-stopping", "asha", "--first-rung", "9"], "first_rung must be at least 1 and at most 4, got 9."),
        (["--trials-per-cell", "3"], "trials_per_cell must be left out for the grid search"),
        (["--search", "best"], "search must be one of grid, tpe, random, BruteForceSampler, "),
        (["--search", "__init__"], "search must be one of grid, tpe, random, BruteForceSampler, "),
        (["--weight-decays", "-0.1"], "weight_decays: each value must be a finite number of at least 0, got -0.1."),
        (
            ["--search", "tpe", "--weight-decays", "0..0.01"],
            "weight_decays: low must be a finite number above 0, got 0.0.",
        ),
        (["--batch-sizes", "0"], "batch_sizes: each value must be a finite number above 0, got 0."),
        (
            ["--weight-decays", "0.1..0.2"],
            "The grid search must have listed weight decays, got log-uniform [0.1, 0.2].",
        ),
        (["--learning-rates", "0.2..0.1"], "learning_rates: low must be below high, got low 0.2 and high 0.1."),
        (
            ["--batch-size", "8", "--batch-sizes", "8", "16"],
            "batch_size must be left out where batch_sizes says what is tried, got 8.",
        ),
    ],
)
def test_values_that_do_not_hold_are_refused_in_one_line(arguments: list[str], text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        applied(*arguments)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--variants", "--datasets", "--learning-rates", "--weight-decays", "--batch-sizes"])
def test_a_list_without_a_value_is_refused_in_one_line(option: str) -> None:
    with pytest.raises(ValueError, match=option[2:5]) as caught:
        applied(option)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--data", "--plugins"])
@pytest.mark.parametrize("path", ["a\ud800", "a\x00", "x" * 5000], ids=ascii)
def test_a_path_that_no_file_system_has_is_refused(option: str, path: str) -> None:
    with pytest.raises(ValueError, match=f"^{option[2:]} must be at most 4000 characters") as caught:
        applied(option, path)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("option", ["--learning-rates", "--weight-decays", "--batch-sizes"])
def test_a_number_that_begins_like_a_list_is_refused_like_others(option: str) -> None:
    with pytest.raises(ValueError, match=option[2:]) as caught:
        applied(option, "[(%")
    assert "[(%" in str(caught.value)
    assert "JSON" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_options_take_the_place_of_the_studys_settings() -> None:
    study = applied(
        "--variants", "model-a", "all-cnn-a", "--learning-rates", "0.2", "0.1", "--epochs", "7", "--width", "0.5",
        "--seeds", "2", "--seed", "9", "--early-stopping", "asha", "--train-size", "64", "--class-relu",
        "--augmentations", "flip-shift", "--initialisation", "glorot", "--first-rung", "2", "--reduction-factor", "3",
    )  # fmt: skip
    assert study.variants == ("model-a", "all-cnn-a")
    assert study.learning_rates == Choice((0.2, 0.1))
    assert (study.seeds, study.early_stopping, study.augmentations) == (2, "asha", ("flip-shift",))
    assert (study.first_rung, study.reduction_factor) == (2, 3)
    assert (study.base.epochs, study.base.seed, study.base.train_size) == (7, 9, 64)
    assert (study.base.architecture.width, study.base.architecture.class_relu) == (0.5, True)
    assert study.base.architecture.initialisation == "glorot"
    assert study.base.architecture.dropout == STUDIES["quickstart"]().base.architecture.dropout


def test_the_strengths_of_heavy_and_the_canvas_are_options() -> None:
    study = applied("--canvas", "64", "--rotation", "0", "--max-scale", "2", "--hue", "0.1", "--leaky-slope", "0.1")
    assert (study.base.canvas, study.base.architecture.leaky_slope) == (64, 0.1)
    assert study.base.heavy == HeavyConfig(rotation=0.0, max_scale=2.0, hue=0.1)
    values = RunOptions.describe(study)
    assert (values["canvas"], values["rotation"], values["translation"]) == (64, 0.0, HeavyConfig().translation)
    assert "heavy" not in values


def test_a_falsy_value_is_a_value() -> None:
    study = applied("--input-dropout", "0", "--weight-decay", "0", "--seed", "0", "--no-strided-dropout")
    assert (study.base.weight_decay, study.base.architecture.strided_dropout) == (0, False)


def test_another_search_takes_the_papers_range_and_as_many_trials_as_the_grid() -> None:
    study = applied("--search", "tpe")
    assert study.learning_rates == LEARNING_RATE_RANGE
    assert isinstance(study.learning_rates, LogUniform)
    assert study.trials_per_cell == STUDIES["quickstart"]().points_per_cell
    assert applied("--search", "random", "--trials-per-cell", "9").trials_per_cell == 9
    assert applied("--search", "random", "--learning-rates", "0.1", "0.2").learning_rates == Choice((0.1, 0.2))


def test_weight_decays_and_batch_sizes_are_searched_where_asked() -> None:
    study = applied("--weight-decays", "0.001", "0.0005", "--batch-sizes", "64", "128")
    assert (study.weight_decays, study.batch_sizes) == (Choice((0.001, 0.0005)), Choice((64, 128)))
    assert study.points_per_cell == 8
    none = applied("--weight-decays", "0", "0.001")
    assert none.weight_decays == Choice((0.0, 0.001))
    assert Study.from_dict(json.loads(json.dumps(none.to_dict()))) == none
    ranges = applied("--search", "CmaEsSampler", "--learning-rates", "0.01..0.1", "--weight-decays", "1e-4..1e-2")
    assert (ranges.search, ranges.learning_rates) == ("CmaEsSampler", LogUniform(0.01, 0.1))
    assert ranges.weight_decays == LogUniform(1e-4, 1e-2)


@pytest.mark.parametrize(("value", "workers"), [("auto", None), ("1", 1), ("4", 4)])
def test_workers_per_trial(value: str, workers: int | None) -> None:
    assert options("--workers-per-trial", value).workers_per_trial == workers


def test_relative_paths_are_made_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = applied("--data", "images", "--plugins", "mine.py")
    assert study.base.data == str(tmp_path / "images")
    assert study.base.plugins == (str(tmp_path / "mine.py"),)
    assert applied("--data", "s3://bucket/images").base.data == "s3://bucket/images"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_nothing_is_run(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse([flag]) is None
    text = capsys.readouterr().out
    assert "python -m sweep.run" in text
    for option in ("--learning-rates", "--help-all", "--resume", "--output"):
        assert option in text


def test_help_fits_a_screen_and_help_all_has_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert parse(["--help"]) is None
    short = capsys.readouterr().out.splitlines()
    assert len(short) <= 40
    assert max(map(len, short)) <= 80
    assert parse(["--help-all"]) is None
    whole = capsys.readouterr().out
    missing = [f.name for f in fields(RunOptions) if f"--{f.name.replace('_', '-')}" not in whole]
    assert not missing
    assert "\nMore:" not in whole, "an option that stands in no topic: see sweep.cli.help.TOPICS"
    assert set(COMMON) <= {name for names in TOPICS.values() for name in names}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("8760h", 31_536_000.0)])
def test_a_time_limit_has_a_unit(text: str, seconds: float) -> None:
    parsed = parse(["--time-limit", text])
    assert parsed is not None
    assert parsed[1].time_limit == seconds


@pytest.mark.parametrize("text", ["8761h", "100000000h", "999999999s", "0s", "2", "-1h", "1e3s", "inf"])
def test_a_time_limit_is_a_time_of_at_most_a_year(text: str) -> None:
    with pytest.raises(ValueError, match=f"such as 90s, 11m or 2h, and at most a year, got '{text}'"):
        parse([f"--time-limit={text}"])


def test_the_examples_of_the_help_are_understood() -> None:
    lines = [line.split("#")[0].split() for line in EXAMPLES.splitlines() if "sweep.run" in line]
    assert len(lines) >= 4
    for words in lines:
        assert parse(words[3:]) is not None


def test_every_setting_is_described_under_its_options_name() -> None:
    study = STUDIES["quickstart"]()
    values = RunOptions.describe(study)
    assert (values["epochs"], values["width"], values["variants"]) == (5, 0.25, study.variants)
    assert set(RunOptions(epochs=1, width=1.0, seeds=2, learning_rates=(0.1,)).study_options()) <= set(values)
    changed = RunOptions.describe(replace(study, seeds=4))
    assert {key for key in values if values[key] != changed[key]} == {"seeds"}
