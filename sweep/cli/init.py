"""`sweep init [FILE]`, or `python -m sweep.init`: write a study of one's own to begin from, `my_study.py` by default.

Exit status 0 when it was written, 2 when it was not.
"""

import shlex
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sweep.cli.app import new_app, run_app

app = new_app(
    name="python -m sweep.init",
    usage="Usage: python -m sweep.init [FILE]",
    help="""Write a Python file with a network, a data set, a search space and a study of your own: my_study.py unless
FILE says otherwise. It runs as it stands, and says where to change what. A file that is there is never overwritten.""",
    help_format="plaintext",
)
app["--help"].show = False


@app.default
def init(*file: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Write a study of your own to begin from, my_study.py unless a file is named."""
    path = write(file)
    run = f"python -m sweep.run {shlex.quote(str(path))}"
    print(f"Wrote {path}. The plan: {run} --dry-run\nThe run: {run}")


def write(files: Sequence[str]) -> Path:
    """Write the file that the command line names, and return it.

    Raises:
        ValueError: there is such a file, or none can be made there.
    """
    if len(files) > 1 or any(word.startswith("-") for word in files):
        raise ValueError(f"The command line must hold one file at most, got {shlex.join(files)}.")
    file = Path(files[0] if files else "my_study.py")
    if file.suffix != ".py":
        raise ValueError(f"The file must end in .py, got {str(file)!r}.")
    template = resources.files("sweep.study").joinpath("template.py").read_text(encoding="utf-8")
    try:
        # Exclusively: nothing that a user wrote is lost, also where two commands run at once.
        with file.open("x", encoding="utf-8") as target:
            target.write(template)
    except FileExistsError:
        raise ValueError(f"The file must not be there yet, got {str(file)!r}; name another one.") from None
    except OSError as error:
        raise ValueError(f"The file must be where one can be written, got {str(file)!r} ({error.strerror}).") from error
    return file


main = partial(run_app, app)
"""Run the command line, that of this process by default, and return its exit status."""
