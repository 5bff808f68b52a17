"""`sweep cluster check FILE`, or `python -m sweep.cluster check`: check a file that describes a cluster, offline.

Exit status 0 when the file is good, 2 when it is not, with a sentence for each fault.
"""

import sys
from functools import partial
from pathlib import Path

from sweep.cli.app import BAD_INPUT, OK, exit_with, new_app, refuse, run_app

app = new_app(
    name="python -m sweep.cluster",
    help="Check the files that describe clusters. Exit status: 0 when the file is good, 2 when it is not.",
)


@app.command
def check(file: Path, /) -> int:
    """Check a file for `ray up` or KubeRay, offline and without credentials.

    Args:
        file: such as cluster.yaml or clusters/kuberay.yaml.
    """
    from sweep.clusterfile.check import check_file

    checked = check_file(file)
    if checked.missing:
        print(f"note: {checked.missing}", file=sys.stderr)
    faults = checked.faults
    for fault in faults:
        refuse(fault)
    if faults:
        return BAD_INPUT
    print(f"{file}: a {checked.what}; nothing wrong was found.")
    return OK


main = partial(run_app, app)
"""Run the command line, that of this process by default, and return its exit status."""


if __name__ == "__main__":
    exit_with(main)
