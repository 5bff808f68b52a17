"""One trial on the cluster: where Ray Tune meets Ray Train."""

import json
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self, final

import ray.train
import ray.tune
from ray.exceptions import RayActorError
from ray.train import PreemptionError, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Queue

from sweep.cluster.sharing import join_mps
from sweep.execution.failures import (
    NodeLostError,
    ProcessDiedError,
    SharedGpuError,
    TrialMemoryError,
    faults_shared,
    is_node_death,
    sizes_told,
)
from sweep.record.store import Store
from trainables.common.registry import load_plugin_texts
from trainables.worker import train_in_group, train_worker

HEAD = {"CPU": 0, "node:__internal_head__": 0.001}
"""Where drivers of worker groups live: without a CPU of their own, on the head, so that only a trial's own nodes
can end it."""


@final
@dataclass(frozen=True, kw_only=True)
class Placement:
    """What one trial claims of the cluster."""

    workers: int = 0
    """Workers of a Ray Train group; 0 trains in the trial's own process."""

    cpus_for_data: float = 0.0
    """How much of its one CPU core each worker does not claim, since Ray Data's tasks run on it."""

    gpus_per_worker: float = 0.0
    """GPUs of each worker; a fraction where workers share one."""

    @property
    def cpus(self) -> int:
        """CPU cores of a trial: one of each worker."""
        return max(1, self.workers)

    @property
    def claimed_cpus(self) -> float:
        """CPU cores that Ray sets aside for each worker."""
        return 1 - self.cpus_for_data

    @property
    def gpus(self) -> float:
        """GPUs of a trial."""
        return self.gpus_per_worker * max(1, self.workers)

    @property
    def shares_gpu(self) -> bool:
        """Whether a trial has a part of a GPU."""
        return 0 < self.gpus_per_worker < 1

    node_cpus: int = 0
    """CPU cores of the cluster's largest node, of which a trial that is to be by itself claims all; 0 where a trial has
    GPUs, of which it claims whole ones then."""

    def alone(self) -> Self:
        """Return the same with devices that no other trial shares."""
        return replace(self, gpus_per_worker=float(math.ceil(self.gpus_per_worker)))

    def resources(self, parameters: Mapping[str, Any] = MappingProxyType({})) -> ray.tune.PlacementGroupFactory:
        """Return what Tune reserves for the trial's driver.

        Args:
            parameters: those of `run_trial`; `alone` where the trial is to be by itself.
        """
        if self.workers:
            return ray.tune.PlacementGroupFactory([HEAD])
        here = self.alone() if parameters.get("alone") else self
        cpus = max(self.node_cpus, self.claimed_cpus) if parameters.get("alone") else self.claimed_cpus
        return ray.tune.PlacementGroupFactory([{"CPU": cpus, "GPU": here.gpus_per_worker}])


LOSS_IS_SEEN_AFTER_S = 30.0
"""How long Ray may take to notice that a node is gone, after the workers elsewhere have."""


@final
class _Forward(ray.train.UserCallback):  # type: ignore[misc]
    """Puts what the first worker reports into a queue.

    Ray's own TuneReportCallback loses an epoch now and then: its queue is looked into by turns with a second one, and a
    group that ends between the two looks takes its last report with it (Ray 2.60).
    """

    def __init__(self, reports: Queue) -> None:
        self._reports = reports

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:  # noqa: ARG002
        self._reports.put(metrics[0])


def forward_reports(work: Callable[[], object], reports: Queue, send: Callable[[dict[str, Any]], object]) -> None:
    """Do `work` in a thread beside this one, and send here each report that it puts into `reports`, to the last one.

    Args:
        work: returns once all its reports are in the queue.
        reports: empty, and for this call alone; `None` ends it.
        send: may block, as Tune's does until it wants to go on; `work` then waits for room in the queue.

    Raises:
        BaseException: what `work` raised, after its reports have been sent.
    """
    raised: list[BaseException] = []

    def work_to_the_end() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            reports.put(None)

    # A daemon: a trial that Tune stops early must not wait for its training to end.
    threading.Thread(target=work_to_the_end, daemon=True).start()
    while (report := reports.get()) is not None:
        send(report)
    if raised:
        raise raised[0]


def attempt_name(parameters: Mapping[str, Any]) -> str:
    """Return the name of one attempt at a trial, for Ray: a folder of its own for each."""
    attempt = parameters.get("attempt", 0)
    return str(parameters["trial_id"]) + (f"_again_{attempt}" if attempt else "")


def run_trial(
    parameters: dict[str, Any], *, placement: Placement, run: str, execution: str, plugins: Mapping[str, bytes]
) -> None:
    """Train one trial and report each epoch to Ray Tune, from the first on, also where an earlier attempt trained some.

    Args:
        parameters: `trial_id`; `config`, what `TrialConfig.to_dict` gave; `attempt`, how often the trial was begun
            before in this execution, 0 where it is left out; and `alone`, whether it is to share no device.
        placement: what the trial may use.
        run: the run's folder or URI.
        execution: name of the folder in the run's `tune` for Ray Train's own state.
        plugins: text of the user's Python files by path, which the node may not have.
    """
    store = Store(run)
    _check_reachable(run)
    checkpoint = store.checkpoint(parameters["trial_id"])
    if parameters.get("alone"):
        placement = placement.alone()
    # Before the plugins, which may use CUDA.
    shares_by_mps = placement.workers == 0 and placement.shares_gpu and join_mps()
    load_plugin_texts(plugins)
    if placement.workers == 0:
        _run_here(parameters["config"], checkpoint, placement, shares_by_mps=shares_by_mps)
    else:
        _run_in_group(parameters, checkpoint, placement, store, execution, plugins)


