"""Records of runs, made for the tests of reports, figures and tables: their numbers are drawn, not trained."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from search_spaces import Choice, LogUniform, Space
from sweep.record.document import Code, RunDocument
from sweep.record.params import write_params
from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store
from sweep.study.catalog import cifar10
from tests.standings import data, execution, run_document

SCRIPT = """<img src=x onerror="document['title']='run by a name'">"""
"""What a name may not become. Without a dot, after which a variant names a recipe."""


def trial(number: int, **values: Any) -> Any:
    """Return a row of `trials`; a value that is none of its columns is a hyperparameter that was searched."""
    columns = {name: value for name, value in values.items() if name in TRIALS.names}
    searched = {name: value for name, value in values.items() if name not in TRIALS.names}
    lr = columns.get("lr", 0.05)
    return (
        dict.fromkeys(TRIALS.names)
        | {
            "trial_id": f"t{number:04d}",
            "phase": "search",
            "dataset": "cifar10",
            "augmentation": "none",
            "variant": "model-c",
            "params": write_params({"lr": lr, **searched}),
            "lr": lr,
            "seed": 0,
            "state": "completed",
            "epochs_run": 10,
            "epochs_budget": 10,
            "test_error": 0.1,
            "num_parameters": 1_000_000,
            "images_per_s": 1000.0,
            "duration_s": 360.0,
            "train_s": 360.0,
            "device": "cpu",
            "reason": "",
            "isolated": False,
            "preemptions": 0,
            "retries": 0,
            "retry_reasons": "",
        }
        | columns
    )


def curve(trial_id: str, errors: Sequence[float | None], column: str = "test_error") -> list[Any]:
    return [
        dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": epoch, column: error}
        for epoch, error in enumerate(errors, start=1)
    ]


def document(*variants: str, generated: bool = False, **changes: Any) -> RunDocument:
    """Return study.json under the protocol `paper`, of CIFAR-10, but for what is given: fields of its study."""
    study = replace(cifar10(), variants=variants, protocol="paper")
    base = changes.pop("base", replace(study.base, epochs=10))
    code = Code(commit="c0ffee", altered=True)
    began = execution(
        command=("python", "-m", "sweep.run", "cifar10", "--name", "a b"), code=code, packages={"torch": "2.14.1"}
    )
    images = {"cifar10": data(generated=generated)}
    return run_document(replace(study, base=base, **changes), images, planned_trials=8, executions=(began,))


def seeds(first: int, variant: str, *errors: float, **values: Any) -> list[Any]:
    return [
        trial(first + place, variant=variant, seed=place, test_error=error, **values)
        for place, error in enumerate(errors)
    ]


def make_run(location: str, **study: Any) -> Store:
    """Write a run of three variants: the lowest, one that ties with it, one that does not; stopped and lost trials."""
    store = Store(location)
    store.write_run(document("model-c", "all-cnn-c", "strided-cnn-c", **study))
    rows = [
        *seeds(0, "model-c", 0.1080, 0.1090, 0.1070),
        *seeds(10, "all-cnn-c", 0.0900, 0.0950, 0.0910, num_parameters=1_400_000),
        *seeds(20, "strided-cnn-c", 0.0920, 0.0960, 0.0940, images_per_s=2000.0),
        trial(30, lr=0.1, state="diverged", test_error=1.0, epochs_run=2, reason="the loss became NaN"),
        trial(31, lr=0.01, state="stopped", test_error=0.3, epochs_run=4),
        trial(32, lr=0.25, state="failed", test_error=None, epochs_run=0, reason=f"RuntimeError: {SCRIPT} & more"),
    ]
    store.write_trials(rows)
    store.append_epochs(
        [
            row
            for one in rows
            if one["state"] in ("completed", "stopped")
            for row in curve(one["trial_id"], [one["test_error"] + (10 - epoch) / 50 for epoch in range(1, 11)])[
                : one["epochs_run"]
            ]
        ]
    )
    # A diverged trial's epochs are there, its errors say nothing.
    store.append_epochs([dict.fromkeys(EPOCHS.names) | {"trial_id": "t0030", "epoch": epoch} for epoch in (1, 2)])
    return store


SEARCHED = Space(
    {
        "lr": Choice((0.05, 0.1)),
        "dropout": Choice((0.0, 0.1)),
        "initialisation": Choice(("he", "glorot", "normal")),
        "initialisation_std": Choice((0.01, 0.05)).when("initialisation", "normal"),
        "class_relu": Choice((True, False)),
    }
)
"""A number, a text, a truth, and a number that only some trials have."""


def make_run_of_many_kinds(location: str) -> Store:
    """Write a run of two variants that searched `SEARCHED`: 32 trials each; the best ones are of different kinds."""
    store = Store(location)
    study = replace(document("model-c", "all-cnn-c").study, space=SEARCHED)
    rows = []
    for variant, place, point in [
        (variant, place, point) for variant in study.variants for place, point in enumerate(SEARCHED.points())
    ]:
        best = {"model-c": {"initialisation": "glorot"}, "all-cnn-c": {"initialisation_std": 0.05}}[variant]
        error = 0.2 + place / 1000 - 0.1 * (best.items() <= point.items()) - 0.05 * bool(point["dropout"])
        rows.append(trial(len(rows), variant=variant, test_error=error, **point))
    # One that has no error has its configuration all the same.
    rows[0] |= {"state": "diverged", "test_error": 1.0, "reason": "the loss became NaN"}
    store.write_run(replace(document("model-c", "all-cnn-c"), study=study, planned_trials=len(rows)))
    store.write_trials(rows)
    store.append_epochs(
        [
            row
            for one in rows
            for row in curve(one["trial_id"], [min(1.0, one["test_error"] + 0.01)] * 9 + [one["test_error"]])
        ]
    )
    return store


def make_large_run(location: str, trials: int = 1000, epochs: int = 350) -> Store:
    """Write a run with many trials over three hyperparameters, its numbers drawn, for speed and size alone."""
    draw = random.Random(1)
    names = [f"variant-{place}" for place in range(12)]
    store = Store(location)
    study = {
        "search": "random",
        "trials_per_cell": max(1, trials // 12),
        "space": Space(
            lr=LogUniform(0.001, 0.5), weight_decay=LogUniform(1e-5, 1e-2), batch_size=Choice((32, 64, 128))
        ),
        "base": replace(cifar10().base, epochs=epochs),
    }
    store.write_run(replace(document(*names, generated=True, **study), planned_trials=trials))
    rows, points = [], []
    for number in range(trials):
        lr, decay = 10 ** draw.uniform(-3, -0.3), 10 ** draw.uniform(-5, -2)
        state = "stopped" if number // 12 % 2 else "diverged" if number % 50 == 0 else "completed"
        run = {"completed": epochs, "stopped": draw.randrange(20, epochs), "diverged": 5}[state]
        errors = [0.1 + 0.8 / (1 + epoch * lr) + 0.02 * draw.random() for epoch in range(1, run + 1)]
        rows.append(
            trial(
                number,
                variant=names[number % 12],
                lr=lr,
                weight_decay=decay,
                batch_size=draw.choice([32, 64, 128]),
                state=state,
                epochs_run=run,
                epochs_budget=epochs,
                test_error=1.0 if state == "diverged" else errors[-1],
                num_parameters=1_000_000 + 50_000 * (number % 12),
                reason="the loss became NaN" if state == "diverged" else "",
            )
        )
        points += curve(rows[-1]["trial_id"], errors)
    store.write_trials(rows)
    store.append_epochs(points)
    return store
