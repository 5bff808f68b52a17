"""`python -m sweep.completion bash|zsh|fish`: prints what makes a shell complete the options of `sweep-run`."""

import sys
from typing import Literal, get_args

from sweep.cli.parse import command_line
from trainables.common.validation import shown

Shell = Literal["bash", "zsh", "fish"]

COMMAND = "sweep-run"
"""The command that is completed: a shell completes no module behind `python -m`."""


def main(arguments: list[str] | None = None) -> int:
    """Print the script and return 0, or 2 where no shell is named that is known."""
    arguments = sys.argv[1:] if arguments is None else arguments
    shells = get_args(Shell)
    if len(arguments) != 1 or arguments[0] not in shells:
        got = shown(" ".join(arguments)) if arguments else "none"
        print(f"error: One shell must be named, one of {', '.join(shells)}, got {got}.", file=sys.stderr)
        return 2
    shell: Shell = arguments[0]  # type: ignore[assignment]
    print(command_line().generate_completion(prog_name=COMMAND, shell=shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
