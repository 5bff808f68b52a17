"""`python -m sweep.run`: see `sweep.cli.run`."""

import sys

from sweep.cli.run import command, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(command())
