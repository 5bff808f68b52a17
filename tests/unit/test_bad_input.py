"""Every kind of bad input: status 2, one line, nothing written, and Ray is not started."""

from pathlib import Path

import pytest

from sweep.run import main
from tests.image_sets import class_folders, tiny_cifar10
from tests.refusals import TINY, refused

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def parquet_data(tmp_path: Path) -> Path:
    """Return a folder with a CIFAR-10 of 20 training and 10 test images."""
    return tiny_cifar10(tmp_path / "data")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nope"], "study must be one of quickstart, cifar10, "),
        (["quickstart", "--variants", "nope"], "variant must be one of model-a, "),
        (["quickstart", "--datasets", "nope"], "dataset must be one of cifar10, "),
        (["quickstart", "--nope", "1"], "nope"),
        (["quickstart", "--precision", "float8"], "float8"),
        (["quickstart", "--search", "best"], "search must be one of grid, tpe, random, BruteForceSampler, "),
        (
            ["quickstart", "--search", "BruteForceSampler"],
            "search must be a sampler that takes this space, got 'BruteForceSampler' (",
        ),
        (
            ["quickstart", "--search", "CmaEsSampler", "--learning-rates", "0.1"],
            "CmaEsSampler must have a range LOW..HIGH to search",
        ),
        (
            ["quickstart", "--search", "tpe", "--warm-start", "missing"],
            "warm_start: A run's folder must exist and hold ",
        ),
        (["quickstart", "--learning-rates", "0"], "lr must be a number above 0, got 0.0"),
        (["quickstart", "--learning-rates", "-0.1"], "lr must be a number above 0, got -0.1"),
        (["quickstart", "--learning-rates", "nan"], "learning_rates: each value must be finite, got nan"),
        (["quickstart", "--learning-rates", "fast"], "fast"),
        (["quickstart", "--epochs", "0"], "epochs must be a whole number at least 1 and at most 1000000, got 0"),
        (["quickstart", "--epochs", "1.5"], "1.5"),
        (["quickstart", "--width", "0.001"], "width must leave every layer at least one channel, got 0.001"),
        (["quickstart", "--name", "a/b"], "name must be at most 100 letters, "),
        (["quickstart", "--name", ".."], "name must be at most 100 letters, "),
        (["quickstart", "--name", ""], "name must be "),
        (["quickstart", "--plugins"], "plugins must name at least one Python file, got none."),
        (["quickstart", "--plugins", "missing.py"], "plugins must be existing Python files, got 'missing.py'"),
        (["cifar10", "--data", "missing"], "The data location must be an existing folder or a URI, got "),
        (["quickstart", "--learning-rates", "none"], "it must be a number, got 'none'"),
        (["quickstart", "--width", "none"], "it must be a number, got 'none'"),
        (["quickstart", "--width", "1e9"], "width must be a number above 0 and at most 64, got 1000000000.0"),
        (["quickstart", "--train-size", "100000000"], "train_size must be at most 1000000 for shapes, got 100000000"),
        (
            ["quickstart", "--seed", "4294967296"],
            "seed must be a whole number at least 0 and below 4294967296, got 4294967296",
        ),
        (
            ["quickstart", "--train-size", "12"],
            "validation must leave each class an image to train on and one to hold out",
        ),
        (["quickstart", "--set", "validation=0.7"], "validation must be a number above 0 and at most 0.5, got 0.7."),
        (
            ["quickstart", "--set", "confirm_top=0"],
            "confirm_top must be a whole number at least 1 and at most 10000, got 0.",
        ),
        (
            ["quickstart", "--seed", "4294967295", "--seeds", "2"],
            "seed must leave all seeds below 4294967296, got 4294967295 as the first",
        ),
        (["quickstart", "--set", "warmup_epochs=6"], "warmup_epochs must be at most epochs, 5, got 6.0"),
        (
            ["quickstart", "--augmentations", "none", "none"],
            "augmentations must differ from each other, got none, none",
        ),
        (
            ["quickstart", "--augmentations", "flip"],
            "each item one of none, flip-shift, crop-flip, heavy, got 'flip'",
        ),
        (["quickstart", "--set", "canvas=20"], "canvas must be at least 32, the side of the images in px, got 20."),
        (
            ["quickstart", "--set", "canvas=0"],
            "canvas must be a whole number at least 1 and at most 4096 or none, got 0.",
        ),
        (["quickstart", "--epochs", "none"], "it must be a whole number, got 'none'"),
        (
            ["quickstart", "--variants", "large-all-cnn"],
            "canvas must make images that large-all-cnn can take, got None",
        ),
        (["cifar10", "--augmentations", "heavy"], "preprocessing must be standardise for the augmentation heavy"),
        (["cifar10-large", "--set", "max_scale=0.5"], "max_scale must be at least min_scale, 0.7, got 0.5"),
        (["quickstart", "--workers-per-trial", "AUTO"], "it must be auto or a whole number, got 'AUTO'"),
        (["quickstart", "once", "more"], "must hold one STUDY and then options, got 'once' 'more' besides"),
        (["cifar10", "--data", ""], "data must be a folder or a URI, got ''"),
        (["cifar10", "--data", "s3://key:secret@bucket/x"], "The data location must hold no password"),
        (
            ["quickstart", "--address", "ray://127.0.0.1:1"],
            "address must be HOST:PORT of a Ray cluster's head, auto or local, got",
        ),
        (
            ["quickstart", "--address", "127.0.0.1:-1"],
            "address must be HOST:PORT of a Ray cluster's head, auto or local, got",
        ),
        (["quickstart", "--resume"], "name must say which run to resume, got none; add --name NAME."),
        (
            ["quickstart", "--extend", "--name", "x"],
            "extend must be given with --resume --name NAME, the run that it adds to, got it alone.",
        ),
        (
            ["quickstart", "--retry-failed", "--name", "x"],
            "retry_failed must be given with --resume --name NAME, the run whose trials failed, got it alone.",
        ),
        (["quickstart", "--resume", "--name", "missing"], "A run's folder must exist and hold study.json, got "),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in refused(tmp_path, capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--workers-per-trial", "9999"], "got 9999, which needs 9999"),
        (["--workers-per-trial", "0"], "workers_per_trial must be auto, or at least 1 and at most 10000, got 0"),
        (["--gpus-per-trial", "99"], "gpus_per_trial must be at most "),
        (["--gpus-per-trial", "nan"], "gpus_per_trial must be at least 0, got nan"),
        (["--max-concurrent", "0"], "max_concurrent must be at least 1, got 0"),
    ],
)
def test_what_this_machine_has_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert text in refused(tmp_path, capsys, "quickstart", *TINY, *arguments)


