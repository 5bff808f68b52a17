"""`python -m sweep.cluster check FILE`: check a file that describes a cluster, without a cloud or credentials.

Exit status 0 when the file is good, 2 when it is not, with a sentence for each fault.
"""

import sys
from pathlib import Path

import cyclopts

from trainables.common.validation import line

OK, BAD_INPUT = 0, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    app = cyclopts.App(
        name="python -m sweep.cluster",
        help="Check the files that describe clusters. Exit status: 0 when the file is good, 2 when it is not.",
        version_flags=(),
        result_action="return_value",
    )

    @app.command
    def check(file: Path, /, *, instance_types: bool = False) -> list[str]:
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
        if not faults:
            print(f"{file}: a {what}; nothing wrong was found.")
        return faults

    try:
        result = app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False)
        faults = result if isinstance(result, list) else []
    except cyclopts.CycloptsError as error:
        faults = [line(error, longest=None)]
    except ValueError as error:
        faults = [line(error, longest=None)]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return BAD_INPUT if faults else OK


if __name__ == "__main__":
    sys.exit(main())
