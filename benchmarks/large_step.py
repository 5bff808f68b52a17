"""What one training step of the Large ALL-CNN takes on this machine: `python benchmarks/large_step.py [IMAGES]`.

Prints the network, its parameters, the batch size, the seconds of a step after a first one, the peak resident memory
of the process and, where there is a GPU, the peak of its memory.
"""

import resource
import sys
import time

import torch
from torch.nn import functional

from trainables.architectures import build, count_parameters
from trainables.config import ArchitectureConfig, TrialConfig
from trainables.data import Prepared
from trainables.data.batches import MemoryFeed

VARIANT, CANVAS, CLASSES = "large-all-cnn", 126, 10


def feed(images: int, device: torch.device) -> MemoryFeed:
    """Return one batch an epoch, of noise, through the augmentation `heavy`."""
    config = TrialConfig(
        dataset="noise",
        variant=VARIANT,
        lr=0.01,
        augmentation="heavy",
        preprocessing="standardise",
        canvas=CANVAS,
        batch_size=images,
    )
    draws = torch.Generator().manual_seed(0)
    noise, labels = torch.randn(images, 3, 32, 32, generator=draws), torch.arange(images) % CLASSES
    data = Prepared(
        name="noise",
        num_classes=CLASSES,
        train_images=noise,
        train_labels=labels,
        test_images=noise,
        test_labels=labels,
        mean=torch.full((3, 1, 1), 120.0),
        deviation=torch.full((3, 1, 1), 60.0),
    )
    return MemoryFeed(data, config, draws, device)


def main(images: int) -> None:
    """Take two steps and print what the second one took."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = build(VARIANT, ArchitectureConfig(input_dropout=0.0, class_relu=False), CLASSES).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    batches = feed(images, device)
    for _ in range(2):
        start = time.perf_counter()
        for batch in batches.train_batches():
            loss = functional.cross_entropy(model(batch.images), batch.labels)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
        print(f"loss {loss.item():.4f}, {time.perf_counter() - start:.1f} s")  # item() waits for the device
    seconds = time.perf_counter() - start
    # Linux counts in KiB.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{VARIANT}, {count_parameters(model):,} parameters, {CANVAS}x{CANVAS} px, heavy augmentation, float32")
    print(f"batch of {images}: {seconds:.1f} s a step on {device.type}, {torch.get_num_threads()} threads")
    print(f"peak resident memory {resident:,.0f} MiB")
    if device.type == "cuda":
        print(f"peak memory of the GPU {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
