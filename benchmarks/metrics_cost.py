"""What following a run by metrics costs its driver per report.

    python -m benchmarks.metrics_cost [--reports 2000] [--trials 1000]

Starts Ray here; prints the mean and the slowest of many reports, and the time of one refresh of all gauges.
"""

import argparse
import statistics
import time
from typing import Any

from sweep.cluster.connect import connect
from sweep.monitor.prometheus import REFRESH_S, RunMetrics
from sweep.study.catalog import STUDIES
from trainables.architectures import VARIANTS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reports", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()
    with connect(None):
        metrics = RunMetrics("cost", STUDIES["quickstart"](), options.trials, {})
        variants = list(VARIANTS)[:12]
        took: list[float] = []
        for number in range(options.reports):
            trial = number % options.trials
            row: dict[str, Any] = {
                "trial_id": f"t{trial}",
                "phase": "search",
                "dataset": "cifar10",
                "augmentation": "none",
                "variant": variants[trial % len(variants)],
                "params": f'{{"lr":{trial}}}',
                "state": "running",
                "epochs_run": 1 + number // options.trials,
                "train_s": 1.0 + number,
                "images_per_s": 1000.0,
                "val_error": 1 / (2 + number),
            }
            start = time.perf_counter()
            metrics.update(row)
            took.append(time.perf_counter() - start)
        start = time.perf_counter()
        metrics.refresh()
        refresh = time.perf_counter() - start
    ordered = sorted(took)
    mean, high = 1e6 * statistics.mean(took), 1e6 * ordered[-max(1, len(ordered) // 100)]
    print(f"{options.reports:,} reports of {options.trials:,} trials in {len(variants)} cells, all of them running")
    print(f"per report: mean {mean:.0f} us, 99th percentile {high:.0f} us")
    print(f"slowest report: {1e3 * ordered[-1]:.2f} ms")
    print(f"one refresh of all gauges: {1e3 * refresh:.2f} ms, every {REFRESH_S:g} s")


if __name__ == "__main__":
    main()
