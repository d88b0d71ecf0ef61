"""Predictions L1 to L3 and M1 to M3 (docs/sampler.md): is it AdamW, clipping, noise, or weight decay?

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
from collapselab.analysis.intervals import Interval, in_figures, over_seeds, share_interval
from collapselab.analysis.sampler import measured, t_interval
from collapselab.analysis.sampler_line import LEAST_ONSET, pairs
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio

CLIPPED_RATE, LARGE_BATCH = 0.01, 16


def slope_ratio(above: Frame, below: Frame) -> Interval:
    """Mean slope of the entropy of some runs over that of others, seeds paired."""
    paired = above.merge(below, on="seed", suffixes=("", "_below"))
    one, other = (paired[name].to_numpy(dtype=float) for name in ("entropy_slope", "entropy_slope_below"))
    return over_seeds(lambda mask: float(one[mask].mean() / other[mask].mean()), paired["seed"].to_numpy()).interval()


def shown(interval: Interval) -> str:
    numbers = (interval.estimate, interval.low, interval.high)
    value, low, high = ("unknown" if number is None else in_figures(number) for number in numbers)
    return f"{value} [{low}, {high}] ({interval.n} runs)"


def batch_ratio(rows: Frame) -> Interval:
    """Time ratio of batch 16 to batch 1, seeds paired."""
    columns = (rows["is_event"], rows["generate.batch_size"] != 1, rows["seed"].astype(str), rows["seed"])
    time = np.maximum(rows["duration"].to_numpy(dtype=float), LEAST_ONSET)
    return log_time_ratio(time, *columns).interval(math.exp)


def main(line: Path, sgd: Path) -> None:
    """Prints each arm, then what the predictions are judged by, with intervals."""
    clipped = measured(gather(load_runs(line)))
    clipped = clipped[(clipped["optim.name"] == "sgd") & (clipped["lr"] == CLIPPED_RATE)]
    clipped = clipped[clipped["sampling.temperature"] == 1]
    print(f"clipped, at {CLIPPED_RATE:g}, temperature 1: slope {shown(t_interval(clipped['entropy_slope']))}")
    rows = measured(gather(load_runs(sgd)))
    for (decay, rate, temperature, batch), part in rows.groupby(
        ["optim.weight_decay", "lr", "sampling.temperature", "generate.batch_size"]
    ):
        print(
            f"decay {decay:g}, rate {rate:g}, temperature {temperature:g}, batch {batch:g}: onset in "
            f"{part['is_event'].sum()} of {len(part)}, median {part['duration'].median():g}, melted "
            f"{part['is_melted'].sum()}, relative update {part['relative_update_norm'].mean():.3g}, slope "
            f"{shown(t_interval(part['entropy_slope']))}, rise {part['val_rise_nats'].mean():+.3f}"
        )
    decayed, free = rows[rows["optim.weight_decay"] > 0], rows[rows["optim.weight_decay"] == 0]
    alone, many = (_pure(decayed[decayed["generate.batch_size"] == size]) for size in (1, LARGE_BATCH))
    print("L1 slope without clipping over that with it:", shown(slope_ratio(alone, clipped)))
    print(f"L2 slope of batch {LARGE_BATCH} over that of batch 1:", shown(slope_ratio(many, alone)))
    print(f"L3 time ratio of batch {LARGE_BATCH} to 1:", shown(batch_ratio(decayed.drop(_pure(decayed).index))))
    slow = free[free["lr"] < CLIPPED_RATE]
    print("M1 slope without decay over that with it:", shown(slope_ratio(_pure(slow), alone)))
    print(f"M2 time ratio of batch {LARGE_BATCH} to 1:", shown(batch_ratio(slow.drop(_pure(slow).index))))
    lasts = pairs(free[free["lr"] > CLIPPED_RATE])["outlasts"].dropna()
    share = share_interval(int(lasts.sum()), len(lasts))
    print(f"M3 {lasts.sum():g} of {len(lasts)} pairs without onset by ten times the partner's:", shown(share))


def _pure(rows: Frame) -> Frame:
    return rows[rows["sampling.temperature"] == 1]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
