"""What surrounds the training: the same trials by this project, and by the ways in which people run them today.

    python -m benchmarks.overhead [--trials 12 48] [--ways NAME ...] [--without NAME ...] [--epochs N] [--images N]
                                  [--repeats N] [--share PERCENT] [--claims FILE]

Every trial is the same small network on the same generated images at a learning rate of its own, two trials at once,
one thread each. The ways take turns. Prints the wall time from the command to its end, that time over the ideal (the
seconds of the epochs alone, divided by the slots), the ratio to the first way, and when our first training step began.
All ways must end with the same training losses, bit for bit. They share a cache of the data, filled beforehand.

    ours      python -m sweep.run, with its record, checkpoints and table
    workers   ours with --workers-per-trial 1: in a process group of Ray Train's, as the guide's way has one
    guide     Ray Tune over Ray Train's TorchTrainer, as Ray's user guide writes it
    quick     the same, its workers looked after 20 times a second, as ours are, where Ray Train's own is every 2 s
    function  Ray Tune over a plain function, a process that has ended a trial taking the next
    optuna    Optuna in two processes of joblib over a journal, the points enqueued
    syne      Syne Tune's local backend, a process for each trial: only where syne-tune is installed, which brings a
              second NCCL beside torch's and so has no place on a machine with GPUs
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import claims
from benchmarks.claims import Claim

WORK = """
import json, os, sys, time
sys.path.insert(0, os.environ["ROOT"])
os.environ["PYTHONPATH"] = os.environ["ROOT"]

def work(config, report):
    import torch
    from trainables.config import TrialConfig
    from trainables.data import hold_out, open_dataset, prepare
    from trainables.data.batches import MemoryFeed
    from trainables.hardware import Arithmetic
    from trainables.loop import stream_seed, train
    torch.set_num_threads(1)
    trial, cpu = TrialConfig.from_dict(config), torch.device("cpu")
    data = hold_out(open_dataset(trial.dataset, None, trial.train_size), trial.held_out)
    draws = torch.Generator().manual_seed(stream_seed(trial.seed, "order and augmentation"))
    feed = MemoryFeed(prepare(data, trial.preprocessing), trial, draws, cpu)
    arithmetic = Arithmetic(trial.precision, trial.memory_format)
    trained = 0.0
    def tell(epoch):
        nonlocal trained
        trained += epoch.epoch_s
        report(epoch, trained)
    train(trial, feed, tell, device=cpu, arithmetic=arithmetic)
"""

ASKED = """
configs, slots, folder, out = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
"""

GUIDE = """
import ray, ray.tune, ray.train
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

def on_worker(config):
    work(config, lambda epoch, s: ray.train.report({"loss": epoch.train_loss, "epoch": epoch.epoch, "s": s}))

def driver(config):
    run = ray.train.RunConfig(
        name=ray.tune.get_context().get_trial_id(), storage_path=folder, callbacks=[TuneReportCallback()]
    )
    scaling = ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    TorchTrainer(on_worker, train_loop_config=config["config"], scaling_config=scaling, run_config=run).fit()

# One CPU more than the workers take: the drivers claim a little each, and would keep the workers out.
ray.init("local", num_cpus=slots + 1)
tuner = ray.tune.Tuner(
    ray.tune.with_resources(driver, {"CPU": 0.01}),
    param_space={"config": ray.tune.grid_search(configs)},
    tune_config=ray.tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=slots),
    run_config=ray.tune.RunConfig(storage_path=folder, verbose=0),
)
found = tuner.fit()
json.dump([[r.metrics["config"]["config"]["lr"], r.metrics["loss"], r.metrics["s"]] for r in found], open(out, "w"))
"""

FUNCTION = """
import ray, ray.tune

def trial(config):
    work(config["config"], lambda epoch, s: ray.tune.report({"loss": epoch.train_loss, "epoch": epoch.epoch, "s": s}))

