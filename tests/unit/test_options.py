import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from search_spaces import Choice, IntUniform, LogUniform, Space, Uniform
from search_spaces.paper import LEARNING_RATE_RANGE
from sweep.cli.help import COMMON, EXAMPLES
from sweep.cli.parse import parse
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from sweep.study.study import SETTINGS, Study
from trainables.config import HeavyConfig
from trainables.hyperparameters import PATHS


def options(*arguments: str) -> RunOptions:
    parsed = parse(arguments)
    assert parsed is not None
    return parsed[1]


def applied(*arguments: str) -> Study:
    return options(*arguments).apply(STUDIES["quickstart"]())


def test_nothing_given_changes_nothing() -> None:
    assert parse([]) == (None, RunOptions())
    assert applied() == STUDIES["quickstart"]()
    assert RunOptions().typed == ()


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
        (["--batch-size", "1.5"], "batch-size"),
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
        (["--epochs", "0"], "epochs must be a whole number at least 1 and at most 1000000, got 0."),
        (["--width", "0"], "width must be a number above 0 and at most 64, got 0.0."),
        (["--width", "nan"], "width must be a number above 0 and at most 64, got nan."),
        (["--seeds", "-1"], "seeds must be a whole number at least 0 and at most 10000 or none, got -1."),
        (["--seed", "-1"], "seed must be a whole number at least 0 and below 4294967296, got -1."),
        (["--train-size", "0"], "train_size must be a whole number at least 1 or none, got 0."),
        (["--batch-size", "0"], "batch_size must be a whole number at least 1 and at most 1000000, got 0."),
        (["--set", "dropout=1"], "dropout must be a number at least 0 and below 1, got 1.0."),
        (["--set", "head_padding=2"], "head_padding must be a whole number at least 0 and at most 1, got 2."),
        (["--learning-rates", "0"], "lr must be a number above 0, got 0.0."),
        (["--learning-rates", "-0.1"], "lr must be a number above 0, got -0.1."),
        (["--learning-rates", "0.1", "nan"], "learning_rates: each value must be finite, got nan."),
        (["--learning-rates", "inf"], "learning_rates: each value must be finite, got inf."),
        (["--learning-rates", "0.1", "0.1"], "learning_rates: the values must differ from each other, got 0.1, 0.1."),
        (["--early-stopping", "asha", "--set", "first_rung=9"], "first_rung must be at most 4, the last epoch but"),
        (["--trials-per-cell", "3"], "trials_per_cell must be left out for the grid search"),
        (["--learning-rates", "0.1..0.2"], "lr must be listed values or a range with a step for a grid, got log-uni"),
        (["--learning-rates", "0.2..0.1"], "learning_rates: low must be below high, got low 0.2 and high 0.1."),
        (["--learning-rates", "0..0.1"], "learning_rates: low must be a finite number above 0, got 0.0."),
    ],
)
def test_values_that_do_not_hold_are_refused_in_one_line(arguments: list[str], text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        applied(*arguments)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["--variants", "--datasets", "--learning-rates", "--vary", "--set"])
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


@pytest.mark.parametrize("words", [("--learning-rates", "[(%"), ("--vary", "dropout=[(%"), ("--set", "dropout=[(%")])
def test_a_number_that_begins_like_a_list_is_refused_like_others(words: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"learning-rates|dropout") as caught:
        applied(*words)
    assert "[(%" in str(caught.value)
    assert "JSON" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_options_take_the_place_of_the_studys_settings() -> None:
    study = applied(
        "--variants", "model-a", "all-cnn-a", "--learning-rates", "0.2", "0.1", "--epochs", "7", "--width", "0.5",
        "--seeds", "2", "--seed", "9", "--early-stopping", "asha", "--train-size", "64", "--set", "class_relu=yes",
        "--augmentations", "flip-shift", "--set", "initialisation=glorot", "first_rung=2", "reduction-factor=3",
    )  # fmt: skip
    assert study.variants == ("model-a", "all-cnn-a")
    assert study.space == Space(lr=Choice((0.2, 0.1)))
    assert (study.seeds, study.early_stopping, study.augmentations) == (2, "asha", ("flip-shift",))
    assert (study.first_rung, study.reduction_factor) == (2, 3)
    assert (study.base.epochs, study.base.seed, study.base.train_size) == (7, 9, 64)
    assert (study.base.architecture.width, study.base.architecture.class_relu) == (0.5, True)
    assert study.base.architecture.initialisation == "glorot"
    assert study.base.architecture.dropout == STUDIES["quickstart"]().base.architecture.dropout


