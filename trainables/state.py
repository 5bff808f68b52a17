"""What a trial needs, beside its network, to go on in another process as if nothing had happened."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, final

import torch

from trainables.common.validation import check_names, from_plain, quote
from trainables.data.batches import Feed
from trainables.ema import WeightAverage
from trainables.epoch_report import EpochReport


@final
@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A trial between two epochs."""

    reports: tuple[EpochReport, ...]
    """What every epoch so far did: the last of them may not have reached anybody."""
    unlearned_steps: int
    """See `trainables.evaluation.why_diverged`."""
    optimiser: Mapping[str, Any]
    """The optimiser's `state_dict`, on the CPU."""
    feed: Mapping[str, Any]
    """What `Feed.state` returned."""
    generators: Sequence[Mapping[str, torch.Tensor]]
    """Torch's own generators on each worker, in order of rank; see `generators`."""
    average: Mapping[str, Any] | None
    """What `WeightAverage.state` returned; None where nothing is averaged, or no longer."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.reports)

    def reopened(self) -> Self:
        """Return the state of a completed trial that is to train more epochs; a diverged one stays ended."""
        *earlier, last = self.reports
        return replace(self, reports=(*earlier, replace(last, state="running"))) if last.state == "completed" else self

    def apply(
        self,
        *,
        optimiser: torch.optim.Optimizer,
        feed: Feed,
        average: WeightAverage | None,
        device: torch.device,
        rank: int,
    ) -> None:
        """Bring a trial that was just set up to where this one stood; its network has the weights already.

        Args:
            optimiser: of the same network.
            feed: of the same trial, not read from yet.
            average: of the network's weights.
            device: where dropout draws.
            rank: the worker's number. One that was not there before keeps the generators that it has.
        """
        optimiser.load_state_dict(dict(self.optimiser))
        feed.restore(self.feed)
        if average is not None and self.average is not None:
            average.restore(**self.average)
        if rank < len(self.generators):
            restore_generators(self.generators[rank], device)

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
        check_names(cls, held, "A training state")
        _check_state(held)
        reports = tuple(from_plain(EpochReport, one, "A report") for one in json.loads(held["reports"]))
        if [report.epoch for report in reports] != list(range(1, len(reports) + 1)) or not reports:
            raise ValueError("reports of every epoch from the first are needed")
        return cls(**{**held, "reports": reports})


def _check_state(held: Mapping[str, Any]) -> None:
    average = held["average"]
    good = {
        "unlearned_steps": type(held["unlearned_steps"]) is int,
        "optimiser": isinstance(held["optimiser"], Mapping) and {"state", "param_groups"} <= set(held["optimiser"]),
        "feed": isinstance(held["feed"], Mapping),
        "generators": isinstance(held["generators"], (list, tuple))
        and all(isinstance(states, Mapping) and _is_tensor(states.get("cpu")) for states in held["generators"]),
        "average": average is None
        or (
            isinstance(average, Mapping)
            and set(average) == {"averages", "steps"}
            and isinstance(average["averages"], (list, tuple))
            and all(map(_is_tensor, average["averages"]))
            and type(average["steps"]) is int
        ),
    }
    wrong = [name for name, is_good in good.items() if not is_good]
    if wrong:
        raise ValueError(f"{wrong[0]} must be what a training state holds, got {quote(held[wrong[0]])}")


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def generators(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's own generators, which dropout draws from: `cpu`, and `cuda` on a GPU."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore_generators(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Put torch's own generators where `generators` found them."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a copy of an optimiser's state on the CPU, in plain containers."""

    def copied(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().cpu().clone()
        if isinstance(value, Mapping):
            return {key: copied(item) for key, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, (list, tuple)) else value

    return copied(optimiser.state_dict())  # type: ignore[no-any-return]
