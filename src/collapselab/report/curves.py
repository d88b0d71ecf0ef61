"""Curves over seeds: means with intervals of runs of different lengths, at as many points as a figure can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.intervals import LEVEL, Floats
from collapselab.analysis.survival import Frame

MAX_POINTS = 100
MIN_FOR_INTERVAL = 5  # runs: a t-interval of two runs is 13 times as wide as their difference
CURVE_COLUMNS = ("step", "value", "low", "high", "n", "width")
MIN_LOSS_NATS = 0.01  # lower bound of intervals: a loss is not negative, and a logarithmic axis has no 0

Series = tuple[Floats, Floats]  # steps, ascending, and values, all known and finite


def run_series(steps: Frame, name: str) -> dict[str, Series]:
    """The known values of a column, by run, up to the first one that is not finite."""
    if name not in steps:
        return {}
    known = steps.loc[steps[name].notna(), ["run", "step", name]]
    found: dict[str, Series] = {}
    for run, rows in known.groupby("run", sort=False):
        at, values = rows["step"].to_numpy(dtype=float), rows[name].to_numpy(dtype=float)
        broken = np.flatnonzero(~np.isfinite(values))
        end = int(broken[0]) if len(broken) else len(values)
        if end:
            found[str(run)] = (at[:end], values[:end])
    return found


def mean_curve(series: Sequence[Series], is_finished: Sequence[bool]) -> pd.DataFrame:
    """The mean over runs against step, until the first of the finished runs has ended (if all go on, of those).

    It is the mean of the same runs at every step, those that reached its end, so that it does not jump where a run
    ends. From five runs on it has a 95 % t-interval; with fewer, the interval would say more of t than of the runs.

    Columns `step`, `value`, `low`, `high` (NaN: no interval), `n` (number of runs), `width`. A curve of over 100 steps
    has about 100 points, each the mean of the values recorded in the `width` steps around it. There is a point only
    where every run recorded a value: nothing is interpolated.
    """
    ends = [at[-1] for at, _ in series]
    last = int(min([end for end, finished in zip(ends, is_finished, strict=True) if finished] or ends))
    grid, width = _grid(0, last)
    values = np.array([_smoothed(at, y, grid, width) for at, y in series if at[-1] >= last])
    is_recorded = ~np.isnan(values).any(axis=0)
    values, grid, n = values[:, is_recorded], grid[is_recorded], len(values)
    mean = values.mean(axis=0)
    half_width = np.full(len(grid), np.nan)
    if n >= MIN_FOR_INTERVAL:
        from scipy.special import stdtrit

        half_width = stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(axis=0, ddof=1) / np.sqrt(n)
    low = np.maximum(mean - half_width, np.minimum(mean, MIN_LOSS_NATS))
    rest = (np.full(len(grid), n), np.full(len(grid), width))
    return pd.DataFrame(dict(zip(CURVE_COLUMNS, (grid, mean, low, mean + half_width, *rest), strict=True)))


def single_curves(series: Mapping[str, Series]) -> dict[str, pd.DataFrame]:
    """The curve of each run: columns `step`, `value`, smoothed like the mean curves."""
    found: dict[str, pd.DataFrame] = {}
    for run, (at, values) in series.items():
        grid, width = _grid(0, int(at[-1]))
        means = _smoothed(at, values, grid, width)
        means[-1] = values[-1]  # the place of the mark at the run's end
        found[run] = pd.DataFrame({"step": grid, "value": means}).dropna()
    return found


def columns(frame: Frame) -> dict[str, list[float | None]]:
    """The columns as lists for JSON, a third as long as rows; four digits are more than a figure shows."""
    return {str(name): [_rounded(value) for value in frame[name]] for name in frame.columns}


def _rounded(value: float) -> float | None:
    if math.isnan(value):
        return None
    return int(value) if value == int(value) else round(float(value), 4)


def _grid(first: int, last: int) -> tuple[NDArray[np.int_], int]:
    """The steps of a curve's points, and the number of steps that each covers."""
    width = max(1, math.ceil(last / MAX_POINTS))
    return np.unique(np.append(np.arange(first, last + 1, width), last)), width


def _smoothed(at: Floats, values: Floats, grid: NDArray[np.int_], width: int) -> Floats:
    """Means of the values in the `width` steps around each point of the grid, NaN if there is none."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    left = np.searchsorted(at, grid - width // 2, side="left")
    right = np.searchsorted(at, grid + (width - 1) // 2, side="right")
    with np.errstate(invalid="ignore"):  # 0 / 0
        means = (total[right] - total[left]) / (right - left)
    return np.where((grid >= at[0]) & (grid <= at[-1]), means, np.nan)


def with_derived(steps: Frame) -> Frame:
    """The steps with the derived numbers (`numbers.DERIVED`: drawn but not recorded), where they can be computed."""
    if not {"loop_span", "num_tokens"} <= set(steps.columns):
        return steps
    span, length = (cast(Frame, pd.to_numeric(steps[name])).astype(float) for name in ("loop_span", "num_tokens"))
    return steps.assign(loop_share=span / length.where(length > 0))
