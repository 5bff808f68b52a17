"""A trial on disk: its network, which analysis looks into, and what a later attempt needs to go on from there."""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Self, final

import pyarrow.fs as pafs
import torch
from annotated_types import Ge, Le
from torch import nn

from trainables.architectures import build_network
from trainables.common.files import filesystem_of, with_retries, write_whole
from trainables.common.validation import configuration, one_line, quote
from trainables.config import TrialConfig, is_prefix_of
from trainables.state import TrainingState

FORMAT = 1
"""Raised whenever what a checkpoint holds changes; no other format is read."""

MAX_COUNT = 10**6
"""Of epochs and of classes: a guard against damaged files."""

PREVIOUS = "previous.pt"
"""Name of the checkpoint before the latest, in the same folder."""


Count = Annotated[int, Ge(1), Le(MAX_COUNT)]


@final
@configuration
class Checkpoint:
    """A network as it stood after an epoch, with all that is needed to build it again.

    Raises:
        ValueError: a field is not of its type, or a count is beyond `MAX_COUNT`.
    """

    config: TrialConfig
    num_classes: Count
    epoch: Count
    """Counted from 1."""
    weights: Mapping[str, torch.Tensor]
    """The network's `state_dict`, contiguous on the CPU."""
    training: TrainingState
    """What the trial needs to resume."""

    @classmethod
    def of(cls, model: nn.Module, config: TrialConfig, num_classes: int, epoch: int, training: TrainingState) -> Self:
        """Return a copy of what `model` is now."""
        weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
        return cls(config=config, num_classes=num_classes, epoch=epoch, weights=weights, training=training)

    def network(self) -> nn.Module:
        """Return the network, on the CPU and in evaluation mode.

        Raises:
            ValueError: the variant is not known here, or the weights are not those of such a network.
        """
        # Without memory first: a damaged configuration may describe a network larger than any machine.
        with torch.device("meta"):
            expected = build_network(self.config, self.num_classes).state_dict()
        wrong = [name for name in sorted({*expected, *self.weights}) if not _alike(expected, self.weights, name)]
        if wrong:
            raise ValueError(
                f"The checkpoint must hold the weights of a {self.config.variant} of width "
                f"{self.config.architecture.width:g}, got those of another network ({quote(wrong[0])} differs)."
            )
        model = build_network(self.config, self.num_classes)
        model.load_state_dict(dict(self.weights))
        return model.eval()

    def save(self, location: str, *, keep_previous: bool = False) -> None:
        """Write it to a path or URI: whole or not at all.

        Args:
            location: a file; what is there gives way.
            keep_previous: keep that as `PREVIOUS` in the same folder first, so that at any moment one is whole.
        """
        buffer = io.BytesIO()
        torch.save(
            {
                "format": FORMAT,
                "config": json.dumps(self.config.to_dict()),
                "num_classes": self.num_classes,
                "epoch": self.epoch,
                "weights": dict(self.weights),
                "training": self.training.pack(),
            },
            buffer,
        )
        filesystem, path = filesystem_of(location)
        if keep_previous and with_retries(lambda: filesystem.get_file_info(path)).is_file:
            # An object store has no renaming, and shows the old file until the new one is whole.
            keep = filesystem.move if isinstance(filesystem, pafs.LocalFileSystem) else filesystem.copy_file
            with_retries(lambda: keep(path, _previous(path)))
        write_whole(filesystem, path, buffer.getvalue())

    @classmethod
    def load(cls, location: str) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: there is none, or it is damaged or of another format.
        """
        filesystem, path = filesystem_of(location)
        return cls._load(filesystem, path, location)

    @classmethod
    def _load(cls, filesystem: pafs.FileSystem, path: str, location: str) -> Self:
        try:
            raw = with_retries(lambda: _read_file(filesystem, path))
        except FileNotFoundError as error:
            raise ValueError(f"A checkpoint must lie at {location}, got none there.") from error
        except OSError as error:
            raise ValueError(f"{location} must be a file that can be read, got {one_line(error)}.") from error
        held = _read(raw, location)
        try:
            return cls(
                config=TrialConfig.from_dict(json.loads(held["config"])),
                num_classes=held["num_classes"],
                epoch=held["epoch"],
                weights=held["weights"],
                training=TrainingState.unpack(held["training"]),
            )
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"{location} must hold a trial's configuration and weights, got {one_line(error)}."
            ) from error


def find_start(location: str, config: TrialConfig, num_classes: int) -> Checkpoint | None:
    """Return where an earlier attempt at a trial stood, or None where it must begin anew.

    That is the checkpoint at `location`, or the one before it where a warning says why not that one. One of the same
    trial with fewer epochs is a start too, where it is the beginning of the longer one. A trial must begin
    anew where neither is there, or, with a warning, where neither can be gone on from.
    """
    filesystem, path = filesystem_of(location)
    for place in (path, _previous(path)):
        if not with_retries(partial(filesystem.get_file_info, place)).is_file:
            continue
        try:
            found = Checkpoint._load(filesystem, place, place)
            held = replace(found.config, data=config.data, plugins=config.plugins, **_same_arithmetic(found, config))
            if not is_prefix_of(held, config) or found.num_classes != num_classes:
                raise ValueError(f"{place} must be of this trial, got that of another one.")
            found.network()
        except ValueError as error:
            warnings.warn(f"A trial goes back to what it had before. {error}", stacklevel=2)
        else:
            return found if held == config else replace(found, config=config, training=found.training.reopened())
    return None


def _read_file(filesystem: pafs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as stream:
        return stream.read()  # type: ignore[no-any-return]


def _same_arithmetic(found: Checkpoint, config: TrialConfig) -> dict[str, Any]:
    """Return the settings of arithmetic that mean in `found` what they mean in `config`.

    What a trial was told to choose by itself and what it chose are the same: a run that goes on names the latter.
    """
    same = {}
    for name, chosen in found.training.reports[-1].arithmetic.items():
        held, wanted = getattr(found.config, name), getattr(config, name)
        if "auto" in (held, wanted) and {held, wanted} <= {"auto", chosen}:
            same[name] = wanted
    return same


def _previous(path: str) -> str:
    return f"{path.rpartition('/')[0]}/{PREVIOUS}"


def _read(raw: bytes, location: str) -> dict[str, Any]:
    try:
        # Torch does not look at the checksums that it writes: without this a flipped bit would be a weight.
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            # Torch writes nothing compressed: a file of some kilobytes cannot unpack to gigabytes.
            sizes = [entry.file_size for entry in archive.infolist()]
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()) or sum(sizes) > len(raw):
                raise zipfile.BadZipFile
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        with warnings.catch_warnings():
            # On another protocol of pickle than torch's own: it can be read or it cannot.
            warnings.simplefilter("ignore")
            held = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
    # What torch raises for a file that it did not write depends on the bytes that it meets first: IndexError, KeyError,
    # RuntimeError, struct.error and a dozen more.
    except Exception as error:
        raise ValueError(f"{location} must be a whole checkpoint, got one that cannot be read.") from error
    if not isinstance(held, dict) or type(held.get("format")) is not int or held["format"] != FORMAT:
        got = held.get("format") if isinstance(held, dict) else type(held).__name__
        raise ValueError(f"{location} must be a checkpoint of format {FORMAT}, got {quote(got)}.")
    return held


def _alike(expected: Mapping[str, torch.Tensor], held: Mapping[str, torch.Tensor], name: str) -> bool:
    if name not in expected or name not in held:
        return False
    one, other = expected[name], held[name]
    return one.shape == other.shape and one.dtype == other.dtype and other.layout == torch.strided
