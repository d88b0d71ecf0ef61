"""Onset as a time to event, censored where a run ended without one: when, curves, medians, means.

Durations are steps. A run with onset at step t has duration t and an event; a run without is censored at the last step
known to lie before any onset (`onset_times`), at which it still counts as at risk. docs/statistics.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collapselab.analysis.intervals import LEVEL, Bools, Floats, Interval
from collapselab.collapse.course import ONSET_SHARE
from collapselab.rundir.frames import Runs

# lifelines takes a second to import, so each function that needs it imports it.
CURVE_COLUMNS = ("step", "survival", "low", "high", "at_risk", "events")
_ROUNDING = 1e-9  # lifelines multiplies logarithms: a survival of 1/2 may come out a little above

Values = Sequence[float] | Floats
Events = Sequence[bool] | NDArray[np.bool_]
Labels = Sequence[Any] | NDArray[Any]
# A frame or series inside functions: pandas' own types are partial, and strict checking would refuse each expression.
Frame = Any


def onset_times(runs: Runs) -> pd.DataFrame:
    """When each run began to collapse: a row a run, in their order; columns `run`, `duration`, `is_event`.

    An unfinished run has no summary; its records are searched for onset by the same rule. A run without onset is
    censored at the last judged step that no onset could precede, had it gone on with degenerate steps alone; so is a
    run that diverged without one: the hazard is the cause-specific one of collapse. Without such a step, `duration` is
    NaN.
    """
    row, judged = cast(Frame, runs.runs), _judged_steps(runs)
    of_run = {run: (part["step"].to_numpy(), part["degenerate"].to_numpy()) for run, part in judged.groupby("run")}
    is_finished, known = row["ended_by"].notna().to_numpy(), row["onset_step"].astype("Float64")
    rules = zip(row["collapse.window"], row["collapse.patience"], strict=True)
    found: list[tuple[float, bool]] = []
    for run, summary, finished, (window, patience) in zip(row["run"], known, is_finished, rules, strict=True):
        step_J, degenerate_J = of_run.get(run, (np.array([], dtype=int), np.array([], dtype=bool)))
        onset = summary if finished else onset_step(step_J, degenerate_J, int(window), int(patience))
        if onset is None or pd.isna(onset):
            found.append((_censored_at(step_J, degenerate_J, int(window), int(patience)), False))
        else:
            found.append((float(onset), True))
    columns = {"run": row["run"].to_numpy(), "duration": [time for time, _ in found]}
    return pd.DataFrame(columns | {"is_event": np.array([is_event for _, is_event in found], dtype=bool)})


def onset_step(step_J: NDArray[Any], degenerate_J: Bools, window: int, patience: int) -> int | None:
    """The onset of a run's J judged steps, as `course.advance` finds it; `None` if none is settled by the last."""
    if not len(step_J):
        return None
    counts = np.convolve(degenerate_J.astype(int), np.ones(window, dtype=int))[: len(step_J)]
    is_high = counts / window >= ONSET_SHARE
    streaks = np.convolve(is_high.astype(int), np.ones(patience, dtype=int))[: len(step_J)]
    settled = np.flatnonzero(streaks == patience)
    if not len(settled):
        return None
    # Dated to the change point of the window (`course.change_point`).
    last = settled[0] - patience + 1
    first = max(0, last - window + 1)
    majorities = np.cumsum(np.where(degenerate_J[first : last + 1], 1, -1)[::-1])
    return int(step_J[last - int(majorities.argmax())])


def _censored_at(step_J: NDArray[Any], degenerate_J: Bools, window: int, patience: int) -> float:
    """The judged step before the earliest onset that further steps could settle; NaN if there is none."""
    if not len(step_J):
        return math.nan
    further = step_J[-1] + 1 + np.arange(window + patience)
    earliest = onset_step(
        np.append(step_J, further), np.append(degenerate_J, np.ones(len(further), dtype=bool)), window, patience
    )
    before = step_J[step_J < earliest]
    return float(before[-1]) if len(before) else math.nan


def _judged_steps(runs: Runs) -> Frame:
    """Run, step and verdict of the judged steps."""
    names = ["run", "step", "degenerate"]
    steps = cast(Frame, runs.steps).reindex(columns=names)
    return steps.loc[steps["degenerate"].notna(), names].astype({"degenerate": bool})