def _check_reachable(run: str) -> None:
    # Nodes that were up before the first trial have passed sweep.cluster.preflight; this one may have come later.
    try:
        if Store(run).exists():
            return
        reason = "no study.json is there"
    except ValueError as error:
        reason = str(error)
    raise ValueError(
        f"The run's folder must be reachable from every node, got {run!r}, which the node {platform.node()} does not "
        f"share ({reason}); name an NFS folder or a URI with --output."
    )


def _run_here(config: dict[str, Any], checkpoint: str, placement: Placement, *, shares_by_mps: bool) -> None:
    # Ray Train's local mode: no process is started and no report waits for a poll.
    def train_here() -> None:
        with faults_shared() if shares_by_mps else nullcontext(), sizes_told():
            train_worker(config, checkpoint, ray.tune.report, cpus=1)

    TorchTrainer(
        train_here,
        scaling_config=ray.train.ScalingConfig(num_workers=0, use_gpu=placement.gpus_per_worker > 0),
    ).fit()


class _JoinsMps(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray's own, which has no public name
    """Sets a worker up that shares a GPU: with MPS, before Ray Train uses CUDA there."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(join_mps)
        super().on_start(worker_group, backend_config)


@final
class _OnSharedGpu(TorchConfig):  # type: ignore[misc]
    @property
    def backend_cls(self) -> type[_JoinsMps]:
        return _JoinsMps


def _train_on_node(loop_config: dict[str, Any]) -> None:
    _check_reachable(loop_config["run"])
    load_plugin_texts(loop_config["plugins"])
    shares_by_mps = loop_config["shares_gpu"] and join_mps()
    with faults_shared() if shares_by_mps else nullcontext(), sizes_told():
        train_in_group(loop_config)


def _run_in_group(
    parameters: dict[str, Any],
    checkpoint: str,
    placement: Placement,
    store: Store,
    execution: str,
    plugins: Mapping[str, bytes],
) -> None:
    # The controller looks for reports this often; its default of 2 s would cost more than a small epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.05")
    # The dashboard's Train page shows nothing without this.
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    per_worker = {"CPU": placement.claimed_cpus}
    if placement.gpus_per_worker:
        per_worker["GPU"] = placement.gpus_per_worker
    # One place: workers that are ahead of Tune's decision wait, and are not ahead by more than an epoch or two.
    reports = Queue(maxsize=1, actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _train_on_node,
        train_loop_config={
            "run": store.location,
            "plugins": dict(plugins),
            "trial": json.dumps(parameters["config"]),
            "checkpoint": checkpoint,
            "cpus": 1,
            "shares_gpu": placement.shares_gpu,
        },
        torch_config=_OnSharedGpu() if placement.shares_gpu else None,
        scaling_config=ray.train.ScalingConfig(
            num_workers=placement.workers, use_gpu=placement.gpus_per_worker > 0, resources_per_worker=per_worker
        ),
        run_config=ray.train.RunConfig(
            storage_path=store.folder(f"tune/{execution}"),
            name=f"train-{attempt_name(parameters)}",
            callbacks=[_Forward(reports)],
            # Not by Ray Train itself: the trial's place is free for others meanwhile, and the record counts it.
            failure_config=ray.train.FailureConfig(max_failures=0, max_preemption_failures=0),
        ),
    )
    up = _nodes_up()

    def send(report: dict[str, Any]) -> None:
        nonlocal up
        up = _nodes_up()
        ray.tune.report(report)

    try:
        forward_reports(trainer.fit, reports, send)
    except PreemptionError as error:
        raise NodeLostError("a node of the trial's was taken back") from error
    except WorkerGroupError as error:
        if placement.workers > 1 and _is_one_lost(up):
            raise NodeLostError("a node was lost while the trial ran on several") from error
        # Ray Train wraps what it found when it asked how a worker does.
        failures = error.worker_failures.values()
        causes = [getattr(failure, "health_check_failure", failure) for failure in failures]
        if any(is_node_death(cause) for cause in causes):
            raise NodeLostError("the node of the trial's worker was lost") from error
        # What the trial's own code raised, Ray Train keeps in another exception.
        for cause in (getattr(cause, "_base_exc", cause) for cause in causes):
            if isinstance(cause, TrialMemoryError | SharedGpuError):
                raise cause from error
        if any(isinstance(cause, RayActorError) for cause in causes):
            raise ProcessDiedError("a worker of the trial's ended without a word") from error
        raise


def _nodes_up() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _is_one_lost(before: set[str]) -> bool:
    """Return whether a node of these is gone, or goes within the time that Ray takes to see it.

    A worker whose partner has vanished fails at once, by an error of its own; Ray hears of the node's end later.
    """
    deadline = time.monotonic() + LOSS_IS_SEEN_AFTER_S
    while not before - _nodes_up():
        if len(before) == 1 or time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True
