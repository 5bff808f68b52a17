"""`python -m sweep.pack`: see `sweep.record.pack`."""

from sweep.cli.app import exit_with
from sweep.record.pack import main

if __name__ == "__main__":
    exit_with(main)