def kaplan_meier(durations: Values, events: Events, level: float = LEVEL) -> pd.DataFrame:
    """The share of runs without onset against step: a row for step 0 and for each duration.

    Columns: `step`; `survival`, the share that goes on past that step; `low` and `high`, the band from Greenwood's
    variance of log(−log survival); `at_risk` and `events` at that step. The band is NaN where survival is 0 or 1, where
    that variance is not defined; so one run has none.

    Reference: Kaplan & Meier 1958.
    """
    if len(durations) == 0:
        return pd.DataFrame(columns=pd.Index(CURVE_COLUMNS), dtype=float)
    import lifelines

    fitted = (
        cast(Any, lifelines)
        .KaplanMeierFitter()
        .fit(np.asarray(durations, dtype=float), np.asarray(events, dtype=bool), alpha=1 - level)
    )
    table, survival = fitted.event_table, fitted.survival_function_.iloc[:, 0].to_numpy()
    band = fitted.confidence_interval_.to_numpy().copy()
    has_band = (survival > _ROUNDING) & (survival < 1 - _ROUNDING)
    band[~has_band] = np.nan
    counts = (table["at_risk"].to_numpy(), table["observed"].to_numpy())
    columns = (table.index.to_numpy(dtype=float), survival, band[:, 0], band[:, 1], *counts)
    return pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))


def median_onset(durations: Values, events: Events, level: float = LEVEL) -> Interval:
    """The first step by which half of the runs have begun to collapse; `None` if it never comes to that.

    The interval holds the steps whose survival band contains 1/2; its upper end is often unknown with few runs.

    Reference: Brookmeyer & Crowley 1982.
    """
    curve = cast(Frame, kaplan_meier(durations, events, level))
    median, low, high = (_first_step(curve, name) for name in ("survival", "low", "high"))
    return Interval(median, low, high, level, len(durations))


def median_step(durations: Values, events: Events) -> float | None:
    """The estimate of `median_onset` alone, a hundred times as fast: tables have hundreds of arms."""
    time_N, is_event_N = np.asarray(durations, dtype=float), np.asarray(events, dtype=bool)
    survival = 1.0
    for time in np.unique(time_N[is_event_N]):
        at_risk = int((time_N >= time).sum())
        survival *= 1 - int(((time_N == time) & is_event_N).sum()) / at_risk
        if survival <= 1 / 2 + _ROUNDING:
            return float(time)
    return None


def _first_step(curve: Frame, name: str) -> float | None:
    reached = curve.loc[curve[name] <= 1 / 2 + _ROUNDING, "step"]
    return float(reached.iloc[0]) if len(reached) else None


def restricted_mean(durations: Values, events: Events, horizon: float, level: float = LEVEL) -> Interval:
    """The mean of min(onset, horizon): the area under the survival curve up to the horizon, in steps.

    The interval is normal, with Greenwood's variance, Σ A_i² d_i / (n_i (n_i − d_i)), where A_i is the area from the
    i-th event to the horizon; with few runs it is too narrow. `None` where all runs were lost from sight before the
    horizon. No interval for one run, or without an event before the horizon.

    Reference: Irwin 1949; Royston & Parmar 2013.
    """
    curve = cast(Frame, kaplan_meier(durations, events, level))
    n = len(durations)
    if n == 0 or (curve["step"].iloc[-1] < horizon and curve["survival"].iloc[-1] > _ROUNDING):
        return Interval(None, None, None, level, n)
    before = curve[curve["step"] < horizon]
    widths = np.diff(np.append(before["step"].to_numpy(), horizon))
    areas = widths * before["survival"].to_numpy()
    remaining = np.cumsum(areas[::-1])[::-1]
    at_risk, lost = before["at_risk"].to_numpy(), before["events"].to_numpy()
    # Where the last runs at risk collapse, no area remains: the term is 0, not 0/0.
    terms = np.divide(lost, at_risk * (at_risk - lost), out=np.zeros(len(before)), where=lost < at_risk)
    variance = float((remaining**2 * terms).sum())
    mean = float(areas.sum())
    if n == 1 or variance == 0:
        return Interval(mean, None, None, level, n)
    from scipy.special import ndtri

    half_width = float(ndtri((1 + level) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half_width, mean + half_width, level, n)
