"""`python -m sweep.init [FILE]`: write a study of one's own to begin from, `my_study.py` by default.

Exit status 0 when it was written, 2 when it was not.
"""

import shlex
import sys
from importlib import resources
from pathlib import Path

USAGE = """Usage: python -m sweep.init [FILE]

Write a Python file with a network, a data set, a search space and a study of your own: my_study.py unless FILE says
otherwise. It runs as it stands, and says where to change what. A file that is there is never overwritten."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"--help", "-h"} & set(arguments):
        print(USAGE)
        return 0
    try:
        file = write(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run = f"python -m sweep.run {shlex.quote(str(file))}"
    print(f"Wrote {file}. The plan: {run} --dry-run\nThe run: {run}")
    return 0


def write(arguments: list[str]) -> Path:
    """Write the file that the command line names, and return it.

    Raises:
        ValueError: there is such a file, or none can be made there.
    """
    if len(arguments) > 1 or any(word.startswith("-") for word in arguments):
        raise ValueError(f"The command line must hold one file at most, got {shlex.join(arguments)}.")
    file = Path(arguments[0] if arguments else "my_study.py")
    if file.suffix != ".py":
        raise ValueError(f"The file must end in .py, got {str(file)!r}.")
    try:
        # Exclusively: nothing that a user wrote is lost, also where two commands run at once.
        with file.open("x", encoding="utf-8") as target:
            target.write(resources.files("sweep.study").joinpath("template.py").read_text(encoding="utf-8"))
    except FileExistsError:
        raise ValueError(f"The file must not be there yet, got {str(file)!r}; name another one.") from None
    except OSError as error:
        raise ValueError(f"The file must be where one can be written, got {str(file)!r} ({error.strerror}).") from error
    return file


if __name__ == "__main__":
    sys.exit(main())
