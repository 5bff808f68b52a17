"""Studies in files of a user's own: each way to name one, and a sentence for each mistake."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.cli.init import main as init
from sweep.run import main
from sweep.study.file import StudyFile
from trainables.options import OPTIONS

pytestmark = pytest.mark.usefixtures("registries")
ROOT = Path(__file__).resolve().parents[2]
HEAD = """
from dataclasses import replace
import numpy as np
import torch
from torch import nn
from search_spaces import Choice, Space
from sweep.study.catalog import STUDIES, register_study
from sweep.study.study import Study
from trainables.architectures import register_variant
from trainables.data.custom import register_arrays, register_parquet
SHIPPED = STUDIES["quickstart"]()
_base = replace(SHIPPED, name="mine", variants=("model-c",))
del SHIPPED
"""


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("Ray must not start before bad input is refused.")

    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("SWEEP_DATA", raising=False)


def written(folder: Path, body: str) -> str:
    file = folder / "own_study.py"
    file.write_text(HEAD + body)
    return str(file)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("body", "name", "study"),
    [
        ("study = replace(_base, name='a')", "", "a"),
        ("study = replace(_base, name='a')", ":study", "a"),
        ("def study(): return replace(_base, name='a')", ":study", "a"),
        ("def study() -> Study: return replace(_base, name='a')", "", "a"),
        ("@register_study('a')\ndef study(): return replace(_base, name='a')", "", "a"),
        ("@register_study('a')\ndef study(): return replace(_base, name='a')", ":a", "a"),
        ("@register_study('a')\ndef study(): return replace(_base, name='a')", ":study", "a"),
        ("one = replace(_base, name='a')\ntwo = replace(_base, name='b')", ":two", "b"),
    ],
)
def test_a_study_is_found_and_takes_its_file_along(tmp_path: Path, body: str, name: str, study: str) -> None:
    path = written(tmp_path, body)
    file = StudyFile.named_by(path + name)
    assert file is not None
    found = file.read()
    assert found.name == study
    assert found.base.plugins == (path,)


def test_what_is_no_file_is_none() -> None:
    assert [StudyFile.named_by(word) for word in (None, "cifar10", "cifar10:study", "")] == [None] * 4


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        ("def broken(:", "", "A study's file must be Python that runs, got "),
        ("def broken(:", "", ", at own_study.py:14."),
        ("study = Studdy()", "", "NameError: name 'Studdy' is not defined, at own_study.py:14."),
        ("import nowhere_to_be_found", "", "ModuleNotFoundError: No module named 'nowhere_to_be_found', at own_study"),
        (
            "study = replace(_base, epoch=3)",
            "",
            "Study: epoch must be left out, there is no such field, at own_study.py:14.",
        ),
        ("x = 1", "", "must hold one study where none is named, got none."),
        ("one = _base\ntwo = replace(_base, name='b')", "", "got one, two; add one's name, such as "),
        ("study = _base", ":other", "must hold the study other, got these: study."),
        ("study = _base", ":", "must have the study's name after its colon"),
        ("study = 3", ":study", ":study must be a Study or a function that returns one, got 3."),
        ("def study(): return 3", ":study", ":study must be a Study or a function that returns one, got 3."),
        ("def study(): pass", ":study", ":study must be a Study or a function that returns one, got None."),
        ("def study(): return {}['x']", ":study", ":study must be a function that returns a Study, got KeyError: 'x'."),
        ("def study(a): pass", ":study", "must be a function that returns a Study, got TypeError: "),
        ("study = replace(_base, name='quickstart')", "", "must have a name of its own, got 'quickstart'"),
        ("study = replace(_base, name='../up')", "", "The name of a study must be lower-case letters, digits and"),
        ("study = replace(_base, name=None)", "", "name must be text, got None, at own_study.py:14."),
        ("study = replace(_base, variants=('nett',))", "", "variant must be one of model-a, "),
        ("study = replace(_base, datasets=('photos',))", "", "dataset must be one of cifar10, "),
        (
            "study = replace(_base, variants='model-c')",
            "",
            "variants must be a tuple, each item text, got 'model-c', at",
        ),
        ("study = replace(_base, space={'lr': (0.1,)})", "", "space must be a Space, got {'lr': (0.1,)}, at"),
        (
            "study = replace(_base, space=Space(lr=(0.1,)))",
            "",
            "lr must be a Choice, Uniform, LogUniform or IntUniform,",
        ),
        (
            "study = replace(_base, space=Space(rl=Choice((0.1,))))",
            "",
            "There is no hyperparameter 'rl', at own_study.py:14.",
        ),
        ("study = replace(_base, space=Space(lr=Choice((0.1, 'x'))))", "", "lr must be a number above 0, got 'x', at"),
        ("study = replace(_base, base=None)", "", "base must be a TrialConfig, got None"),
    ],
)
def test_a_mistake_in_a_studys_file_gets_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, name: str, said: str
) -> None:
    path = written(tmp_path, body)
    assert said in refused(capsys, path + name, "--dry-run", "--output", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (
            "return self.layer(images.mean((2, 3)))[:, :5]",
            "of shape (N, 10), one for each class of shapes, got shape (2, 5)",
        ),
        ("return [self.layer(images.mean((2, 3)))]", "one for each class of shapes, got list from 2 images."),
        ("return self.layer(images)", "must make images that own-net can take"),
    ],
)
def test_a_network_that_gives_no_logits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], forward: str, said: str
) -> None:
    body = f"""
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(3, classes)
    def forward(self, images):
        {forward}
