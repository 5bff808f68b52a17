"""Fixtures of several unit tests."""

from pathlib import Path
from typing import Any

import pytest

from sweep.cluster.connect import Cluster
from sweep.execution.plan import check_study, make_plan, open_data
from sweep.record.store import Store
from sweep.resume.provenance import describe_run
from sweep.study.catalog import STUDIES
from sweep.study.options import RunOptions
from sweep.study.study import Study
from tests.begun import Begin


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "runs" / "mine"))


@pytest.fixture
def begin(store: Store) -> Begin:
    """Return a function that writes the record of a run of `quickstart`, or another study, that has just begun."""

    def write(study: Study | None = None, /, workers: int | None = None, **changes: Any) -> Study:
        options = RunOptions(**{"train_size": 100, "epochs": 2, "width": 0.05, "variants": ("all-cnn-c",)} | changes)
        asked = options.apply(STUDIES["quickstart"]()) if study is None else study
        machine = Cluster(nodes=((2, 0),), address="this machine")
        plan = make_plan(
            asked, parameters=check_study(asked), datasets=open_data(asked), cluster=machine, workers=workers, gpus=0
        )
        store.write_run(describe_run(plan, []))
        return asked

    return write
