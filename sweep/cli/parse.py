"""The arguments of `sweep run`: a study's name and `RunOptions`."""

from collections.abc import Sequence
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from sweep.cli.app import misunderstood, new_app
from sweep.cli.help import HELP, HELP_ALL, Formatter
from sweep.study.options import RunOptions


def parse(arguments: Sequence[str]) -> tuple[str | None, RunOptions] | None:
    """Return the study's name and the options, or None where help was asked for and printed.

    Raises:
        ValueError: the arguments cannot be understood.
    """
    app = new_app(
        name="python -m sweep.run",
        usage="Usage: python -m sweep.run [STUDY] [OPTIONS]",
        help=_HELP,
        help_format="plaintext",
        help_flags=(*HELP, HELP_ALL),
        help_formatter=Formatter(everything=HELP_ALL in arguments),
    )
    app["--help"].group = "Parameters"
    app.default(collect)
    try:
        result = app(list(arguments), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise ValueError(misunderstood(error)) from error
    return result  # type: ignore[no-any-return]


def collect(
    study: Annotated[str | None, Parameter(group="Parameters")] = None,
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


_HELP = """Train every architecture variant of a study at every learning rate, keep the record, print the table.

An option left out is as the study says; --dry-run shows what that is. The variables SWEEP_DATA, SWEEP_OUTPUT,
SWEEP_CACHE (folder for decoded images) and RAY_ADDRESS are read. Exit status: 0 when every planned trial ended in a
known state, 1 when some failed, 2 for bad input, 75 when time ran out, 130 after Ctrl-C."""
