"""What surrounds the training: the same trials by this project, and by the ways in which people run them today.

    python -m benchmarks.overhead [--trials 12 48] [--ways NAME ...] [--guide-up-to N] [--epochs N] [--images N]

Every trial is the same small network on the same generated images at a learning rate of its own, two trials at once,
one thread each. Prints the wall time from the command to its end, that time over the ideal (the seconds of the training
alone, divided by the slots), and the ratio to ours. All ways must end with the same training losses, bit for bit.

    ours      python -m sweep.run, with its record, checkpoints and table
    guide     Ray Tune over Ray Train's TorchTrainer, as Ray's user guide writes it
    function  Ray Tune over a plain function
    optuna    Optuna in two processes of joblib over a journal
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMON = """
import json, os, sys, time
sys.path.insert(0, os.environ["ROOT"])
os.environ["PYTHONPATH"] = os.environ["ROOT"]
configs, slots, folder, out = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

def work(config, report):
    import torch
    from trainables.config import TrialConfig
    from trainables.data import hold_out, open_dataset, prepare
    from trainables.feed import MemoryFeed
    from trainables.hardware import Arithmetic
    from trainables.loop import stream_seed, train
    torch.set_num_threads(1)
    trial, cpu = TrialConfig.from_dict(config), torch.device("cpu")
    data = hold_out(open_dataset(trial.dataset, None, trial.train_size), trial.held_out)
    draws = torch.Generator().manual_seed(stream_seed(trial.seed, "order and augmentation"))
    feed = MemoryFeed(prepare(data, trial.preprocessing), trial, draws, cpu)
    arithmetic = Arithmetic(trial.precision, trial.memory_format)
    started = time.perf_counter()
    train(trial, feed, lambda epoch: report(epoch, time.perf_counter() - started), device=cpu, arithmetic=arithmetic)
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
    tune_config=ray.tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=slots),
    run_config=ray.tune.RunConfig(storage_path=folder, verbose=0),
)
found = tuner.fit()
json.dump([[r.metrics["config"]["config"]["lr"], r.metrics["loss"], r.metrics["s"]] for r in found], open(out, "w"))
"""

OPTUNA = """
import joblib, optuna

def optimise(part):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(folder + "/journal"))
    study = optuna.load_study(study_name="study", storage=storage)
    found = []
    for config in part:
        trial = study.ask({"lr": optuna.distributions.CategoricalDistribution([c["lr"] for c in configs])})
        last = []
        def report(epoch, s):
            trial.report(epoch.train_loss, epoch.epoch)
            last[:] = [config["lr"], epoch.train_loss, s]
        work(config, report)
        study.tell(trial, last[1])
        found.append(last)
    return found

if __name__ == "__main__":
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(folder + "/journal"))
    optuna.create_study(study_name="study", storage=storage)
    parts = joblib.Parallel(n_jobs=slots)(joblib.delayed(optimise)(configs[k::slots]) for k in range(slots))
    json.dump([one for part in parts for one in part], open(out, "w"))
"""

Losses = dict[float, float]
"""The last training loss by learning rate."""


def rates(trials: int) -> list[float]:
    """Return as many learning rates as trials."""
    return [round(0.004 + 0.0001 * number, 6) for number in range(trials)]


def study_words(trials: int, options: argparse.Namespace) -> list[str]:
    """Return the study on the command line."""
    return [
        *("quickstart", "--variants", "all-cnn-c", "--learning-rates", *map(str, rates(trials))),
        *("--epochs", str(options.epochs), "--train-size", str(options.images), "--width", "0.1", "--batch-size", "32"),
        *("--protocol", "paper", "--seeds", "1", "--precision", "float32", "--memory-format", "channels_last"),
        *("--max-concurrent", str(options.slots)),
    ]


def ours(folder: Path, trials: int, options: argparse.Namespace) -> tuple[float, float, Losses]:
    """Run this project's command; return its wall time, the seconds trained and the losses."""
    words = [sys.executable, "-m", "sweep.run", *study_words(trials, options), "--output", str(folder), "--name", "run"]
    seconds = timed(words)
    from sweep.store import Store

    epochs = Store(str(folder / "run")).read_epochs().to_pylist()
    names = {row["trial_id"]: row["lr"] for row in Store(str(folder / "run")).read_trials().to_pylist()}
    losses = {names[row["trial_id"]]: row["train_loss"] for row in epochs if row["epoch"] == options.epochs}
    return seconds, sum(row["epoch_s"] for row in epochs), losses


def by_script(script: str) -> Callable[[Path, int, argparse.Namespace], tuple[float, float, Losses]]:
    """Return a function that runs another way, in a process of its own."""

    def run(folder: Path, trials: int, options: argparse.Namespace) -> tuple[float, float, Losses]:
        # joblib's processes find their function in a file.
        file, out = folder / "way.py", folder / "losses.json"
        file.write_text(COMMON + script)
        (folder / "out").mkdir()
        words = [sys.executable, str(file), json.dumps(configs(trials, options)), str(options.slots)]
        seconds = timed([*words, str(folder / "out"), str(out)])
        found = json.loads(out.read_text())
        return seconds, sum(s for _, _, s in found), {lr: loss for lr, loss, _ in found}

    return run


def configs(trials: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what ours trains, a configuration for each trial."""
    from sweep.options import parse
    from sweep.studies import STUDIES

    parsed = parse(study_words(trials, options))
    assert parsed is not None
    study = parsed[1].apply(STUDIES["quickstart"]())
    base = study.base.to_dict() | {"dataset": "shapes", "variant": "all-cnn-c"}
    return [base | {"lr": lr} for lr in rates(trials)]


def timed(words: list[str]) -> float:
    """Run a command and return its seconds."""
    variables = os.environ | {
        "ROOT": str(Path(__file__).resolve().parents[1]),
        "RAY_AUTH_MODE": "disabled",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        "TQDM_DISABLE": "1",
    }
    if words[1] == "-m":
        variables.pop("RAY_AUTH_MODE")
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, env=variables)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{words[1]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return seconds


WAYS = {"ours": ours, "guide": by_script(GUIDE), "function": by_script(FUNCTION), "optuna": by_script(OPTUNA)}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 48])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--guide-up-to", type=int, default=12, help="most trials that the guide's way runs")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    print("| trials | way | s | over the ideal | x ours |\n|---|---|---|---|---|")
    for trials in options.trials:
        base: tuple[float, Losses] | None = None
        for way in options.ways:
            if way == "guide" and trials > options.guide_up_to:
                continue
            with tempfile.TemporaryDirectory() as folder:
                seconds, trained, losses = WAYS[way](Path(folder), trials, options)
            base = base or (seconds, losses)
            if losses != base[1]:
                raise SystemExit(f"{way} must end with the losses of {options.ways[0]}, got {losses}, not {base[1]}.")
            over = seconds / (trained / options.slots)
            print(f"| {trials} | {way} | {seconds:.1f} | {over:.2f} | {seconds / base[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
