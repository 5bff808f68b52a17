"""What a device could do and what a network asks of it, in floating-point operations."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def matrix_rate(device: torch.device) -> float:
    """Return the floating-point operations per second of a large bfloat16 matrix product, the best of twelve."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def operations(network: nn.Module, device: torch.device) -> float:
    """Return the floating-point operations of training a network on the device on one image, forward and backward."""
    with FlopCounterMode(display=False) as counted:
        network(torch.randn(1, 3, 32, 32, device=device)).sum().backward()
    return float(counted.get_total_flops())
