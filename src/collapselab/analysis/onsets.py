"""H2, H4 and H4b: what hastens collapse. Every threshold here is decided in advance (docs/statistics.md)."""

from __future__ import annotations

import math

import numpy as np

from collapselab.analysis.comparisons import LOOKING, condition, num_parameters
from collapselab.analysis.evidence import Finding, Material, missing, own_text, with_ends
from collapselab.analysis.hazards import hazard_ratio
from collapselab.analysis.intervals import Estimate, Interval
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import MIN_MODELS, log_time_ratio, log_time_ratio_of_models
from collapselab.analysis.trend import log_rank_trend

MAX_TIME_RATIO = 1 / 1.1  # per doubling: a larger ratio is too small an effect
_FIRST_TIME = 0.5  # an onset at step 0: times are compared as ratios


def rate_hastens(material: Material) -> Finding:
    """H2: the time ratio of collapse per doubling of the learning rate, over seeds.

    Own-text runs, compared where all else is equal. Where the ratio has no finite estimate (at some rate no run
    collapses, and there are but two), the p-value is that of the log-rank test for trend. The note has each model's
    slope of log time on log rate: −1 where time goes as one over the rate.
    """
    own = _timed(material)
    part = _where_varied(own.assign(x=np.log2(own["lr"].astype(float))), condition(own, (*LOOKING, "lr")))
    if part.empty:
        return missing("needs own-text runs at two learning rates or more, other settings equal")
    columns = [part[name].to_numpy() for name in ("x", "stratum", "seed")]
    ratio = log_time_ratio(part["duration"].to_numpy(), part["is_event"].to_numpy(), *columns)
    note = _censored(part) + "; slope of log time on log rate: "
    note += ", ".join(f"{model} {with_ends(slope)}" for model, slope in rate_slopes(part).items())
    found = _finding(ratio, part, note)
    if found.p_for is not None:
        return found
    trend = log_rank_trend(part["duration"].to_numpy(), part["is_event"].to_numpy(), *columns)
    direction = int(np.sign(trend.statistic or 0))
    note = f"{trend.reason or 'no interval of the time ratio: p of the log-rank test'}; {note}"
    counts = (found.num_runs, found.num_seeds)
    return Finding(found.effect, trend.p_value, None, direction, *counts, note, found.footnote)


def rate_slopes(part: Frame) -> dict[str, Interval]:
    """The slope of log time on log learning rate of each model's runs, over seeds."""
    return {
        str(model): log_time_ratio(
            rows["duration"].to_numpy(),
            rows["is_event"].to_numpy(),
            rows["x"].to_numpy() * math.log(2),
            rows["stratum"].to_numpy(),
            rows["seed"].to_numpy(),
        ).interval()
        for model, rows in part.groupby("model", sort=False)
    }


def size_hastens(material: Material) -> Finding:
    """H4: the time ratio per doubling of the model's parameters, at equal learning rate, models as units."""
    return _size_finding(_timed(material), "")


def size_shortens_path(material: Material) -> Finding:
    """H4b: the same with the path that the weights have gone for a clock, in place of steps.

    The path is the sum of `relative_update_norm` over the steps before onset.
    """
    own = _timed(material)
    path = path_lengths(own, material.steps)
    own = own.assign(duration=path)
    return _size_finding(own[own["duration"] > 0], " with `relative_update_norm` at every step")


def path_lengths(frame: Frame, steps: Frame) -> Frame:
    """The path up to each run's onset, in relative updates; NaN where a step's update is unknown."""
    known = steps.reindex(columns=["run", "step", "relative_update_norm"])
    known = known[known["run"].isin(frame["run"])].astype({"step": float, "relative_update_norm": float}).dropna()
    duration = known["run"].map(frame.set_index("run")["duration"])
    part = np.clip(duration - known["step"], 0, 1)  # of half a step, half of the first update
    sums = (part * known["relative_update_norm"]).groupby(known["run"]).sum()
    is_whole = part.groupby(known["run"]).sum().reindex(frame["run"]).to_numpy() >= frame["duration"].to_numpy() - 1e-9
    return frame["run"].map(sums).where(is_whole).astype(float)


def _timed(material: Material) -> Frame:
    """The own-text runs, with durations that have a logarithm."""
    own = own_text(material.trajectories)
    return own.assign(duration=own["duration"].clip(lower=_FIRST_TIME))


def _size_finding(own: Frame, condition_words: str) -> Finding:
    part = _where_varied(own.assign(x=np.log2(num_parameters(own))), condition(own, (*LOOKING, "model")))
    if part.empty:
        words = "needs own-text runs of two models or more, of known size, at equal learning rate and settings"
        return missing(words + condition_words)
    columns = [part[name].to_numpy() for name in ("duration", "is_event", "x", "model", "stratum")]
    ratio, num_models = log_time_ratio_of_models(*columns)
    note = f"{num_models} models; {_censored(part)}"
    found = _finding(ratio, part, note)
    if num_models >= MIN_MODELS:
        return found
    counts, few = (found.num_runs, found.num_seeds), f"a verdict needs {MIN_MODELS} models or more; {note}"
    return Finding(found.effect, None, None, 0, *counts, few, found.footnote)


def _where_varied(own: Frame, strata: Frame) -> Frame:
    """The runs in strata in which `x` varies, with the stratum."""
    part = own.assign(stratum=strata).dropna(subset=["x", "duration"])
    return part[part.groupby("stratum")["x"].transform("nunique") > 1]


def _finding(ratio: Estimate, part: Frame, note: str) -> Finding:
    value, bound = ratio.value, math.log(MAX_TIME_RATIO)
    direction = 0 if value is None else int(np.sign(-value))
    p_against = ratio.p_value(bound) if value is None or value > bound else 1.0
    p_against = None if ratio.error is None else p_against
    hazard = hazard_ratio(*(part[name].to_numpy() for name in ("duration", "is_event", "x", "stratum", "seed")))
    counts = (len(part), part["seed"].nunique())
    footnote = f"hazard ratio (Firth) {with_ends(hazard.interval)}"
    return Finding(ratio.interval(math.exp), ratio.p_value(0.0), p_against, direction, *counts, note, footnote)


def _censored(part: Frame) -> str:
    return f"{int((~part['is_event']).sum())} of {len(part)} runs censored"