def test_the_strengths_of_heavy_and_the_canvas_can_be_set() -> None:
    study = applied("--set", "canvas=64", "rotation=0", "heavy.max_scale=2", "hue=0.1", "leaky-slope=0.1")
    assert (study.base.canvas, study.base.architecture.leaky_slope) == (64, 0.1)
    assert study.base.heavy == HeavyConfig(rotation=0.0, max_scale=2.0, hue=0.1)
    values = study.settings()
    assert (values["canvas"], values["rotation"], values["translation"]) == (64, 0.0, HeavyConfig().translation)
    assert "heavy" not in values


def test_a_falsy_value_is_a_value() -> None:
    study = applied(
        "--set", "input_dropout=0", "weight_decay=0", "strided_dropout=no", "train_size=none", "--seed", "0"
    )
    assert (study.base.weight_decay, study.base.architecture.strided_dropout) == (0, False)
    assert (study.base.train_size, study.base.architecture.input_dropout) == (None, 0)


def test_another_search_takes_the_papers_range_and_as_many_trials_as_the_grid() -> None:
    study = applied("--search", "tpe")
    assert study.space == Space(lr=LEARNING_RATE_RANGE)
    assert study.trials_per_cell == 2
    assert applied("--search", "random", "--trials-per-cell", "9").trials_per_cell == 9
    assert applied("--search", "random", "--learning-rates", "0.1", "0.2").space == Space(lr=Choice((0.1, 0.2)))


def test_any_hyperparameter_is_searched_where_asked() -> None:
    study = applied("--vary", "weight_decay=0.001,0.0005", "batch_size=64,128")
    rates = STUDIES["quickstart"]().space["lr"]
    assert study.space == Space(lr=rates, weight_decay=Choice((0.001, 0.0005)), batch_size=Choice((64, 128)))
    assert study.points_of("model-c") == 8
    none = applied("--vary", "weight_decay=0,0.001", "class_relu=yes,no", "canvas=none,48")
    assert none.space["weight_decay"] == Choice((0.0, 0.001))
    assert none.space["class_relu"] == Choice((True, False))
    assert none.space["canvas"] == Choice((None, 48))
    assert Study.from_dict(json.loads(json.dumps(none.to_dict()))) == none
    ranges = applied(
        *("--search", "CmaEsSampler", "--learning-rates", "0.01..0.1"),
        *("--vary", "weight_decay=1e-4..1e-2", "dropout=0..0.5", "batch_size=16..64..16"),
    )
    assert ranges.search == "CmaEsSampler"
    assert ranges.space == Space(
        lr=LogUniform(0.01, 0.1),
        weight_decay=LogUniform(1e-4, 1e-2),
        dropout=Uniform(0.0, 0.5),
        batch_size=IntUniform(16, 64, 16),
    )


def test_a_value_that_is_set_is_searched_no_more() -> None:
    study = applied("--set", "lr=0.03")
    assert (study.space, study.base.lr, study.search_trials) == (Space(), 0.03, 4)


def test_one_variant_may_search_what_others_have_set() -> None:
    study = applied("--vary", "model-c:dropout=0.1,0.2", "--set", "dropout=0.3")
    assert (study.points_of("model-c"), study.points_of("all-cnn-c")) == (4, 2)
    assert study.base.architecture.dropout == 0.3
    assert study.spaces == {"model-c": Space(dropout=Choice((0.1, 0.2)))}