def test_more_images_than_there_are_are_refused(
    tmp_path: Path, parquet_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(tmp_path, capsys, "cifar10", "--data", str(parquet_data), "--train-size", "21")
    assert said == "error: train_size must be at most the 20 training images that cifar10 holds here, got 21.\n"


def test_the_last_image_may_be_asked_for(
    tmp_path: Path, parquet_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--train-size", "20", "--dry-run", "--gpus-per-trial", "0", "--output", str(tmp_path / "runs")]
    assert main(["cifar10", "--data", str(parquet_data), *options]) == 0
    assert "cifar10 20 + 10" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_the_data_location_may_come_from_the_environment(
    tmp_path: Path, parquet_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_DATA", str(parquet_data))
    assert main(["cifar10", "--dry-run", "--gpus-per-trial", "0", "--output", str(tmp_path / "runs")]) == 0
    assert "cifar10 20 + 10" in capsys.readouterr().out
    # What is given counts before it.
    assert "an existing folder" in refused(tmp_path, capsys, "cifar10", "--data", str(tmp_path / "missing"))


def test_an_empty_data_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    said = refused(tmp_path, capsys, "cifar10", "--data", str(tmp_path / "empty"))
    assert "must hold cifar10/train-*.parquet" in said


def test_a_folder_that_holds_another_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "study.json").write_text("{}")
    said = refused(tmp_path, capsys, "quickstart", *TINY, "--name", "mine")
    assert "name must be that of a new run, got 'mine', which is there already" in said
    assert f"--resume --output {tmp_path}/runs --name mine" in said
    assert (tmp_path / "runs" / "mine" / "study.json").read_text() == "{}"


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("")
    said = refused(tmp_path, capsys, "quickstart", *TINY, "--name", "mine")
    assert "got 'mine', whose folder" in said
    assert "--resume" not in said


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("text")
    for output, name in ((tmp_path / "file", "x"), (tmp_path / "file" / "deeper", "x"), (tmp_path, "file")):
        assert main(["quickstart", *TINY, "--dry-run", "--output", str(output), "--name", name]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: output and name must lead to a folder, got ")
        assert said.endswith("file is a file.\n")
        assert said.count("\n") == 1


@pytest.mark.parametrize("output", ["", "s3://", "foo://x"])
def test_an_output_that_is_no_place_is_refused(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", *TINY, "--dry-run", "--output", output]) == 2
    said = capsys.readouterr().err
    assert " or a URI" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "from trainables.architectures import register_variant\nregister_variant('all-cnn-c')",
            "ValueError: The name of a variant must be free, got 'all-cnn-c'",
        ),
    ],
)
def test_a_plugin_that_cannot_be_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(text)
    said = refused(tmp_path, capsys, "quickstart", *TINY, "--plugins", str(plugin))
    assert f"plugins must be Python files that run, got {str(plugin)!r}, which ended in {reason}" in said


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return 3", "The study mine must return a Study of that name, got 3."),
        (
            "return STUDIES['quickstart']()",
            "The study mine must return a Study of that name, got one named 'quickstart'.",
        ),
        ("return {}['x']", "The study mine must be a function that returns a Study, got KeyError: 'x'."),
    ],
)
def test_a_study_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, reason: str
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        f"from sweep.study.catalog import STUDIES, register_study\n@register_study('mine')\ndef mine():\n    {body}\n"
    )
    assert reason in refused(tmp_path, capsys, "mine", "--plugins", str(plugin))


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ArithmeticError('mine')", "The variant net must build a network, got ArithmeticError: mine."),
        ("return None", "The variant net must build a network, got AttributeError: "),
        ("return __import__('torch').nn.Flatten()", "The variant net must have parameters to train, got none."),
    ],
)
def test_a_builder_that_builds_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, reason: str
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from trainables.architectures import register_variant\n"
        f"@register_variant('net')\ndef net(options, num_classes):\n    {body}\n"
    )
    said = refused(tmp_path, capsys, "quickstart", *TINY, "--plugins", str(plugin), "--variants", "net")
    assert reason in said


