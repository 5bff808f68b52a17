"""`sweep cluster check FILE`, or `python -m sweep.cluster check`: check a file that describes a cluster, offline.

Exit status 0 when the file is good, 2 when it is not, with a sentence for each fault.
"""

from collections.abc import Sequence
from pathlib import Path

from sweep.cli.app import BAD_INPUT, OK, exit_with, new_app, refuse, run_app

app = new_app(
    name="python -m sweep.cluster",
    help="Check the files that describe clusters. Exit status: 0 when the file is good, 2 when it is not.",
)


@app.command
def check(file: Path, /, *, instance_types: bool = False) -> int:
    """Check a file for `ray up` or KubeRay, offline and without credentials.

    Args:
        file: such as cluster.yaml or clusters/kuberay.yaml.
        instance_types: Ask AWS, too, whether it has the instance types in the file's region; needs boto3 and
            credentials.
    """
    from sweep.clusterfile.check import check_file

    what, faults = check_file(file)
    if instance_types and not faults:
        from sweep.clusterfile.aws import instance_type_faults

        faults = instance_type_faults(file)
    for fault in faults:
        refuse(fault)
    if faults:
        return BAD_INPUT
    print(f"{file}: a {what}; nothing wrong was found.")
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_app(app, arguments)


if __name__ == "__main__":
    exit_with(main)