ray.init("local", num_cpus=slots)
tuner = ray.tune.Tuner(
    ray.tune.with_resources(trial, {"CPU": 1}),
    param_space={"config": ray.tune.grid_search(configs)},
    tune_config=ray.tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=slots, reuse_actors=True),
    run_config=ray.tune.RunConfig(storage_path=folder, verbose=0),
)
found = tuner.fit()
json.dump([[r.metrics["config"]["config"]["lr"], r.metrics["loss"], r.metrics["s"]] for r in found], open(out, "w"))
"""

OPTUNA = """
import joblib, optuna

by_rate = {config["lr"]: config for config in configs}

def optimise(trials):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(folder + "/journal"))
    study = optuna.load_study(study_name="study", storage=storage)
    found = []
    def objective(trial):
        lr, last = trial.suggest_categorical("lr", list(by_rate)), []
        def report(epoch, s):
            trial.report(epoch.train_loss, epoch.epoch)
            last[:] = [lr, epoch.train_loss, s]
        work(by_rate[lr], report)
        found.append(last)
        return last[1]
    study.optimize(objective, n_trials=trials)
    return found

if __name__ == "__main__":
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(folder + "/journal"))
    study = optuna.create_study(study_name="study", storage=storage)
    for lr in by_rate:
        study.enqueue_trial({"lr": lr})
    parts = joblib.Parallel(n_jobs=slots)(joblib.delayed(optimise)(len(configs[k::slots])) for k in range(slots))
    json.dump([one for part in parts for one in part], open(out, "w"))
"""

SYNE_TRIAL = """
from syne_tune import Reporter

lr, tell, last = float(sys.argv[sys.argv.index("--lr") + 1]), Reporter(), []
def report(epoch, s):
    tell(loss=epoch.train_loss, epoch=epoch.epoch)
    last[:] = [lr, epoch.train_loss, s]
work(next(config for config in json.loads(os.environ["CONFIGS"]) if config["lr"] == lr), report)
json.dump(last, open(f"{os.environ['DONE']}/{lr}.json", "w"))
"""
"""Syne Tune starts a script anew for each trial."""

SYNE = """
import pathlib
import syne_tune
from syne_tune.backend import LocalBackend
from syne_tune.optimizer.baselines import RandomSearch

