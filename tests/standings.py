"""Runs for tests of what is shown: study.json and rows as a run would have them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces import Choice, Space
from sweep.record.document import Code, Data, Execution, Hardware, PlacementOptions, RunDocument
from sweep.record.params import write_params
from sweep.record.progress import Scope
from sweep.record.schema import TRIALS
from sweep.study.catalog import cifar10, quickstart
from sweep.study.study import Study

TWELVE = tuple(f"{name}-{letter}" for letter in "abc" for name in ("model", "strided-cnn", "convpool-cnn", "all-cnn"))
RATES = (0.25, 0.1, 0.05, 0.01)


def execution(**changes: Any) -> Execution:
    """Return how a run was begun, but for what is given."""
    return replace(
        Execution(
            created="2026-01-02T03:04:05+00:00",
            command=("python", "-m", "sweep.run"),
            code=Code(commit=None, altered=None),
            packages={},
            hardware=Hardware(cpus=2, gpus=0, gpu=None, machine="x86_64", system="linux"),
        ),
        **changes,
    )


def data(**changes: Any) -> Data:
    """Return a data set as large as CIFAR-10, but for what is given."""
    images = Data(checksum="0123abcd", train_images=50_000, test_images=10_000, num_classes=10, generated=False)
    return replace(images, **changes)


def run_document(study: Study, datasets: Mapping[str, Data] | None = None, **changes: Any) -> RunDocument:
    """Return study.json of a study's run."""
    return replace(
        RunDocument(
            study=study,
            planned_trials=study.search_trials + study.confirm_trials,
            placement=PlacementOptions(workers_per_trial=None, gpus_per_trial=None, max_concurrent=None),
            workers=0,
            plugins=(),
            data=datasets or {name: data() for name in study.datasets},
            executions=(execution(),),
        ),
        **changes,
    )


def study_of(**changes: Any) -> Study:
    """Return a study of two variants at the paper's rates under holdout, 10 epochs, but for what is given."""
    study = replace(
        cifar10(),
        variants=("model-a", "all-cnn-a"),
        space=Space(lr=Choice(RATES)),
        base=replace(cifar10().base, epochs=10),
    )
    return replace(study, **changes)


def document(**changes: Any) -> RunDocument:
    """Return study.json of `study_of`."""
    return run_document(study_of(**changes))


def whole_document() -> RunDocument:
    """Return study.json of a run of the quickstart."""
    return run_document(quickstart(), {"shapes": data(train_images=50, test_images=10, generated=True)})


def scope(**changes: Any) -> Scope:
    run = document(**changes)
    return Scope.of(run.study, "table3", run.planned_trials)


def row(variant: str, lr: float, state: str, *, number: int = 0, **changes: Any) -> Any:
    """Return a row of `trials`; by default of the search, 10 epochs of 2 s each where it was completed."""
    epochs = changes.pop("epochs_run", {"completed": 10, "running": 4, "pending": 0}.get(state, 3))
    phase = changes.get("phase", "search")
    return (
        dict.fromkeys(TRIALS.names)
        | {
            "trial_id": f"cifar10_none_{variant}_{'confirm_0_' if phase == 'confirm' else ''}{number:04d}_{lr:g}",
            "phase": phase,
            "dataset": "cifar10",
            "augmentation": "none",
            "variant": variant,
            "params": write_params({"lr": lr}),
            "lr": lr,
            "seed": 0,
            "state": state,
            "epochs_run": epochs,
            "epochs_budget": 10,
            "duration_s": 2.0 * epochs,
            "train_s": 1.5 * epochs,
            "reason": "",
            "isolated": False,
            "preemptions": 0,
            "retries": 0,
            "retry_reasons": "",
        }
        | changes
    )