def test_a_cache_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    said = refused(tmp_path, capsys, "quickstart", *TINY, "--seed", "77")
    assert "The cache of decoded images must be a folder that can be written to, got" in said
    assert "set SWEEP_CACHE to another" in said


def test_the_folder_of_one_data_set_is_refused_with_a_hint(
    tmp_path: Path, parquet_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(tmp_path, capsys, "cifar10", "--data", str(parquet_data / "cifar10"))
    assert "which holds neither; give the folder above it, of which this is cifar10." in said
    (parquet_data / "other").mkdir()
    (parquet_data / "other" / "cifar10").write_text("")
    assert "must hold " in refused(tmp_path, capsys, "cifar10", "--data", str(parquet_data / "other"))


def test_the_same_option_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--epochs" in refused(tmp_path, capsys, "quickstart", "--epochs", "1", "--epochs", "2")


def test_no_study_named_says_which_runs_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--dry-run", *TINY, "--data", str(tmp_path / "missing"), "--output", str(tmp_path / "runs")])
    said = capsys.readouterr()
    if "running quickstart" in said.out:
        assert status == 0
        assert "No study was named: running quickstart, since this machine has no GPU." in said.out
    else:
        assert status == 2
        assert "No study was named: running cifar10, since this machine has" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "imagenet must come from --data PATH or the variable SWEEP_DATA, got neither; PATH is a folder ",
        ),
        (
            ["--augmentations", "flip-shift"],
            "augmentation must be one of none, crop-flip for imagenet, got 'flip-shift'.",
        ),
        (
            ["--set", "preprocessing=gcn-zca"],
            "preprocessing must be standardise for imagenet, which is streamed, got 'gcn-zca'.",
        ),
        (["--iterations", "100"], "iterations must be a multiple of epochs, 45, got 100."),
        (["--iterations", "0"], "iterations must be a whole number at least 1 or none, got 0."),
    ],
)
def test_a_streamed_study(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(tmp_path, capsys, "imagenet", *arguments).startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--augmentations", "crop-flip"],
            "augmentation must be one of none, flip-shift, heavy for shapes, got 'crop-flip'.",
        ),
        (["--iterations", "20"], "iterations must be left out for shapes, which is not streamed, got 20."),
    ],
)
def test_settings_of_streams_elsewhere(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(tmp_path, capsys, "quickstart", *arguments) == f"error: {message}\n"


def test_a_streamed_batch_that_the_workers_cannot_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = class_folders(tmp_path / "images", train=10, val=10)
    options = ["--data", str(folder), "--width", "0.05", "--batch-size", "7", "--workers-per-trial", "2"]
    message = "batch_size must be a multiple of the 2 workers of a trial, got 7."
    assert refused(tmp_path, capsys, "imagenet", *options, "--gpus-per-trial", "0") == f"error: {message}\n"


def test_an_empty_variable_for_output_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_OUTPUT", "")
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", *TINY]) == 2
    assert capsys.readouterr().err == "error: output must be a folder or a URI, got ''.\n"
    assert list(tmp_path.iterdir()) == []