os.environ |= {"CONFIGS": json.dumps(configs), "DONE": folder, "SYNETUNE_FOLDER": folder + "/syne"}
rates = [config["lr"] for config in configs]
tuner = syne_tune.Tuner(
    trial_backend=LocalBackend(entry_point=str(pathlib.Path(__file__).with_name("trial.py")), num_gpus_per_trial=0),
    scheduler=RandomSearch(
        {"lr": syne_tune.config_space.choice(rates)}, metrics=["loss"], points_to_evaluate=[{"lr": lr} for lr in rates]
    ),
    stop_criterion=syne_tune.StoppingCriterion(max_num_trials_started=len(rates)),
    wait_trial_completion_when_stopping=True,
    n_workers=slots,
    sleep_time=0.2,  # its own is 5 s, which is long for trials as short as these
)
tuner.run()
json.dump([json.loads(path.read_text()) for path in pathlib.Path(folder).glob("*.json")], open(out, "w"))
"""

LIMIT_S = 3600
"""After which a way is taken for one that never ends."""

Losses = dict[float, float]
"""The last training loss by learning rate."""

FILL = "work(json.loads(sys.argv[1])[0] | {'epochs': 1}, lambda epoch, s: None)"
"""What leaves the data in the cache."""


class Done(NamedTuple):
    """What a way took, and what it came to."""

    seconds: float
    trained_s: float
    """Of all trials together, in epochs."""
    losses: Losses
    began_s: float | None = None
    """From the command to the first training step, where it is known."""


def rates(trials: int) -> list[float]:
    """Return as many learning rates as trials."""
    return [round(0.004 + 0.0001 * number, 6) for number in range(trials)]


def study_words(trials: int, options: argparse.Namespace) -> list[str]:
    """Return the study on the command line."""
    return [
        *("quickstart", "--variants", "all-cnn-c", "--learning-rates", *map(str, rates(trials))),
        *("--epochs", str(options.epochs), "--train-size", str(options.images), "--width", "0.1", "--batch-size", "32"),
        *("--protocol", "paper", "--seeds", "1", "--precision", "float32", "--set", "memory_format=channels_last"),
        *("--max-concurrent", str(options.slots), "--gpus-per-trial", "0"),
    ]


def ours(folder: Path, trials: int, options: argparse.Namespace, *more: str) -> Done:
    """Run this project's command."""
    words = [sys.executable, "-m", "sweep.run", *study_words(trials, options), "--output", str(folder), "--name", "run"]
    ended = threading.Event()
    with ThreadPoolExecutor() as pool:
        looking = pool.submit(_first_kept, folder / "run", ended)
        try:
            seconds = timed([*words, *more])
        finally:
            ended.set()
        kept_s, first = looking.result()
    from sweep.record.store import Store

    epochs = Store(str(folder / "run")).read_epochs().to_pylist()
    names = {row["trial_id"]: row["lr"] for row in Store(str(folder / "run")).read_trials().to_pylist()}
    losses = {names[row["trial_id"]]: row["train_loss"] for row in epochs if row["epoch"] == options.epochs}
    # A trial is kept at the end of each epoch.
    began = kept_s - next(row["epoch_s"] for row in epochs if (row["trial_id"], row["epoch"]) == (first, 1))
    return Done(seconds, sum(row["epoch_s"] for row in epochs), losses, began)


def _first_kept(folder: Path, ended: threading.Event) -> tuple[float, str]:
    """Return after how many seconds a trial has been kept, and which."""
    start = time.perf_counter()
    while not (found := list(folder.glob("checkpoints/*/last.pt"))):
        assert not ended.wait(0.05), f"no trial was kept in {folder}"
    return time.perf_counter() - start, found[0].parent.name


def by_script(script: str, **variables: str) -> Callable[[Path, int, argparse.Namespace], Done]:
    """Return a function that runs another way, in a process of its own."""

    def run(folder: Path, trials: int, options: argparse.Namespace) -> Done:
        # joblib's processes find their function in a file.
        file, out = folder / "way.py", folder / "losses.json"
        file.write_text(WORK + ASKED + script)
        (folder / "trial.py").write_text(WORK + SYNE_TRIAL)
        (folder / "out").mkdir()
        words = [sys.executable, str(file), json.dumps(configs(trials, options)), str(options.slots)]
        seconds = timed([*words, str(folder / "out"), str(out)], folder, **variables)
        found = json.loads(out.read_text())
        return Done(seconds, sum(s for _, _, s in found), {lr: loss for lr, loss, _ in found})

    return run


