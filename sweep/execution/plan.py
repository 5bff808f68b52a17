"""Study -> the trials that a run may start, and what fits at once. Refuses bad input before a cluster starts."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import nn

from sweep.cluster.connect import Cluster
from sweep.execution.trial import Placement
from sweep.record.document import PlacementOptions
from sweep.search.searcher import rehearse
from sweep.study.catalog import STUDIES
from sweep.study.study import Study
from trainables.architectures import VARIANTS, build_network, count_parameters
from trainables.common.validation import one_line
from trainables.config import TrialConfig
from trainables.data import DATASETS, Dataset, StreamedDataset, StreamSource, count_classes, hold_out, open_dataset
from trainables.data.batches import check_share
from trainables.data.images import CROP
from trainables.data.source import IMAGE_SHAPE
from trainables.hardware import COMPILED_FROM_STEPS
from trainables.hyperparameters import is_structural, with_values
from trainables.recipe import network_of

MAX_WORKERS = 10_000
"""Workers of a trial: a guard against a slip of the finger."""


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study, checked against its data and the cluster it is to run on."""

    study: Study
    datasets: dict[str, Dataset | StreamedDataset]
    """The study's data sets by name, decoded or to be streamed."""
    parameters: dict[str, int]
    """Parameter count by cell."""
    placement: Placement
    slots: int
    """Trials that run at once, on the cluster at its largest."""
    cluster: Cluster
    asked: PlacementOptions
    """The options that `place` was given: a resumed run takes the same."""

    @property
    def trials(self) -> int:
        """Number of trials of both phases, if each cell has enough configurations to confirm."""
        return self.study.search_trials + self.study.confirm_trials

    @property
    def epochs(self) -> int:
        """Number of epochs, if no trial ends early; where they are searched, the most that there can be."""
        return self.trials * self.study.most_epochs

    @property
    def may_compile(self) -> bool:
        """Whether any trial may be compiled on a GPU."""
        study = self.study
        images = max((len(data.train) for data in self.datasets.values()), default=0)
        # The smallest batches make the most steps.
        by_epochs = study.most_epochs * math.ceil(images / min(_batch_sizes(study)))
        steps = max(by_epochs if each is None else int(each) for each in study.tried("iterations"))
        compiled = study.tried("compiled")
        return bool(self.placement.gpus_per_worker) and (
            "yes" in compiled or ("auto" in compiled and steps >= COMPILED_FROM_STEPS)
        )

    @property
    def slots_now(self) -> int:
        """Trials that the nodes that are up have room for: fewer than `slots` where the cluster has yet to grow."""
        return min(self.slots, room(self.cluster.nodes, self.placement))


def named_study(name: str) -> Study:
    """Return the registered study of that name.

    Raises:
        ValueError: there is none, or its function, which may be a user's own, returns no study of that name.
    """
    with _users_code(f"The study {name} must be a function that returns a Study"):
        study = STUDIES[name]()
    if not isinstance(study, Study) or study.name != name:
        got = f"one named {study.name!r}" if isinstance(study, Study) else repr(study)
        raise ValueError(f"The study {name} must return a Study of that name, got {got}.")
    return study


@contextmanager
def _users_code(must: str) -> Iterator[None]:
    """Turn what a user's own code raises, which may be anything, into bad input; ValueError and OSError stay.

    Raises:
        ValueError: `must`, and what was raised.
    """
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{must}, got {one_line(f'{type(error).__name__}: {error}')}.") from error


def check_study(study: Study) -> dict[str, int]:
    """Return the parameter count of each cell's network.

    Raises:
        ValueError: a name is unknown, a network cannot be built as the study says or takes no images of their size, or
            the search cannot be done.
    """
    counts = {}
    for cell in study.cells():
        VARIANTS[network_of(cell.variant)]
        counts[cell.cell] = _check_cell(cell)
        for name, dimension in study.space_of(cell.variant).items():
            # Values that change no network need no building of one.
            for value in dimension.ends if is_structural(name) else ():
                _check_cell(with_values(cell, {name: value}))
    rehearse(study)
    return counts


