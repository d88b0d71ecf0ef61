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
from collapselab.rundir.frames import Runs

# lifelines takes a second to import, so each function that needs it imports it.
CURVE_COLUMNS = ("step", "survival", "low", "high", "at_risk", "events")
_ONSET_SHARE = 1 / 2
_FIRST_TURN = 0.5  # a turn at step 0, where times are compared as ratios
_ROUNDING = 1e-9  # lifelines multiplies logarithms: a survival of 1/2 may come out a little above

Values = Sequence[float] | Floats
Events = Sequence[bool] | NDArray[np.bool_]
Labels = Sequence[Any] | NDArray[Any]
# A frame or series inside functions: pandas' own types are partial, and strict checking would refuse each expression.
Frame = Any


def onset_times(runs: Runs) -> pd.DataFrame:
    """When each run began to collapse: a row a run, in their order; columns `run`, `duration`, `is_event`, `turn`.

    A run without onset is censored at its last judged step with a window less than half degenerate: a later onset may
    not be settled yet, and the steps after the last probe say nothing. An unfinished run has no summary; its records
    are searched for onset by the same rule. A run that diverged without onset is censored too, at its last judged step
    before that: the hazard is the cause-specific one of collapse. Where no step was judged, `duration` is NaN.

    `turn` is the duration without the lag of the window that onset asks for (`_turn`), and at least half a step.
    """
    row, judged = cast(Frame, runs.runs), _judged_steps(runs)
    is_high = judged["degenerate_share"] >= _ONSET_SHARE
    last_low = judged[~is_high].groupby("run")["step"].max()
    # The steps of one streak have the same number of low steps before them.
    streak = (~is_high).cumsum().rename("streak")
    streaks = judged[is_high].groupby(["run", streak[is_high]])["step"].agg(["min", "size"])
    patience = row.set_index("run")["collapse.patience"].reindex(streaks.index.get_level_values("run"))
    settled = streaks[streaks["size"].to_numpy() >= patience.to_numpy()]
    from_records = row["run"].map(settled.groupby("run")["min"].min()).astype("Float64")
    onset = row["onset_step"].astype("Float64").where(row["ended_by"].notna(), from_records)
    duration = onset.fillna(row["run"].map(last_low).astype("Float64"))
    times = duration.to_numpy(dtype=np.float64, na_value=np.nan)
    is_event = onset.notna().to_numpy(dtype=bool)
    of_run = {run: (part["step"].to_numpy(), part["degenerate"].to_numpy()) for run, part in judged.groupby("run")}
    rules = zip(row["run"], times, is_event, row["collapse.window"], row["collapse.patience"], strict=True)
    turns = [
        _turn(*of_run[run], time, is_onset, int(window), int(patience)) if run in of_run else time
        for run, time, is_onset, window, patience in rules
    ]
    return pd.DataFrame(
        {
            "run": row["run"].to_numpy(),
            "duration": times,
            "is_event": is_event,
            "turn": np.maximum(np.array(turns, dtype=np.float64), _FIRST_TURN),
        }
    )


def _turn(step_J: NDArray[Any], degenerate_J: Bools, time: float, is_event: bool, window: int, patience: int) -> float:
    """The judged step that best splits those around onset: healthy before, degenerate from it on; the latest such.

    Looked at are the window that ends at onset and the steps that settle it. Without onset, the time less the judged
    steps by which a sudden onset lags. A step that was not judged, or not kept, has no turn but itself.
    """
    (at,) = np.flatnonzero(step_J == time)[:1] if (step_J == time).any() else (None,)
    if at is None:
        return time
    if not is_event:
        return float(step_J[max(0, at - (math.ceil(window / 2) - 1))])
    first, seen = max(0, at - window + 1), degenerate_J[max(0, at - window + 1) : at + patience]
    before = np.concatenate([[0], np.cumsum(seen)])  # degenerate ones before each step
    healthy_after = np.cumsum(~seen[::-1])[::-1]
    exceptions = before[: at - first + 1] + healthy_after[: at - first + 1]
    return float(step_J[at - int(np.argmin(exceptions[::-1]))])


def _judged_steps(runs: Runs) -> Frame:
    """Run, step, verdict and share of the judged steps; a step between two probes repeats the former share."""
    names = ["run", "step", "degenerate", "degenerate_share"]
    steps = cast(Frame, runs.steps).reindex(columns=names)
    return steps.loc[steps["degenerate"].notna(), names].astype({"degenerate_share": float, "degenerate": bool})


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
