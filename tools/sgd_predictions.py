"""Predictions L1 to L3 (docs/sampler.md): is it AdamW, clipping, or noise?

python tools/sgd_predictions.py LINE SGD

The folders of the sweeps `sampler-line` (its clipped SGD at 0.01, temperature 1) and `sampler-sgd`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from collapselab import load_runs
from collapselab.analysis.evidence import gather
from collapselab.analysis.intervals import Interval, in_figures, over_seeds
from collapselab.analysis.sampler import measured, t_interval
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio

CLIPPED_RATE, LARGE_BATCH = 0.01, 16


def slope_ratio(above: Frame, below: Frame) -> Interval:
    """Mean slope of the entropy of some runs over that of others, seeds paired."""
    paired = above.merge(below, on="seed", suffixes=("", "_below"))
    one, other = (paired[name].to_numpy(dtype=float) for name in ("entropy_slope", "entropy_slope_below"))
    return over_seeds(lambda mask: float(one[mask].mean() / other[mask].mean()), paired["seed"].to_numpy()).interval()


def shown(interval: Interval) -> str:
    ends = [in_figures(end) if end is not None else "unknown" for end in (interval.low, interval.high)]
    return f"{in_figures(interval.estimate or math.nan)} [{', '.join(ends)}] ({interval.n} runs)"


def main(line: Path, sgd: Path) -> None:
    """Prints each arm, then the three ratios with their intervals."""
    clipped = measured(gather(load_runs(line)))
    clipped = clipped[(clipped["optim.name"] == "sgd") & (clipped["lr"] == CLIPPED_RATE)]
    clipped = clipped[clipped["sampling.temperature"] == 1]
    free = measured(gather(load_runs(sgd)))
    for (temperature, batch), part in free.groupby(["sampling.temperature", "generate.batch_size"]):
        print(
            f"temperature {temperature:g}, batch {batch:g}: onset in {part['is_event'].sum()} of {len(part)}, median "
            f"{part['duration'].median():g}, melted {part['is_melted'].sum()}, relative update "
            f"{part['relative_update_norm'].mean():.3g}, slope {shown(t_interval(part['entropy_slope']))}, "
            f"rise {part['val_rise_nats'].mean():+.3f}"
        )
    print(f"clipped, at {CLIPPED_RATE:g}: slope {shown(t_interval(clipped['entropy_slope']))}")
    pure = free[free["sampling.temperature"] == 1]
    alone, many = (pure[pure["generate.batch_size"] == size] for size in (1, LARGE_BATCH))
    print("L1 slope without clipping over that with it:", shown(slope_ratio(alone, clipped)))
    print(f"L2 slope of batch {LARGE_BATCH} over that of batch 1:", shown(slope_ratio(many, alone)))
    sharp = free[free["sampling.temperature"] != 1]
    columns = (sharp["is_event"], sharp["generate.batch_size"] != 1, sharp["seed"].astype(str), sharp["seed"])
    time = np.maximum(sharp["duration"].to_numpy(dtype=float), 0.5)
    print(f"L3 time ratio of batch {LARGE_BATCH} to 1:", shown(log_time_ratio(time, *columns).interval(math.exp)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
