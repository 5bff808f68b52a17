"""Runs the loop's training step: kernel by kernel, or, on a GPU, recorded once and replayed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import final

import torch
from torch import nn

from trainables.compilation import Network, compiled
from trainables.data.batches import Batch
from trainables.hardware import Arithmetic

STEPS_BEFORE_RECORDING = 3
"""Steps done kernel by kernel first: libraries choose their algorithms and the optimiser makes its buffers then, which
a recording cannot hold."""

_KNOWN = ("torch.nn.", "trainables.")
"""Where modules come from whose forward pass is known to launch the same kernels each time."""


@final
class Step:
    """Runs the training step that the loop defines, of one trial on one worker.

    A small network's kernels take less time on a GPU than Python takes to launch them. So from the fourth step on a
    step of the usual size is recorded, as a CUDA graph, and replayed as one launch: the same kernels on the same
    memory, and the same draws of dropout. Steps of another size, such as an epoch's last, are done kernel by kernel.

    Where the arithmetic says so, steps of the usual size run the compiled network, within the recording too; a second
    compilation for the others would cost more than it gains.
    """

    def __init__(
        self,
        update: Callable[[Network, Batch], None],
        forward_backward: Callable[[Network, Batch], object],
        model: nn.Module,
        wrapped: nn.Module,
        *,
        batch_size: int,
        device: torch.device,
        arithmetic: Arithmetic,
        workers: int,
        must_compile: bool = False,
    ) -> None:
        """Begin with nothing recorded.

        Args:
            update: takes one step with the network that it is given. A replay repeats its kernels, not its Python: of
                what changes between steps it may read the batch's images and labels, and tensors on the GPU.
            forward_backward: its forward and backward passes alone, with which the network is compiled.
            model: the network.
            wrapped: the same as it is called; another one where workers share a batch.
            batch_size: images of a batch whose step is recorded and compiled.
            device: of all of it.
            arithmetic: of the forward pass.
            workers: of the trial.
            must_compile: whether a network that is to be compiled and cannot be is an error; otherwise it is trained
                as it is, with a warning, and without one where it has modules of the user's own, whose Python code
                could make torch compile it anew at each step.
        """
        self._update, self._forward_backward, self._wrapped = update, forward_backward, wrapped
        self._batch_size, self._device, self._arithmetic = batch_size, device, arithmetic
        is_known = can_be_recorded(model)
        self._is_to_record = device.type == "cuda" and workers == 1 and is_known
        self._is_to_compile = arithmetic.compiled and (must_compile or is_known)
        self._must_compile = must_compile
        self._usual: Network = wrapped
        """The network in steps of the usual size."""
        self._done = 0
        self._replay: Callable[[], None] | None = None
        self._images = self._labels = torch.empty(0)

    def __call__(self, batch: Batch) -> None:
        """Take one step."""
        is_usual = len(batch.labels) == self._batch_size
        if is_usual and self._is_to_compile:
            self._compile(batch)
        if not is_usual:
            self._update(self._wrapped, batch)
            return
        if not self._is_to_record:
            self._update(self._usual, batch)
            return
        self._done += 1
        if self._done <= STEPS_BEFORE_RECORDING:
            with _beside(self._device):
                self._update(self._usual, batch)
            return
        if self._replay is None:
            self._replay = self._record(batch)
            if self._replay is None:
                self._update(self._usual, batch)
                return
        self._images.copy_(batch.images)
        self._labels.copy_(batch.labels)
        self._replay()

    @property
    def compiled(self) -> bool:
        """Whether steps run the compiled network; False before the first one of the usual size."""
        return self._usual is not self._wrapped

    def _compile(self, batch: Batch) -> None:
        def attempt(network: Network) -> None:
            with _beside(self._device):
                self._forward_backward(network, batch)

        self._is_to_compile = False
        self._usual = compiled(self._wrapped, attempt, self._device, required=self._must_compile)

    def _record(self, batch: Batch) -> Callable[[], None] | None:
        self._images = batch.images.contiguous(memory_format=self._arithmetic.layout).clone()
        self._labels = batch.labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._update(self._usual, replace(batch, images=self._images, labels=self._labels))
        except RuntimeError as error:
            # Nothing has been computed: what cannot be recorded is done as it comes, only slower.
            warnings.warn(f"This network's step is not recorded as a CUDA graph: {error}", RuntimeWarning, stacklevel=2)
            self._is_to_record = False
            # A recording that fails leaves dropout's generator in the midst of it.
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
            return None
        return graph.replay


@contextmanager
def _beside(device: torch.device) -> Iterator[None]:
    """Work on another stream, which waits for this one and which this one waits for, as a recording will."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


def can_be_recorded(model: nn.Module) -> bool:
    """Return whether a network's step is sure to launch the same kernels each time.

    A module of the user's own may draw in Python, count or branch, which a replay would do as it was done once.
    """
    return all(
        type(module).__module__.startswith(_KNOWN) and not module._forward_hooks and not module._forward_pre_hooks
        for module in model.modules()
    )
