"""The arguments of `sweep run`: a study's name and `RunOptions`."""

from collections.abc import Sequence
from typing import Annotated

import cyclopts

from sweep.cli.app import misunderstood, new_app
from sweep.cli.help import HELP, HELP_ALL, Formatter, print_end
from sweep.study.options import RUN, RunOptions
from sweep.study.study import SETTINGS
from trainables.hyperparameters import NOT_SEARCHED, PATHS


def parse(arguments: Sequence[str]) -> tuple[str | None, RunOptions] | None:
    """Return the study's name and the options, or None where help was asked for and printed.

    Raises:
        ValueError: the arguments cannot be understood.
    """
    everything = HELP_ALL in arguments
    if everything:
        _load_variants([word for word in arguments if word not in (*HELP, HELP_ALL)])
    try:
        result = command_line(everything=everything)(list(arguments), exit_on_error=False, print_error=False)
    except cyclopts.UnknownOptionError as error:
        raise ValueError(_as_value(error) or misunderstood(error)) from error
    except cyclopts.CycloptsError as error:
        raise ValueError(misunderstood(error)) from error
    if result is None:
        print_end(everything=everything)
    return result  # type: ignore[no-any-return]


def _load_variants(arguments: Sequence[str]) -> None:
    """Run the study's file and the plugins that a command line names: their variants may have options of their own.

    Raises:
        ValueError: a file cannot be run.
    """
    from sweep.study.file import StudyFile
    from trainables.common.registry import load_plugins

    try:
        study, options = command_line()(list(arguments), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError:
        return  # who asks for help may not know yet what to write
    load_plugins(options.plugins or ())
    file = StudyFile.named_by(study)
    if file is not None:
        file.read()


def _as_value(error: cyclopts.UnknownOptionError) -> str | None:
    """Return how to give the value that was written as an option; None where there is no such value."""
    option = (error.token.keyword or error.token.value).partition("=")[0]
    name = option.removeprefix("--").removeprefix("no-").replace("-", "_")
    for value in (name, name.removesuffix("s")):
        if value in PATHS and value not in NOT_SEARCHED:
            return f"{option} is no option: write --set {value}=VALUE, or --vary {value}=VALUES to search it."
        if value in (*PATHS, *SETTINGS):
            return f"{option} is no option: write --set {value}=VALUE."
    return None


def collect(
    study: Annotated[str | None, RUN] = None,
    /,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
) -> tuple[str | None, RunOptions]:
    """Run a study.

    Args:
        study: A study's name, or a file of your own such as my_study.py; the names: quickstart, cifar10,
            cifar10-augmented, cifar10-large, cifar100, imagenet, pooling, recipe; the file may be followed by
            :NAME; default: cifar10 where there is a GPU, else quickstart.
        options: what differs from the study.
    """
    return study, options


def command_line(*, everything: bool = False) -> cyclopts.App:
    """Return what reads the arguments of `python -m sweep.run`, with a help by topic where it is to tell everything."""
    app = new_app(
        name="python -m sweep.run",
        usage="Usage: python -m sweep.run [STUDY] [OPTIONS]",
        help=_HELP,
        help_format="plaintext",
        help_flags=(*HELP, HELP_ALL),
        help_formatter=Formatter(everything=everything),
    )
    app["--help"].show = False
    app.default(collect)
    return app


_HELP = """Tune every network of a study, and print the table of their errors.

An option left out is as the study says; --dry-run shows what that is. The variables SWEEP_DATA, SWEEP_OUTPUT,
SWEEP_CACHE (folder for decoded images) and RAY_ADDRESS are read. Exit status: 0 when every planned trial ended in a
known state, 1 when some failed, 2 for bad input, 75 when time ran out, 130 after Ctrl-C."""