def _check_cell(cell: TrialConfig) -> int:
    """Return the parameter count of a trial's network."""
    _check_source(cell)
    num_classes = count_classes(cell.dataset, cell.data)
    with torch.device("meta"):
        model = _built(cell, num_classes)
        _check_forward(model, cell, num_classes)
    return count_parameters(model)


def _batch_sizes(study: Study) -> set[int]:
    return {size for size in study.tried("batch_size") if isinstance(size, int)}


def streams(study: Study) -> bool:
    """Return whether the study reads a streamed data set."""
    return any(isinstance(DATASETS[name], StreamSource) for name in study.datasets)


def data_location(study: Study) -> str | None:
    """Return the folder or URI that the study's trials read; None where they make or download all that they need."""
    sources = [DATASETS[name] for name in study.datasets]
    reads = any(isinstance(source, StreamSource) or not source.generated for source in sources)
    return study.base.data if reads else None


def _check_source(cell: TrialConfig) -> None:
    streamed = isinstance(DATASETS[cell.dataset], StreamSource)
    fit = ("none", "crop-flip") if streamed else ("none", "flip-shift", "heavy")
    if cell.augmentation not in fit:
        raise ValueError(f"augmentation must be one of {', '.join(fit)} for {cell.dataset}, got {cell.augmentation!r}.")
    if streamed and cell.preprocessing != "standardise":
        raise ValueError(
            f"preprocessing must be standardise for {cell.dataset}, which is streamed, got {cell.preprocessing!r}."
        )
    if streamed and cell.canvas is not None:
        raise ValueError(f"canvas must be left out for {cell.dataset}, which is streamed, got {cell.canvas}.")
    if cell.iterations is not None and not streamed:
        raise ValueError(
            f"iterations must be left out for {cell.dataset}, which is not streamed, got {cell.iterations}."
        )


def _check_forward(model: nn.Module, cell: TrialConfig, num_classes: int) -> None:
    """Check that a network takes two images of the trial's size and gives logits for them."""
    smallest = CROP if isinstance(DATASETS[cell.dataset], StreamSource) else max(IMAGE_SHAPE[1:])
    side = cell.canvas or smallest
    if side < smallest:
        raise ValueError(f"canvas must be at least {smallest}, the side of the images in px, got {side}.")
    shape = 2, *IMAGE_SHAPE[:1], side, side
    try:
        try:
            logits = model(torch.zeros(shape))
        except RuntimeError:
            # A user's network may compute what has no shape alone, such as a number of Python's: only pixels tell then.
            with torch.device("cpu"):
                _built(cell, num_classes)(torch.zeros(shape))
            return
    except RuntimeError as error:
        raise ValueError(
            f"canvas must make images that {cell.variant} can take, got {cell.canvas}, which makes them "
            f"{side}x{side} px ({one_line(error)}); set another canvas or leave out that variant."
        ) from error
    except Exception:  # whatever else a user's network raises: its trial says so, and the other trials go on
        return
    got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        raise ValueError(
            f"The variant {cell.variant} must give a tensor of logits of shape (N, {num_classes}), one for each class "
            f"of {cell.dataset}, got {got} from 2 images."
        )


def _built(cell: TrialConfig, num_classes: int) -> nn.Module:
    with _users_code(f"The variant {cell.variant} must build a network"):
        model = build_network(cell, num_classes)
    if not count_parameters(model):
        raise ValueError(f"The variant {cell.variant} must have parameters to train, got none.")
    return model


def open_data(study: Study) -> dict[str, Dataset | StreamedDataset]:
    """Return the study's data sets, decoded, so that bad data is refused before anything starts.

    Raises:
        ValueError: a data set is missing, broken, smaller than the study asks for, or too small to hold images out.
    """
    datasets = {}
    held_out = study.cells()[0].held_out  # all cells' alike
    for name in study.datasets:
        with _users_code(f"The data set {name} must be readable by its source"):
            datasets[name] = open_dataset(name, study.base.data, study.base.train_size)
        hold_out(datasets[name], held_out)
    return datasets