@register_variant("own-net")
def own_net(options, num_classes):
    return Net(num_classes)
study = replace(_base, variants=("own-net",))
"""
    assert said in refused(capsys, written(tmp_path, body), "--dry-run", "--output", str(tmp_path / "runs"))


GOOD = "np.zeros((8, 3, 32, 32), np.uint8), np.arange(8) % 2"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("3", "must return (training images, training labels), (test images, test labels), got int."),
        ("1 / 0", "must be made by its function, got ZeroDivisionError: division by zero."),
        (f"({GOOD}), ([1], [0])", "must have numpy arrays as test images and labels, got list and list."),
        (
            f"(np.zeros((8, 3, 28, 28), np.uint8), np.arange(8) % 2), ({GOOD})",
            "The data set photos: The train images must be uint8 of shape (N, 3, 32, 32) with N at least 1, got",
        ),
        (f"(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2), ({GOOD})", "use images.transpose(0, 3, 1, 2)."),
        (f"(np.zeros((8, 3, 32, 32)), np.arange(8) % 2), ({GOOD})", "got float64 of shape (8, 3, 32, 32)."),
        (f"({GOOD}), (np.zeros((8, 3, 32, 32), np.uint8), np.ones(8))", "whole numbers as test labels, got float64."),
        (f"({GOOD}), (np.zeros((8, 3, 32, 32), np.uint8), np.full(8, 2))", "must be from 0 to 1, got 2 at row 0."),
        (f"({GOOD}), (np.zeros((8, 3, 32, 32), np.uint8), np.arange(7) % 2)", "one for each of the 8 images"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: str, said: str
) -> None:
    body = f"""
@register_arrays("photos", num_classes=2)
def photos():
    return {made}
study = replace(_base, datasets=("photos",), base=replace(_base.base, train_size=None))
"""
    assert said in refused(capsys, written(tmp_path, body), "--dry-run", "--output", str(tmp_path / "runs"))


def test_a_parquet_folder_that_is_not_there_or_empty_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = 'register_parquet("photos", num_classes=2)\nstudy = replace(_base, datasets=("photos",))'
    path = written(tmp_path, body)
    arguments = (path, "--dry-run", "--output", str(tmp_path / "runs"))
    assert "must be read from somewhere, got no folder; add --data FOLDER." in refused(capsys, *arguments)
    assert "must be an existing folder or a URI" in refused(capsys, *arguments, "--data", str(tmp_path / "none"))
    assert "must have files train-*.parquet in " in refused(capsys, *arguments, "--data", str(tmp_path))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nothere.py:study", "A study's file must exist, got 'nothere.py'; python -m sweep.init nothere.py writes one"),
        ("nothere", "study must be one of quickstart, cifar10, "),
        ("nothere:study", "one of your own is named by its file, such as my_study.py."),
    ],
)
def test_a_file_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], word: str, said: str) -> None:
    assert said in refused(capsys, word)


def test_a_file_that_was_mended_can_be_run_again(tmp_path: Path) -> None:
    body = "@register_variant('own-net'{options})\ndef own_net(options, num_classes): pass\n"
    own = "from dataclasses import make_dataclass\nOwn = make_dataclass('Own', [])\n"
    broken = StudyFile(written(tmp_path, own + body.format(options=", options=Own") + "x = nope"), None)
    with pytest.raises(ValueError, match="NameError"):
        broken.read()
    assert StudyFile(written(tmp_path, body.format(options="") + "study = _base"), None).read().name == "mine"
    # Its builder, which has no options of its own now, gets the paper's networks'.
    assert OPTIONS.get("own-net") is None


def test_init_writes_a_study_that_plans_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init([]) == 0
    assert "python -m sweep.run my_study.py --dry-run" in capsys.readouterr().out
    assert main(["my_study.py:study", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "my-net" in shown
    assert "my-stripes" in shown
    text = (tmp_path / "my_study.py").read_text()
    assert init([]) == 2
    assert capsys.readouterr().err == ("error: The file must not be there yet, got 'my_study.py'; name another one.\n")
    assert (tmp_path / "my_study.py").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.py", "b.py"], "The command line must hold one file at most, got a.py b.py."),
        (["--force"], "The command line must hold one file at most, got --force."),
        (["notes.txt"], "The file must end in .py, got 'notes.txt'."),
        (["no/folder/here.py"], "The file must be where one can be written, got 'no/folder/here.py' (No such file or"),
    ],
)
def test_init_refuses_what_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_and_slips_load_neither_torch_nor_ray() -> None:
    code = (
        "import sys\nfrom sweep.run import main\n"
        "assert main(['--help']) == 0\nassert main(['nope.py']) == 2\n"
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
