"""`python -m sweep.spot`: see `sweep.cluster.spot`."""

from sweep.cli.app import exit_with
from sweep.cluster.spot import main

if __name__ == "__main__":
    exit_with(main)