def configs(trials: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what ours trains, a configuration for each trial."""
    from sweep.cli.parse import parse
    from sweep.study.catalog import STUDIES

    parsed = parse(study_words(trials, options))
    assert parsed is not None
    study = parsed[1].apply(STUDIES["quickstart"]())
    base = study.base.to_dict() | {"dataset": "shapes", "variant": "all-cnn-c"}
    return [base | {"lr": lr} for lr in rates(trials)]


def timed(words: list[str], folder: Path | None = None, **more: str) -> float:
    """Run a command, in a folder where it may leave what it likes, and return its seconds."""
    variables = os.environ | {
        "ROOT": str(Path(__file__).resolve().parents[1]),
        "RAY_AUTH_MODE": "disabled",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        "TQDM_DISABLE": "1",
    }
    variables |= more
    if words[1] == "-m":
        variables.pop("RAY_AUTH_MODE")  # ours has it on
    start = time.perf_counter()
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=LIMIT_S, cwd=folder)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(words)[:80]} must end within {LIMIT_S / 60:.0f} minutes, and did not.") from None
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{words[1]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return seconds


WAYS = {
    "ours": ours,
    "workers": lambda folder, trials, options: ours(folder, trials, options, "--workers-per-trial", "1"),
    "guide": by_script(GUIDE),
    "quick": by_script(GUIDE, RAY_TRAIN_HEALTH_CHECK_INTERVAL_S="0.05"),
    "function": by_script(FUNCTION),
    "optuna": by_script(OPTUNA),
    "syne": by_script(SYNE),
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 48])
    installed = [way for way in WAYS if way != "syne" or importlib.util.find_spec("syne_tune")]
    parser.add_argument("--ways", nargs="+", default=installed, choices=list(WAYS))
    parser.add_argument("--without", nargs="+", default=[], choices=list(WAYS), help="ways to leave out")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--share", type=float, help="%% of the slots' time that should be training, claimed of ours")
    claims.add_option(parser)
    options = parser.parse_args()
    options.ways = [way for way in options.ways if way not in options.without]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SWEEP_CACHE"] = cache
        timed([sys.executable, "-c", WORK + FILL, json.dumps(configs(1, options))])
        found = measure(options)
    claims.keep(options.claims, found)


def measure(options: argparse.Namespace) -> list[Claim]:
    """Run all that is asked for, print a row for each, and return what ours claims."""
    print(f"| trials | way | s | over the ideal | x {options.ways[0]} |\n|---|---|---|---|---|")
    found: list[Claim] = []
    for trials in options.trials:
        done: dict[str, list[Done]] = {way: [] for way in options.ways}
        for _ in range(options.repeats):
            for way in options.ways:
                with tempfile.TemporaryDirectory() as folder:
                    done[way].append(WAYS[way](Path(folder), trials, options))
                one, first = done[way][-1], done[options.ways[0]][-1]
                if one.losses != first.losses:
                    raise SystemExit(
                        f"{way} must end with the losses of {options.ways[0]}, got {one.losses}, not {first.losses}."
                    )
                over, ratio = one.seconds * options.slots / one.trained_s, one.seconds / first.seconds
                print(f"| {trials} | {way} | {one.seconds:.1f} | {over:.2f} | {ratio:.2f} |", flush=True)
        found += _claims(trials, done, options)
    return found


def _claims(trials: int, done: dict[str, list[Done]], options: argparse.Namespace) -> list[Claim]:
    """Return what our way claims beside the others."""
    if "ours" not in done:
        return []
    slots, each_s = options.slots, statistics.median(one.trained_s for one in done["ours"]) / trials
    print(f"\nA trial of ours is trained for {each_s:.2f} s.")
    what = f"{trials} trials of {options.epochs} epochs of {options.images:,} images, {slots} at once"
    # The aims are of trials that take next to nothing.
    of_guide = {12: 8.0, 48: 20.0}.get(trials) if options.epochs * options.images <= 2_000 else None
    targets = {"guide": of_guide, "quick": None, "workers": None, "function": 1.0, "optuna": 1.0, "syne": 1.0}
    found = [
        Claim(
            name=f"{what}: {way} over ours",
            values=[a.seconds / b.seconds for a, b in zip(done[way], done["ours"], strict=True)],
            unit="x",
            target=target,
        )
        for way, target in targets.items()
        if way in done
    ]
    return [
        *found,
        Claim(
            name=f"{what}: of the slots' time, spent in training",
            values=[100 * one.trained_s / slots / one.seconds for one in done["ours"]],
            unit="%",
            target=options.share,
        ),
        Claim(
            name=f"{what}: from the command to the first training step",
            values=[one.began_s for one in done["ours"] if one.began_s is not None],  # of ours always
            unit="s",
            target=15.0,
            at_least=False,
        ),
    ]


if __name__ == "__main__":
    main()
