"""Records of runs, made for the tests of reports, figures and tables: their numbers are drawn, not trained."""

import random
from collections.abc import Sequence
from typing import Any

from sweep.record.schema import EPOCHS, TRIALS
from sweep.record.store import Store
from sweep.study.study import STUDIES
from tests.standings import EXECUTION

SCRIPT = "<img src=x onerror=document.title='run by a name'>"
"""What a name may not become."""


def trial(number: int, **values: Any) -> dict[str, Any]:
    return (
        dict.fromkeys(TRIALS.names)
        | {
            "trial_id": f"t{number:04d}",
            "phase": "search",
            "dataset": "cifar10",
            "augmentation": "none",
            "variant": "model-c",
            "lr": 0.05,
            "weight_decay": 0.001,
            "batch_size": 128,
            "seed": 0,
            "state": "completed",
            "epochs_run": 10,
            "epochs_budget": 10,
            "test_error": 0.1,
            "num_parameters": 1_000_000,
            "images_per_s": 1000.0,
            "duration_s": 360.0,
            "device": "cpu",
            "reason": "",
        }
        | values
    )


def curve(trial_id: str, errors: Sequence[float | None], column: str = "test_error") -> list[dict[str, Any]]:
    return [
        dict.fromkeys(EPOCHS.names) | {"trial_id": trial_id, "epoch": epoch, column: error}
        for epoch, error in enumerate(errors, start=1)
    ]


def document(*variants: str, generated: bool = False, **study: Any) -> dict[str, Any]:
    """Return a study.json under the protocol `paper`, of CIFAR-10, but for what is given."""
    base = STUDIES["cifar10"]().to_dict() | {"variants": list(variants), "protocol": "paper"}
    base["base"] = dict(base["base"]) | {"epochs": 10}
    return {
        "study": base | study,
        "data": {
            "cifar10": {
                "train_images": 50_000,
                "test_images": 10_000,
                "num_classes": 10,
                "generated": generated,
                "checksum": "0123abcd",
            }
        },
        "planned_trials": 8,
        **EXECUTION,
        "command": ["python", "-m", "sweep.run", "cifar10", "--name", "a b"],
        "code": {"commit": "c0ffee", "altered": True},
        "packages": {"torch": "2.14.1"},
    }


def seeds(first: int, variant: str, *errors: float, **values: Any) -> list[dict[str, Any]]:
    return [
        trial(first + place, variant=variant, seed=place, test_error=error, **values)
        for place, error in enumerate(errors)
    ]


def make_run(location: str, **study: Any) -> Store:
    """Write a run of three variants: the lowest, one that ties with it, one that does not; stopped and lost trials."""
    store = Store(location)
    store.write_study(document("model-c", "all-cnn-c", "strided-cnn-c", **study))
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


def make_large_run(location: str, trials: int = 1000, epochs: int = 350) -> Store:
    """Write a run with many trials over three hyperparameters, its numbers drawn, for speed and size alone."""
    draw = random.Random(1)
    names = [f"variant-{place}" for place in range(12)]
    store = Store(location)
    written = document(*names, generated=True, search="random", trials_per_cell=trials // 12)
    written["study"]["base"]["epochs"] = epochs
    written["planned_trials"] = trials
    written["study"]["learning_rates"] = {"kind": "log-uniform", "low": 0.001, "high": 0.5}
    store.write_study(written)
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
