"""`python -m sweep.status`: see `sweep.monitor.status`."""

from sweep.cli.app import exit_with
from sweep.monitor.status import main

if __name__ == "__main__":
    exit_with(main)
