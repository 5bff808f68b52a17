"""What --vary and --set do not take: status 2, one line, nothing written, and Ray is not started."""

from pathlib import Path

import pytest

from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.mark.parametrize(
    ("vary", "text"),
    [
        (["momentun=0.8,0.9"], "There is no hyperparameter 'momentun'; did you mean momentum or momentum_form?"),
        (["learningrate=0.1"], "There is no hyperparameter 'learningrate'"),
        (["dropout=0.5,1"], "dropout must be a number at least 0 and below 1, got 1.0."),
        (["dropout=0..1..0.5"], "dropout must be a number at least 0 and below 1, got 1.0."),
        (["batch_size=0,8"], "batch_size must be a whole number at least 1 and at most 1000000, got 0."),
        (["dropout=0..0.5"], "dropout must be listed values or a range with a step for a grid, got uniform [0, 0.5]."),
        (["weight_decay=0.1..1"], "weight_decay must be listed values or a range with a step for a grid, got log-uni"),
        (["dropout=0.1,0.2", "dropout=0.3"], "vary must name each hyperparameter once, got dropout twice."),
        (["dropout=0.1", "architecture.dropout=0.3"], "vary must name each hyperparameter once, got dropout twice."),
        (["lr=0.1", "learning_rate=0.2"], "vary must name each hyperparameter once, got lr twice."),
        (["model-c:dropout=0.1", "model-c:dropout=0.2"], "vary must name each hyperparameter once, got dropout twice."),
        (
            ["class_relu=yes", "dropout=0.1,0.2 if class_relu=no"],
            "dropout must depend on a value that class_relu can have, {true}, got false.",
        ),
        (
            ["dropout=0.1,0.2 if class_relu=no", "class_relu=yes,no"],
            "dropout must depend on a dimension that stands before it, lr, got class_relu.",
        ),
        (["dropout=0.1,0.2 if nope=1"], "There is no hyperparameter 'nope'"),
        (["dropout=0.1,0.2 if dropout=0.1"], "dropout must depend on a dimension that stands before it, lr, got drop"),
        (["dropout=0.1 if class_relu=maybe"], "class_relu must be true or false, got 'maybe'."),
        (["large-all-cnn:lr=0.1"], "vary must name a variant that is compared, model-c, strided-cnn-c, convpool-cnn-c"),
        (["options.depth=1,2"], "options.depth must be an option of a variant, got it for model-c, "),
        (["momentum=fast"], "momentum must be a number at least 0 and below 1, got 'fast'."),
        (["batch_size=8.5"], "batch_size must be a whole number at least 1 and at most 1000000, got '8.5'."),
        (["initialisation=he,nope"], "initialisation must be one of he, xavier-caffe, glorot, normal, pytorch, got 'n"),
        (["initialisation=he..glorot"], "initialisation must be listed values, since it is no number, got 'he..glo"),
        (["momentum="], "momentum must be a number at least 0 and below 1, got ''."),
        (["momentum=0.8,"], "momentum must be a number at least 0 and below 1, got ''."),
        (["momentum"], "vary must be written as NAME=VALUE,VALUE,... or NAME=LOW..HIGH, such as lr=0.1,0.05 or"),
        ([], "vary must be followed by NAME=..., got nothing."),
        (["dropout=0.1,0.1"], "dropout: the values must differ from each other, got 0.1, 0.1."),
        (["dropout=0.1,nan"], "dropout: each value must be finite, got nan."),
        (["dropout=0.5..0.1..0.1"], "dropout: low must be below high, got low 0.5 and high 0.1."),
        (["dropout=0.1..0.1..0.1"], "dropout: low must be below high, got low 0.1 and high 0.1."),
        (["dropout=0..0.5..2"], "dropout: step must be above 0 and at most high - low, got 2.0."),
        (["weight_decay=0..0.01"], "weight_decay: low must be a finite number above 0, got 0.0."),
        (["dropout=log:0..0.1"], "dropout: low must be a finite number above 0, got 0.0."),
        (["lr=log:0.1..0.2..0.1"], "lr must have no step in a logarithmic range, got 'log:0.1..0.2..0.1'."),
        (["batch_size=log:16..64"], "batch_size must have a linear range, since it is a whole number, got 'log:16"),
        (["seed=1,2"], "seed must not be searched, got {1, 2}; give it with --set seed=VALUE."),
        (["validation=0.1,0.2"], "validation must not be searched, got 'validation=0.1,0.2'; give it with --set valid"),
        (["variant=a,b"], "variant must be given by --variants, got it as a hyperparameter."),
        (["warmup_epochs=1,6"], "warmup_epochs must be at most epochs, 5, got 6.0."),
    ],
)
def test_what_vary_does_not_take(
    vary: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(tmp_path, capsys, "quickstart", "--vary", *vary)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["momentun=0.8"], "There is no hyperparameter 'momentun'; did you mean momentum or momentum_form?"),
        (["confirm_tob=2"], "There is no hyperparameter 'confirm_tob'; did you mean confirm_top?"),
        (["dropout=0.1", "architecture.dropout=0.2"], "set must give each setting once, got dropout twice."),
        (["confirm_top=1", "confirm-top=2"], "set must give each setting once, got confirm_top twice."),
        (["epochs=4", "--epochs", "3"], "set must give each setting once, got epochs twice."),
        (["lr=0.1", "--vary", "learning_rate=0.1,0.2"], "lr must be either searched or set, got both."),
        (["dropout=0.1", "--vary", "dropout=0.1,0.2"], "dropout must be either searched or set, got both."),
        (["lr=0.1", "--learning-rates", "0.2"], "lr must be either searched or set, got both."),
        (["options.depth=3"], "options.depth must be an option of a variant, got it for model-c, "),
        (["momentum"], "set must be written as NAME=VALUE, such as momentum=0.8, got 'momentum'."),
        (["momentum="], "momentum must be a number at least 0 and below 1, got ''."),
        (["=1"], "There is no hyperparameter ''."),
        ([], "set must be followed by NAME=..., got nothing."),
        (["class_relu=maybe"], "class_relu must be true or false, got 'maybe'."),
        (["data=x"], "data must be given by --data, got it as a hyperparameter."),
        (["first_rung=2"], "first_rung must be left out where no trial is stopped early, got 2; add --early-stopping"),
    ],
)
def test_what_set_does_not_take(
    given: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refused(tmp_path, capsys, "quickstart", "--set", *given)


OPTIONS_OF_ONES_OWN = """
from dataclasses import dataclass, replace
from torch import nn
from sweep.study.catalog import STUDIES
from trainables.architectures import register_variant

@dataclass
class Options:
    depth: int = 2

@register_variant("own-net", options=Options)
def own_net(options, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, num_classes))

study = replace(STUDIES["quickstart"](), name="own", variants=("own-net", "model-c"))
"""


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--vary", "depth=1,2"], "options.depth must be an option of every variant that searches it, got model-c"),
        (["--vary", "depth=1,2"], "by --vary own-net:options.depth=VALUES."),
        (["--vary", "model-c:options.depth=1,2"], "options.depth must be an option of a variant, got it for model-c"),
        (["--vary", "own-net:deph=1,2"], "There is no hyperparameter 'deph'; did you mean options.depth"),
        (["--vary", "own-net:depth=1,x"], "options.depth must be a whole number, got 'x'."),
        (["--search", "tpe", "--vary", "own-net:depth=log:1..9"], "options.depth must have a linear range, since it"),
        (["--set", "depth=x"], "options.depth must be a whole number, got 'x'."),
    ],
)
def test_options_of_a_variant_of_ones_own(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own_study.py"
    file.write_text(OPTIONS_OF_ONES_OWN)
    assert text in refused(tmp_path, capsys, str(file), *arguments)
