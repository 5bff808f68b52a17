"""One Ray Train worker of a trial: wraps the loop, sums counts over the workers."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import nn

from trainables.checkpoint import Checkpoint, find_start
from trainables.common.registry import load_plugins
from trainables.config import TrialConfig
from trainables.data import StreamedDataset, hold_out, open_dataset, prepare
from trainables.data.batches import Feed, MemoryFeed
from trainables.epoch_report import EpochReport
from trainables.hardware import Arithmetic, choose_arithmetic
from trainables.loop import Ranks, stream_seed, train
from trainables.state import TrainingState

Report = Callable[[dict[str, Any]], None]


def train_worker(
    config: dict[str, Any], checkpoint: str | None = None, report: Report | None = None, cpus: int = 1
) -> None:
    """Train the trial that `config` describes, as one of the workers of a Ray Train worker group, or alone.

    Args:
        config: what `TrialConfig.to_dict` gave.
        checkpoint: path or URI at which the trial is kept after each epoch, and gone on from; None keeps none.
        report: where each epoch's numbers go; Ray Train's own report where it is None.
        cpus: threads that torch may use; a fixed number, since it decides how sums are rounded.

    Raises:
        ray.exceptions.RayActorError: its node, or in a group that of one of the workers, is about to be taken away. The
            last epoch is kept and reported; Ray takes this for the node's end, which is nobody's failure.
    """
    trial = TrialConfig.from_dict(config)
    load_plugins(trial.plugins)
    torch.set_num_threads(cpus)
    # Products in TF32 would not be the float32 that the record states; cuDNN's convolutions use it unless told not to.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    device = ray.train.torch.get_device()
    send = report or ray.train.report
    ranks = Ranks() if report else _group()
    feed = _feed(trial, device, ranks)

    def pass_on(epoch: EpochReport) -> None:
        send(epoch.to_dict())
        # The epoch just reported is kept: what would be trained from here on might be lost, and is not elsewhere.
        if epoch.state == "running" and (is_draining() if report else ray.train.get_preemption_info() is not None):
            message = f"Its node is being taken away; it left after epoch {epoch.epoch}."
            raise ray.exceptions.RayActorError(error_msg=message, preempted=True)

    def save(model: nn.Module, state: TrainingState) -> None:
        if checkpoint is not None and ranks.rank == 0:
            Checkpoint.of(model, trial, feed.num_classes, state.epoch, state).save(checkpoint, keep_previous=True)

    start = find_start(checkpoint, trial, feed.num_classes) if checkpoint is not None else None
    arithmetic = _agreed(trial, device, ranks, start, feed.steps_per_epoch)
    train(trial, feed, pass_on, device=device, arithmetic=arithmetic, ranks=ranks, start=start, save=save)


def is_draining() -> bool:
    """Return whether the node of this process has been told to leave its cluster."""
    if not ray.is_initialized():
        return False
    try:
        # What Ray Train itself asks for a worker group; outside of one there is no public way.
        leaving = ray._private.state.state.get_draining_nodes()
    except (ray.exceptions.RayError, RuntimeError):
        # The head does not answer: whether it comes back is found out at the next report.
        return False
    return ray.get_runtime_context().get_node_id() in leaving


def train_in_group(loop_config: dict[str, Any]) -> None:
    """Run `train_worker` with what the driver packed: Ray Train hands a worker one dictionary."""
    train_worker(json.loads(loop_config["trial"]), loop_config["checkpoint"], cpus=loop_config["cpus"])


def _feed(trial: TrialConfig, device: torch.device, ranks: Ranks) -> Feed:
    data = hold_out(open_dataset(trial.dataset, trial.data, trial.train_size), trial.held_out)
    seed = stream_seed(trial.seed, "order and augmentation")
    if isinstance(data, StreamedDataset):
        # Here, since Ray Data takes a second to load that most trials need not spend.
        from trainables.data.stream import StreamFeed

        return StreamFeed(data, trial, seed, device, ranks.rank, ranks.size)
    draws = torch.Generator().manual_seed(seed)
    return MemoryFeed(prepare(data, trial.preprocessing), trial, draws, device, ranks.rank, ranks.size)


def _agreed(
    trial: TrialConfig, device: torch.device, ranks: Ranks, start: Checkpoint | None, steps_per_epoch: int
) -> Arithmetic:
    if start is not None:
        # The first attempt's, which another machine would perhaps not choose.
        last = start.training.reports[-1]
        return Arithmetic(last.precision, last.memory_format, last.compiled)
    # Each machine measures by itself: without this two workers of a trial could come to different choices.
    choose = partial(choose_arithmetic, trial, device, steps_per_epoch=steps_per_epoch, workers=ranks.size)
    if ranks.size == 1:
        return choose()
    chosen = [choose() if ranks.rank == 0 else None]
    torch.distributed.broadcast_object_list(chosen, src=0)
    assert chosen[0] is not None, "the first worker has sent its choice"
    return chosen[0]


def _group() -> Ranks:
    # Within Ray Train's local mode in a Tune trial there is no context to ask, hence no call from there.
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Ranks()

    def add_up(counts: torch.Tensor) -> torch.Tensor:
        total = counts.clone()
        torch.distributed.all_reduce(total)
        return total

    def gather(own: Any) -> list[Any]:
        of_each = [None] * context.get_world_size()
        torch.distributed.all_gather_object(of_each, own)
        return of_each

    return Ranks(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        wrap=lambda model: ray.train.torch.prepare_model(model, move_to_device=False),
        add_up=add_up,
        gather=gather,
    )
