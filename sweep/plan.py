"""Study -> the trials that a run may start, and what fits at once. Refuses bad input before a cluster starts."""

from dataclasses import dataclass
from typing import final

import torch

from sweep.cluster import Cluster
from sweep.driver import Placement
from sweep.studies import Study
from trainables.architectures import VARIANTS, build, count_parameters
from trainables.data import DATASETS, Dataset, open_dataset


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study, checked against its data and the cluster it is to run on."""

    study: Study
    datasets: dict[str, Dataset]
    """The study's data sets by name, decoded."""
    parameters: dict[str, int]
    """Parameter count by cell."""
    placement: Placement
    slots: int
    """Trials that run at once."""
    cluster: Cluster

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.parameters) * self.study.points_per_cell

    @property
    def epochs(self) -> int:
        """Number of epochs, if no trial ends early."""
        return self.trials * self.study.base.epochs


def check_study(study: Study) -> dict[str, int]:
    """Return the parameter count of each cell's network.

    Raises:
        ValueError: a name is unknown, or a network cannot be built as the study says.
    """
    counts = {}
    for cell in study.cells():
        num_classes = DATASETS[cell.dataset].num_classes
        VARIANTS[cell.variant]
        with torch.device("meta"):
            counts[cell.cell] = count_parameters(build(cell.variant, cell.architecture, num_classes))
    return counts


def open_data(study: Study) -> dict[str, Dataset]:
    """Return the study's data sets, decoded, so that bad data is refused before anything starts.

    Raises:
        ValueError: a data set is missing, broken, or smaller than the study asks for.
    """
    return {name: open_dataset(name, study.base.data, study.base.train_size) for name in study.datasets}


def make_plan(
    study: Study,
    *,
    parameters: dict[str, int],
    datasets: dict[str, Dataset],
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
    return Plan(
        study=study, datasets=datasets, parameters=parameters, placement=placement, slots=slots, cluster=cluster
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
    if workers is not None and workers < 1:
        raise ValueError(f"workers_per_trial must be at least 1, got {workers}.")
    if max_concurrent is not None and max_concurrent < 1:
        raise ValueError(f"max_concurrent must be at least 1, got {max_concurrent}.")
    size = workers or 1
    if gpus is None:
        gpus = float(size if cluster.gpus else 0)
    if not gpus >= 0:  # NaN too
        raise ValueError(f"gpus_per_trial must be at least 0, got {gpus:g}.")
    if (gpus % size and size > 1) or (gpus > 1 and gpus % 1):
        raise ValueError(
            f"gpus_per_trial must be a whole number for each of the {size} workers, got {gpus:g}; "
            "only a trial of one worker may share a GPU."
        )
    placement = Placement(workers=workers or 0, gpus_per_worker=gpus / size)
    if placement.cpus > cluster.cpus:
        raise ValueError(
            f"workers_per_trial must leave one trial within the {cluster.cpus} CPUs of {cluster.address}, "
            f"got {size}, which needs {placement.cpus}."
        )
    if placement.gpus > cluster.gpus:
        raise ValueError(
            f"gpus_per_trial must be at most the {cluster.gpus} GPUs of {cluster.address}, got {placement.gpus:g}."
        )
    slots = cluster.cpus // placement.cpus
    if placement.gpus:
        slots = min(slots, int(cluster.gpus / placement.gpus + 1e-9))
    return placement, min(slots, max_concurrent or slots)
