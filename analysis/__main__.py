"""`python -m analysis table RUN`, `python -m analysis list DIR` and `python -m analysis published`."""

import os
import sys
from pathlib import Path
from typing import Literal

import cyclopts

from analysis.aggregate import By, summarise
from analysis.published import PAPER
from analysis.tables import notes, published_rows, render, table_rows
from sweep.records import FINAL_STATES
from sweep.store import Store

app = cyclopts.App(
    name="python -m analysis",
    help="Comparison tables from the record of a run.",
    version_flags=(),
    result_action="return_value",
)


@app.command
def table(run: str, /, *, format: Literal["markdown", "latex", "csv", "html"] = "markdown", by: By = "variant") -> None:
    """Print a row per variant: its best error, at which learning rate, and how its trials ended.

    Args:
        run: the run's folder or URI.
        format: how the table is written; csv leaves out the remarks below it.
        by: one row per variant, or per variant and learning rate or seed.
    """
    store = Store(run)
    study = store.read_study()
    results = summarise(store.read_trials().to_pylist(), study["study"], by)
    print(render(table_rows(results, study, by), notes(results, study), format))


@app.command
def published(*, format: Literal["markdown", "latex", "csv", "html"] = "markdown") -> None:
    """Print every error that the paper prints, its own and those that it compares with, and how sure each number is.

    Args:
        format: how the table is written.
    """
    print(render(published_rows(), [f"Source: {PAPER}, through transcriptions of it and papers that cite it."], format))


@app.command(name="list")
def list_runs(folder: str = "runs", /) -> None:
    """Print a line per run in a folder: its study, when it was made, how many trials have ended.

    Args:
        folder: a local folder that holds runs.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"DIR must be an existing folder, got {folder!r}.")
    stores = [Store(str(path)) for path in sorted(Path(folder).iterdir()) if (path / "study.json").is_file()]
    if not stores:
        print(f"No run lies directly in {folder}.")
    for store in stores:
        name = Path(store.location).name
        try:
            study, states = store.read_study(), store.read_trials()["state"].to_pylist()
        except ValueError as error:
            print(f"{name}  cannot be read: {error}")
            continue
        ended = sum(state in FINAL_STATES for state in states)
        print(f"{name}  {study['study']['name']}  {study['created']}  {ended} of {study['planned_trials']} trials")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    try:
        app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except (cyclopts.CycloptsError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; without this Python would complain once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
