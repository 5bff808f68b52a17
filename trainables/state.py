"""What a trial needs, beside its network, to go on in another process as if nothing had happened."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NotRequired, Self, final

import torch
from typing_extensions import TypedDict  # what pydantic asks for before Python 3.12

from trainables.common.validation import configuration, from_plain
from trainables.ema import AverageState
from trainables.epoch_report import EpochReport


class OptimiserState(TypedDict):
    """What `Optimizer.state_dict` returns."""

    state: Mapping[int, Any]
    param_groups: Sequence[Mapping[str, Any]]


class GeneratorStates(TypedDict):
    """States of torch's own generators, which dropout draws from."""

    cpu: torch.Tensor
    cuda: NotRequired[torch.Tensor]


@final
@configuration
class TrainingState:
    """A trial between two epochs.

    Raises:
        ValueError: a field is not of its type.
    """

    reports: tuple[EpochReport, ...]
    """What every epoch so far did: the last of them may not have reached anybody."""
    unlearned_steps: int
    """See `trainables.evaluation.why_diverged`."""
    optimiser: OptimiserState
    """On the CPU."""
    feed: Mapping[str, Any]
    """What `Feed.state` returned."""
    generators: Sequence[GeneratorStates]
    """Of each worker, in order of rank."""
    average: AverageState | None
    """None where nothing is averaged, or no longer."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.reports)

    def reopened(self) -> Self:
        """Return the state of a completed trial that is to train more epochs; a diverged one stays ended."""
        *earlier, last = self.reports
        return replace(self, reports=(*earlier, replace(last, state="running"))) if last.state == "completed" else self

    def pack(self) -> dict[str, Any]:
        """Return tensors, numbers and text alone, which `torch.load` reads without running anything."""
        held = {item.name: getattr(self, item.name) for item in fields(self)}
        return held | {"reports": json.dumps([asdict(report) for report in self.reports])}

    @classmethod
    def unpack(cls, held: Mapping[str, Any]) -> Self:
        """Return what `pack` packed.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        reports = tuple(from_plain(EpochReport, one, "A report") for one in json.loads(held["reports"]))
        if [report.epoch for report in reports] != list(range(1, len(reports) + 1)) or not reports:
            raise ValueError("reports of every epoch from the first are needed")
        return cls(**{**held, "reports": reports})


def generators(device: torch.device) -> GeneratorStates:
    """Return the states of torch's own generators, that of the GPU where the device is one."""
    if device.type != "cuda":
        return {"cpu": torch.get_rng_state()}
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state(device)}


def restore_generators(states: GeneratorStates, device: torch.device) -> None:
    """Put torch's own generators where `generators` found them."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def optimiser_state(optimiser: torch.optim.Optimizer) -> OptimiserState:
    """Return a copy of an optimiser's state on the CPU, in plain containers."""

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().cpu().clone()
        if isinstance(value, Mapping):
            return {key: copied(item) for key, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, (list, tuple)) else value

    return copied(optimiser.state_dict())  # type: ignore[no-any-return]
