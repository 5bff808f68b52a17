"""`python -m sweep.init`: see `sweep.cli.init`."""

from sweep.cli.app import exit_with
from sweep.cli.init import main

if __name__ == "__main__":
    exit_with(main)
