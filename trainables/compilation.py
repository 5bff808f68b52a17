"""A network as torch.compile makes it: the same weights, fewer and larger kernels."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainables.common.validation import one_line
from trainables.state import generators, restore_generators

Network = Callable[[torch.Tensor], torch.Tensor]
"""Takes images `(N, 3, H, W)` to logits `(N, classes)`."""


def compiled(model: nn.Module, attempt: Callable[[Network], None], device: torch.device, *, required: bool) -> Network:
    """Return `model` compiled for the batches of one size, or `model` itself, with a warning, where that fails.

    Dropout draws what it draws in the network as it is, so that the two differ in rounding alone; on a CPU, where
    `WordDropout` becomes torch's own dropout, the draws differ.

    Args:
        model: in training mode; the compiled one computes with its weights.
        attempt: runs the network that it is given forward and backward, by which it is compiled.
        device: of the model.
        required: whether a network that cannot be compiled is an error.

    Raises:
        ValueError: it is required, and fails.
    """
    # One process trains one trial after another: without this it would keep, and look through, what all of them made.
    torch.compiler.reset()
    # As one graph of fixed sizes, or not at all: a network compiled in pieces, or again and again, is slower.
    network = torch.compile(model, fullgraph=True, dynamic=False, options={"fallback_random": True})
    try:
        with _undone(model, device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, about its own means
            attempt(network)
    except torch.OutOfMemoryError:
        raise
    # What the compiler raises is of many kinds; an error of the network's own comes again without it.
    except Exception as error:
        message = f"torch.compile cannot compile this network on this machine: {one_line(error)}"
        if required:
            # A run keeps its `compiled`, and a trial that has begun compiled cannot resume without.
            raise ValueError(
                f"{message}. Resume the run on a machine with gcc and Triton (g++ on a CPU), or begin a new run with "
                "--set compiled=no."
            ) from error
        warnings.warn(f"{message}. It is trained without.", RuntimeWarning, stacklevel=2)
        return model
    return network


@contextmanager
def _undone(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore the random numbers to come and the network's buffers at the end of the context."""
    drawn, buffers = generators(device), [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        restore_generators(drawn, device)
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
