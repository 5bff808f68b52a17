"""Where the time of a training step goes on a CPU, and what its convolutions take by themselves.

    python -m benchmarks.step_profile [--variants NAME ...] [--batch N] [--repeats N] [--claims FILE]

First each convolution of a network is done alone, forward and backward in bfloat16 as a step does it, on maps of the
size that it has there; the fastest of `TURNS` counts, and what is printed is the last repeat. Its share is that of the
rate at which this machine multiplies large matrices in bfloat16, measured in the same repeat; for all together stands
what a training step would reach if there were nothing else. Then two epochs of `trainables.loop.train`, with the test
after the last, run under torch's profiler, which gives the share of the time that each operator computes by itself,
without what it calls.
"""

import argparse
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import claims
from benchmarks.claims import Claim
from benchmarks.rates import matrix_rate
from benchmarks.step import Setting, generated, ours
from trainables.architectures import build
from trainables.config import ArchitectureConfig
from trainables.hardware import processor

TURNS, IMAGES, OPERATORS = 6, 1536, 12


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution, and the sizes that it meets in its network."""

    module: nn.Conv2d
    maps: torch.Size
    made: torch.Size
    is_first: bool
    """Its input has no gradient: images."""

    @property
    def operations(self) -> int:
        """Floating-point operations of forward and backward."""
        products = 2 if self.is_first else 3
        return 2 * products * self.made.numel() * self.module.weight[0].numel()

    def seconds(self) -> float:
        """Return those of its fastest turn."""
        like = {"dtype": torch.bfloat16}
        maps = torch.randn(self.maps, **like).contiguous(memory_format=torch.channels_last)
        maps.requires_grad_(not self.is_first)
        gradient = torch.randn(self.made, **like).contiguous(memory_format=torch.channels_last)
        found = []
        for _ in range(TURNS):
            self.module.zero_grad()
            maps.grad = None
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                made = self.module(maps)
            made.backward(gradient)
            found.append(time.perf_counter() - started)
        return min(found)


def layers(variant: str, batch: int) -> list[Layer]:
    """Return the convolutions of a network for 10 classes and images of 32 x 32, in their order."""
    network = build(variant, ArchitectureConfig(class_relu=False), 10).to(memory_format=torch.channels_last)
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], made: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        found.append(Layer(module, inputs[0].shape, made.shape, is_first=not found))

    hooks = [each.register_forward_hook(note) for each in network.modules() if isinstance(each, nn.Conv2d)]
    with torch.no_grad():
        network.eval()(torch.randn(batch, 3, 32, 32))
    for hook in hooks:
        # Each turn to come would be noted too.
        hook.remove()
    return found


def measure(variant: str, batch: int, repeats: int) -> list[Claim]:
    """Print the table of one network, and return what it claims."""
    device = torch.device("cpu")
    each = layers(variant, batch)
    rates, shares = [], []
    for _ in range(repeats):
        peak = matrix_rate(device)
        seconds = [layer.seconds() for layer in each]
        rates.append(batch / sum(seconds))
        shares.append(100 * sum(layer.operations for layer in each) / sum(seconds) / peak)
    print(f"\n{variant}, batch {batch}; matrices at {peak / 1e12:.2f} TFLOP/s")
    print("| kernels | maps | ms | share of the matrix rate |\n|---|---|---|---|")
    for layer, spent in zip(each, seconds, strict=True):
        kernels, maps = (" x ".join(map(str, size)) for size in (layer.module.weight.shape, layer.maps[1:]))
        print(f"| {kernels} | {maps} | {1000 * spent:.1f} | {layer.operations / spent / peak:.0%} |", flush=True)
    what = f"{variant} on the CPU, convolutions alone"
    return [
        Claim(name=f"{what}: of the rate of large bfloat16 matrices", values=shares, unit="%"),
        Claim(name=f"{what}: if there were nothing else", values=rates, unit="images/s"),
    ]


def print_operators(variant: str, batch: int) -> None:
    """Print the `OPERATORS` in which training computes longest."""
    with generated(IMAGES) as data:
        setting = Setting(data, variant, batch, torch.device("cpu"))
        ours(setting)  # torch's libraries choose their kernels
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:
            ours(setting)
    found = sorted(profiled.key_averages(), key=lambda each: -each.self_cpu_time_total)
    whole = sum(each.self_cpu_time_total for each in found)
    print(f"\n{variant}, two epochs of {IMAGES:,} images\n| operator | calls | share of the time |\n|---|---|---|")
    for each in found[:OPERATORS]:
        print(f"| {each.key} | {each.count:,} | {each.self_cpu_time_total / whole:.1%} |", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["all-cnn-c", "model-c"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    claims.add_option(parser)
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    found: list[Claim] = []
    for name in options.variants:
        found += measure(name, options.batch, options.repeats)
        print_operators(name, options.batch)
    claims.keep(options.claims, found)


if __name__ == "__main__":
    main()
