"""`sweep run | init | status | pack | spot | cluster check`: every command under one name, which a shell can complete.

Each is `python -m sweep.NAME` too. What a command needs is imported when it is called.
"""

import sys
from collections.abc import Sequence

from sweep.cli.app import new_app, run_app
from sweep.cli.garbage import skip_last_collection

app = new_app(name="sweep", help="Compare architectures, each with its own best hyperparameters, in sweeps on Ray.")
# By name, which imports a command's module once it is called or asked for its help.
app.command("sweep.cli.parse:collect", name="run", help="Run a study and print its table.")
app.command(
    "sweep.cli.init:init",
    name="init",
    help="Write a study of your own to begin from, my_study.py unless FILE says otherwise.",
    usage="Usage: sweep init [FILE]",
)
app.command("sweep.monitor.status:status", name="status", help="Show the runs in a folder, or how one of them stands.")
app.command("sweep.record.pack:command", name="pack", help="Write a run's results as one small archive or folder.")
app.command("sweep.cluster.spot:command", name="spot", help="Drain a spot node when its cloud takes it back.")
app.command(new_app(name="cluster", help="Check the files that describe clusters."))
app["cluster"].command(
    "sweep.cluster.__main__:check", name="check", help="Check a file for ray up or KubeRay, offline."
)
app.register_install_completion_command(help="Make this shell complete the commands and their options.")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status."""
    if arguments[:1] == ["run"]:
        # A run keeps its command line in the record, and its help is by topic: it reads the rest for itself.
        from sweep.cli.run import command

        return command(arguments[1:])
    return run_app(app, arguments)


def main() -> int:
    """Run the command line of this process, which does nothing else, and return its exit status."""
    skip_last_collection()
    return run(sys.argv[1:])