def make_plan(
    study: Study,
    *,
    parameters: dict[str, int],
    datasets: dict[str, Dataset | StreamedDataset],
    cluster: Cluster,
    workers: int | None = None,
    gpus: float | None = None,
    max_concurrent: int | None = None,
) -> Plan:
    """Return the plan of a checked study on a cluster.

    `parameters` comes from `check_study`, `datasets` from `open_data`; the last three are for `place`.

    Raises:
        ValueError: one trial does not fit the cluster.
    """
    placement, slots = place(cluster, workers=workers, gpus=gpus, max_concurrent=max_concurrent)
    if streams(study):
        for size in _batch_sizes(study):
            check_share(size, max(1, placement.workers))
        # Half of each worker's CPU is left to the tasks that decode its images: they can always start.
        placement = replace(placement, cpus_for_data=0.5)
    if not placement.gpus_per_worker:
        placement = replace(placement, node_cpus=max(cpus for cpus, _ in cluster.nodes))
    return Plan(
        study=study,
        datasets=datasets,
        parameters=parameters,
        placement=placement,
        slots=slots,
        cluster=cluster,
        asked=PlacementOptions(workers_per_trial=workers, gpus_per_trial=gpus, max_concurrent=max_concurrent),
    )


def place(
    cluster: Cluster, *, workers: int | None, gpus: float | None, max_concurrent: int | None
) -> tuple[Placement, int]:
    """Return what each trial gets of the cluster, and how many run at once.

    Args:
        cluster: what there is.
        workers: size of a Ray Train worker group; None trains in the trial's own process.
        gpus: GPUs of a trial; None takes one for each worker where the cluster has any.
        max_concurrent: upper bound on trials at once; None takes what fits.

    Raises:
        ValueError: one trial does not fit.
    """
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers_per_trial must be auto, or at least 1 and at most {MAX_WORKERS}, got {workers}.")
    if max_concurrent is not None and max_concurrent < 1:
        raise ValueError(f"max_concurrent must be at least 1, got {max_concurrent}.")
    if gpus is not None and not 0 <= gpus < math.inf:  # NaN too
        raise ValueError(f"gpus_per_trial must be at least 0, got {gpus:g}.")
    if workers is None and gpus is not None and gpus > 1 and gpus == int(gpus):
        # One process trains on one GPU.
        workers = int(min(gpus, MAX_WORKERS + 1))
    size = workers or 1
    if gpus is None:
        gpus = float(size if cluster.gpus else 0)
        if gpus > cluster.gpus:
            raise ValueError(
                f"workers_per_trial must be at most {cluster.gpus}, the GPUs of {cluster.address}, got {size}; "
                "add --gpus-per-trial 0 to train on CPUs."
            )
    if gpus not in (0, size) and not (size == 1 and gpus < 1):
        raise ValueError(
            f"gpus_per_trial must be 0, or {size} for one GPU to each worker, or below 1 where a single worker shares "
            f"a GPU, got {gpus:g}."
        )
    placement = Placement(workers=workers or 0, gpus_per_worker=gpus / size)
    if placement.gpus > cluster.gpus:
        raise ValueError(
            f"gpus_per_trial must be at most {cluster.gpus}, the GPUs of {cluster.address}, got {placement.gpus:g}."
        )
    if placement.cpus > cluster.cpus:
        raise ValueError(
            f"workers_per_trial must leave one trial within the {cluster.cpus} CPUs of {cluster.address}, "
            f"got {size}, which needs {placement.cpus}."
        )
    slots = room(cluster.most, placement)
    if not slots:
        raise ValueError(
            f"workers_per_trial must leave each worker a CPU and its GPU on one node of {cluster.address}, "
            f"got {size}, for which there is no room."
        )
    return placement, min(slots, max_concurrent or slots)


def room(nodes: Iterable[tuple[int, int]], placement: Placement) -> int:
    """Return how many trials fit nodes, given as CPUs and GPUs of each, at once."""
    return sum(_workers_that_fit(node, placement) for node in nodes) // max(1, placement.workers)


def _workers_that_fit(node: tuple[int, int], placement: Placement) -> int:
    cpus, gpus = node
    if not placement.gpus_per_worker:
        return cpus
    # A worker shares one GPU and cannot take its fraction from two.
    return min(cpus, gpus * int(1 / placement.gpus_per_worker + 1e-9))
