"""One step of training: kernel by kernel, or, on a GPU, recorded once and replayed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import nn
from torch.nn import functional

from trainables.compilation import Network, compiled
from trainables.config import TrialConfig
from trainables.data.batches import Batch
from trainables.hardware import Arithmetic
from trainables.optimiser import rescale_velocity

TOP = 5
"""A class among this many of the likeliest is a hit for the top-5 error."""

STEPS_BEFORE_RECORDING = 3
"""Steps done kernel by kernel first: libraries choose their algorithms and the optimiser makes its buffers then, which
a recording cannot hold."""

_KNOWN = ("torch.nn.", "trainables.")
"""Where modules come from whose forward pass is known to launch the same kernels each time."""


def tally_of(logits: torch.Tensor, labels: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """Return float64 `(4,)`: loss sum, misclassified, not among the likeliest five, images.

    Args:
        logits: `(N, classes)`.
        labels: int64 `(N,)`.
        loss: sum over the images, in nats.
    """
    logits = logits.detach()
    wrong = (logits.argmax(1) != labels).sum()
    likeliest = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    missed = (likeliest != labels[:, None]).all(1).sum()
    # Made where it is needed: a copy from the CPU would wait for the GPU, and could not be recorded.
    images = torch.full((), len(labels), dtype=torch.float64, device=labels.device)
    return torch.stack([loss.detach().double(), wrong.double(), missed.double(), images])


@final
class Step:
    """Does the steps of one trial on one worker.

    A small network's kernels take less time on a GPU than Python takes to launch them. So from the fourth step on a
    step of the usual size is recorded, as a CUDA graph, and replayed as one launch: the same kernels on the same
    memory, and the same draws of dropout. Steps of another size, such as an epoch's last, are done kernel by kernel.

    Where the arithmetic says so, steps of the usual size run the compiled network, within the recording too; a second
    compilation for the others would cost more than it gains.
    """

    def __init__(
        self,
        model: nn.Module,
        wrapped: nn.Module,
        optimiser: torch.optim.Optimizer,
        config: TrialConfig,
        *,
        device: torch.device,
        arithmetic: Arithmetic,
        workers: int,
        must_compile: bool = False,
    ) -> None:
        """Begin with nothing recorded.

        Args:
            model: the network.
            wrapped: the same as it is called; another one where workers share a batch.
            optimiser: what `make_optimiser` made of the network, its state restored if it is to be; on a GPU it becomes
                the fused one.
            config: the trial's. A step of its batch size is worth recording.
            device: of all of it.
            arithmetic: of the forward pass.
            workers: of the trial.
            must_compile: whether a network that is to be compiled and cannot be is an error; otherwise it is trained
                as it is, with a warning, and without one where it has modules of the user's own, whose Python code
                could make torch compile it anew at each step.
        """
        self.tally = torch.zeros(4, dtype=torch.float64, device=device)
        """See `tally_of`; the sum since it was last set to zero, in place."""
        self._wrapped, self._optimiser, self._device, self._arithmetic = wrapped, optimiser, device, arithmetic
        self._config, self._workers = config, workers
        self._parameters = list(model.parameters())
        is_known = can_be_recorded(model)
        self._is_to_record = device.type == "cuda" and workers == 1 and is_known
        self._is_to_compile = arithmetic.compiled and (must_compile or is_known)
        self._must_compile = must_compile
        self._usual: Network = wrapped
        """The network in steps of the usual size."""
        # A recorded step reads the learning rates from where they were recorded, so they live on the GPU.
        self._rates = [torch.zeros((), device=device) for _ in optimiser.param_groups] if device.type == "cuda" else []
        for group in optimiser.param_groups:
            group["fused"] = True if device.type == "cuda" else None
        self._done = 0
        self._replay: Callable[[], None] | None = None
        self._images = self._labels = torch.empty(0)

    def __call__(self, batch: Batch, lr: float) -> None:
        """Take one step at a learning rate, and add what it saw to the tally."""
        self._set(lr)
        is_usual = len(batch.labels) == self._config.batch_size
        if is_usual and self._is_to_compile:
            self._compile(batch)
        if not self._is_to_record or not is_usual:
            self._compute(batch.images, batch.labels, batch.whole)
            return
        self._done += 1
        if self._done <= STEPS_BEFORE_RECORDING:
            with _beside(self._device):
                self._compute(batch.images, batch.labels, batch.whole)
            return
        if self._replay is None:
            self._replay = self._record(batch)
            if self._replay is None:
                self._compute(batch.images, batch.labels, batch.whole)
                return
        self._images.copy_(batch.images)
        self._labels.copy_(batch.labels)
        self._replay()

    @property
    def compiled(self) -> bool:
        """Whether steps run the compiled network; False before the first one of the usual size."""
        return self._usual is not self._wrapped

    def _set(self, lr: float) -> None:
        if self._config.momentum_form == "caffe":
            rescale_velocity(self._optimiser, lr)
        for number, group in enumerate(self._optimiser.param_groups):
            rate = lr * group["lr_factor"]
            group["lr"] = self._rates[number].fill_(rate) if self._rates else rate

    def _compile(self, batch: Batch) -> None:
        def attempt(network: Network) -> None:
            with _beside(self._device):
                self._differentiate(network, batch.images, batch.labels, batch.whole)

        self._is_to_compile = False
        self._usual = compiled(self._wrapped, attempt, self._device, required=self._must_compile)

    def _compute(self, images: torch.Tensor, labels: torch.Tensor, whole: int) -> None:
        network = self._usual if len(labels) == self._config.batch_size else self._wrapped
        logits, loss = self._differentiate(network, images, labels, whole)
        if self._config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._config.max_grad_norm)
        self._optimiser.step()
        self.tally += tally_of(logits, labels, loss)

    def _differentiate(
        self, network: Network, images: torch.Tensor, labels: torch.Tensor, whole: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the weights' gradients, and return logits and the loss summed over the images."""
        with self._arithmetic.autocast(self._device):
            logits = network(images.contiguous(memory_format=self._arithmetic.layout))
        loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
        self._optimiser.zero_grad(set_to_none=True)
        # The workers' gradients are averaged: this factor makes the average that of the whole batch.
        torch.autograd.backward(loss * (self._workers / whole))
        return logits, loss

    def _record(self, batch: Batch) -> Callable[[], None] | None:
        self._images = batch.images.contiguous(memory_format=self._arithmetic.layout).clone()
        self._labels = batch.labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._compute(self._images, self._labels, batch.whole)
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