def test_what_was_typed_is_named_as_the_studys_settings_are() -> None:
    words = options("--epochs", "3", "--learning-rates", "0.1", "--vary", "dropout=0.1", "--set", "momentum=0.8").typed
    assert set(words) == {"epochs", "lr", "dropout", "momentum"}
    assert set(words) <= set(applied().settings())


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
    assert len(short) <= 30
    assert max(map(len, short)) <= 80
    # Nothing common is spelt wrong: each stands at the beginning of a line.
    assert [line.split()[0] for line in short if re.match(r"  (--|STUDY)", line)] == [
        "STUDY",
        *(f"--{name.replace('_', '-')}" for name in COMMON if name != "study"),
    ]
    assert parse(["--help-all"]) is None
    whole = capsys.readouterr().out
    missing = [f.name for f in fields(RunOptions) if f"--{f.name.replace('_', '-')}" not in whole]
    assert not missing
    assert "\nParameters:" not in whole, "an option without a topic"
    assert max(map(len, whole.splitlines())) <= 80


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


def test_every_setting_stands_under_its_options_name() -> None:
    study = STUDIES["quickstart"]()
    values = study.settings()
    assert (values["epochs"], values["width"], values["variants"]) == (5, 0.25, study.variants)
    assert (values["lr"], values["dropout"]) == (Choice((0.01, 0.005)), 0.1)
    changed = replace(study, seeds=4).settings()
    assert {key for key in values if values[key] != changed[key]} == {"seeds"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--weight-decay", "0.1"],
            "--weight-decay is no option: write --set weight_decay=VALUE, or --vary weight_decay=VALUES to search it.",
        ),
        (
            ["--batch-sizes", "8", "16"],
            "--batch-sizes is no option: write --set batch_size=VALUE, or --vary batch_size=",
        ),
        (
            ["--no-class-relu"],
            "--no-class-relu is no option: write --set class_relu=VALUE, or --vary class_relu=VALUES",
        ),
        (["--dropout=0.1"], "--dropout is no option: write --set dropout=VALUE, or "),
        (["--validation", "0.2"], "--validation is no option: write --set validation=VALUE."),
        (["--evaluate-every", "2"], "--evaluate-every is no option: write --set evaluate_every=VALUE."),
        (["--epoks", "3"], "Unknown option: --epoks. Did you mean --epochs?"),
        (["--learning-rate", "3"], "Unknown option: --learning-rate. Did you mean --learning-rates?"),
        (["--wholly-unknown"], "Unknown option: --wholly-unknown."),
    ],
)
def test_a_value_that_was_written_as_an_option_and_a_misspelt_one(words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        parse(words)


OWN = """
from dataclasses import dataclass, replace
from sweep.study.catalog import STUDIES
from trainables.architectures import register_variant

@dataclass
class Options:
    depth: int = 2
    'How many layers there are. More is more.'
    norm: str = "batch"

@register_variant("own-net", options=Options)
def own_net(options, num_classes):
    raise AssertionError

study = replace(STUDIES["quickstart"](), name="own", variants=("own-net",))
"""


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("words", [["FILE"], ["quickstart", "--plugins", "FILE"]])
def test_help_all_has_the_options_of_a_variant_of_ones_own(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    assert parse([str(file) if word == "FILE" else word for word in [*words, "--help-all"]]) is None
    end = capsys.readouterr().out.partition("Options of own-net:")[2].split()
    assert " ".join(end) == (
        "options.depth a whole number; default: 2 How many layers there are. options.norm text; default: batch"
    )


def test_help_all_beside_what_cannot_be_understood_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--epochs", "many", "--help-all"]) is None
    assert "weight_decay" in capsys.readouterr().out


def test_help_all_has_every_value_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--help-all"]) is None
    names = re.findall(r"^  ([a-z_]+)  ", capsys.readouterr().out, flags=re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == {*PATHS, *SETTINGS}
