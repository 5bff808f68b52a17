"""A run's record for a notebook: Arrow tables, and pandas frames where pandas is installed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import pyarrow as pa

from sweep.record.document import RunDocument
from sweep.record.params import with_param_columns
from sweep.record.schema import TRIALS
from sweep.record.store import Store

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["trials", "epochs", "decisions"]
"""The record's tables; `sweep.record.schema` says what their columns mean."""


@final
@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run has recorded when it was read; errors are fractions in [0, 1], times are seconds."""

    run: RunDocument
    """Contents of study.json."""
    trials: pa.Table
    """A row per trial, with a column for each hyperparameter that was searched, null where a trial has none."""
    epochs: pa.Table
    """A row per trial and epoch."""
    decisions: pa.Table
    """A row per judgement by early stopping."""

    def to_pandas(self, table: Table = "trials") -> "pd.DataFrame":
        """Return one of the tables as a frame; numbers that are missing become NaN, also whole ones.

        Args:
            table: which; `epochs` has those of its trial's columns that tell what was trained, the searched
                hyperparameters among them.

        Raises:
            ValueError: there is no such table.
            ImportError: pandas is not installed.
        """
        tables = {"trials": self.trials, "epochs": self.epochs, "decisions": self.decisions}
        if table not in tables:
            raise ValueError(f"table must be one of {', '.join(tables)}, got {table!r}.")
        try:
            import pandas  # noqa: F401 - looked for only: Arrow's own message names no cure
        except ImportError as error:
            raise ImportError(
                "pandas must be installed for to_pandas, got none; run pip install pandas, or use the Arrow tables "
                ".trials, .epochs and .decisions."
            ) from error
        wanted = tables[table]
        if table == "epochs":
            searched = [name for name in self.trials.column_names if name not in TRIALS.names]
            of_the_trial = _OF_THE_TRIAL | dict(zip(searched, searched, strict=True))
            wanted = wanted.join(
                self.trials.select(["trial_id", *of_the_trial]).rename_columns(["trial_id", *of_the_trial.values()]),
                keys="trial_id",
            ).sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
        return wanted.to_pandas()


# `lr` of an epoch is what its schedule has left of the trial's.
_OF_THE_TRIAL = {name: name for name in ("phase", "dataset", "augmentation", "variant", "seed", "state")} | {
    "lr": "trial_lr"
}


def load(run: str) -> Record:
    """Return the record of a run, also of one that goes on.

    Args:
        run: the run's folder or URI.

    Raises:
        ValueError: there is no run, or its record cannot be read.
    """
    store = Store(run)
    return Record(
        run=store.read_run(),
        trials=with_param_columns(store.read_trials()),
        epochs=store.read_epochs(),
        decisions=store.read_decisions(),
    )
