"""Which safeguards delay collapse, at what cost, and which only do so as a lower rate does.

Every rule here was written down before its runs (docs/safeguards.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from collapselab.analysis.intervals import Bools, Estimate, Floats, Interval, holm, over_seeds
from collapselab.analysis.safeguard_runs import END_STEP, LOSS_STEP, NONE, PURE, Family
from collapselab.analysis.sampler import t_estimate, t_interval
from collapselab.analysis.survival import Frame, median_step
from collapselab.analysis.times import censored_fit, log_time_ratio

Row = dict[str, Any]
ALPHA = 0.05
NO_ONSET, BEYOND, NOT_BEYOND, DELAYS = "no onset", "beyond its steps", "not shown beyond its steps", "delays"
HASTENS, UNDECIDED, UNFINISHED, REFERENCE = "hastens", "undecided", "unfinished", "reference"


@dataclass(frozen=True)
class Delay:
    """The logarithm of a ratio of onsets over seeds; `is_at_least`: it is only known to be larger.

    `least`: the ratio that an arm without onset has at least, which has no estimate.
    """

    estimate: Estimate
    is_at_least: bool = False
    least: float | None = None

    @property
    def interval(self) -> Interval:
        """On the scale of ratios; of an arm without onset, `least` alone."""
        found = self.estimate.interval(math.exp)
        return found if self.least is None else replace(found, estimate=self.least)


UNKNOWN = Delay(Estimate(None, None, 0, 0))


def table(families: Sequence[Family]) -> pd.DataFrame:
    """A row per arm, as docs/safeguards.md defines its columns; empty without families (`safeguard_runs.families`).

    Ratios and differences have columns `…_low` and `…_high`. Holm's correction is over the arms of all models.
    """
    found: list[Row] = [row for family in families for row in _rows_of(family)]
    for name in ("delay", "equal_steps"):
        adjusted = holm([row[f"{name}_p"] for row in found])
        for row, p in zip(found, adjusted, strict=True):
            row[f"{name}_p"] = p
    for row in found:
        row["verdict"] = _verdict(row)
    return pd.DataFrame(found)


def _rows_of(family: Family) -> list[Row]:
    names = [NONE, *(name for name in family.rows["arm"].unique() if name != NONE)]
    predicted = ladder(family.ladder)
    rows = family.rows.assign(predicted=predict(family.rows, predicted))
    parts = dict(list(rows.groupby("arm", sort=False)))
    steps = np.log(rows["path_per_step"]).groupby(rows["arm"]).mean()
    rungs = steps[family.ladder["arm"].unique()]
    reference = parts[NONE]
    found: list[Row] = []
    for name in names:
        part = parts[name]
        row = _about(part, reference) | _delays(part, reference) | _losses(part, reference, parts.get(PURE))
        row["path_ratio"] = math.exp(steps[name] - steps[NONE])
        is_known = bool(rungs.notna().all()) and math.isfinite(steps[name])
        row["is_extrapolated"] = not rungs.min() <= steps[name] <= rungs.max() if is_known else None
        found.append(row)
    return found


def _about(part: Frame, reference: Frame) -> Row:
    """What an arm is, its onsets, what it keeps, and what it costs."""
    first, events = part.iloc[0], part["is_event"].to_numpy(dtype=bool)
    onset = median_step(part["duration"], events)
    found: Row = {name: first[name] for name in ("model", "lr", "arm", "kind")}
    found |= {"num_runs": len(part), "num_onsets": int(events.sum()), "onset": onset}
    found |= {"num_finished": int(part["ended_by"].notna().sum()), "num_seeds": int(part["seed"].nunique())}
    found |= {name: part[name].mean() for name in ("entropy_kept", "distinct_4_kept")}
    found["time_ratio"] = part["seconds"].median() / reference["seconds"].median()
    cost = {"extra_samples": "samples", "extra_tokens": "tokens_step", "extra_forwards": "forwards"}
    return found | {name: part[of].mean() - reference[of].mean() for name, of in cost.items()}


def _delays(part: Frame, reference: Frame) -> Row:
    if part["arm"].iloc[0] == NONE:
        found = dict.fromkeys(("delay", "equal_steps", "tokens"), UNKNOWN)
        lasted_longer = None
    else:
        found = {
            "delay": delay(part, reference),
            "equal_steps": at_equal_steps(part),
            "tokens": delay(part, reference, "tokens"),
        }
        longer = np.log(part["time"]) - part["predicted"]
        lasted_longer = bool((longer > 0).all()) if longer.notna().all() else None
    row: Row = {"lasted_longer": lasted_longer}
    for name, one in found.items():
        row |= _ends(name, one.interval) | {f"{name}_is_at_least": one.is_at_least}
        row[f"{name}_p"] = one.estimate.p_value(0.0)
    return row


def _losses(part: Frame, reference: Frame, pure: Frame | None) -> Row:
    """Rises of the loss on human text, beside those of `none`, and beside those of pure sampling."""
    is_none, is_pure = (part["arm"].iloc[0] == name for name in (NONE, PURE))
    at, end = f"rise_{LOSS_STEP}", f"rise_{END_STEP}"
    row: Row = {
        at: part[at].mean(),
        end: part[end].mean(),
        "rise_end": part["rise_end"].mean(),
        "end": part["end"].mean(),
    }
    nothing = t_interval([])
    row |= _ends("loss", nothing if is_none else paired(part, reference, at))
    row |= _ends("loss_end", nothing if is_none else paired(part, reference, "rise_end"))
    beside = nothing if pure is None or is_pure else paired(part, pure, end)
    row |= _ends("loss_pure", beside)
    is_better = beside.high is not None and beside.high < 0 and not part["is_event"].any()
    return row | {"beats_pure": None if pure is None or is_pure or is_none else is_better}


def _ends(name: str, interval: Interval) -> Row:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _verdict(row: Row) -> str:
    """The rules' word for an arm."""
    if row["arm"] == NONE:
        return REFERENCE
    if not row["num_onsets"]:
        if row["num_finished"] != row["num_runs"]:
            return UNFINISHED
        return f"{NO_ONSET}, {BEYOND}" if row["lasted_longer"] else NO_ONSET
    if not _is_below(row["delay_p"]):
        return UNDECIDED
    if row["delay"] < 1:
        return UNDECIDED if row["delay_is_at_least"] else HASTENS
    if row["equal_steps"] is None:
        return DELAYS
    is_beyond = _is_below(row["equal_steps_p"]) and row["equal_steps"] > 1
    return f"{DELAYS} {BEYOND}" if is_beyond else f"{DELAYS}, {NOT_BEYOND}"


def _is_below(p: float | None) -> bool:
    return p is not None and p < ALPHA


def delay(part: Frame, reference: Frame, of: str = "time") -> Delay:
    """Onset ÷ onset of `none`, over the seeds that both have, seeds as clusters; `of`: `time` or `tokens`.

    Without onset in the arm there is no estimate, only what the ratio is at least. Where one run alone has one, leaving
    that out leaves no ratio, and so no error: then censored runs count as if they had their onset at their end, which
    makes the ratio too small ("at least"), and the t-test over seeds is of that.
    """
    part, reference = _shared(part, reference)
    if part.empty or not reference["is_event"].any():
        return UNKNOWN
    if not part["is_event"].any():
        middle = median_step(reference[of], reference["is_event"])
        return Delay(UNKNOWN.estimate, True, None if not middle else float(part[of].min()) / middle)
    time, is_event, seed = (np.concatenate([part[name], reference[name]]) for name in (of, "is_event", "seed"))
    is_arm = np.repeat([1.0, 0.0], [len(part), len(reference)])
    found = log_time_ratio(time, is_event.astype(bool), is_arm, np.zeros(len(time)), seed)
    if found.error is None and not part["is_event"].all() and reference["is_event"].all():
        return Delay(t_estimate([math.log(a / b) for a, b in _pairs(part, reference, of)]), is_at_least=True)
    return Delay(found)


def ladder(rungs: Frame) -> dict[int, Floats]:
    """For each seed, slope and constant of log onset on log(path length per step), over runs of several rates."""
    found: dict[int, Floats] = {}
    for seed, part in rungs[rungs["path_per_step"].notna()].groupby("seed"):
        x, is_event = np.log(part["path_per_step"].to_numpy(dtype=float)), part["is_event"].to_numpy(dtype=bool)
        if part.loc[is_event, "lr"].nunique() > 1:
            design = np.column_stack([x, np.ones(len(x))])
            line = censored_fit(np.log(part["time"].to_numpy(dtype=float)), is_event, design)
            found |= {} if line is None else {int(seed): line}
    return found


def predict(rows: Frame, lines: dict[int, Floats]) -> Floats:
    """The log onset of a run of the same seed and a rate at which it goes as far per step; NaN: no ladder."""
    line = np.array([lines.get(int(seed), np.full(2, np.nan)) for seed in rows["seed"]]).reshape(-1, 2)
    return line[:, 0] * np.log(rows["path_per_step"].to_numpy(dtype=float)) + line[:, 1]


def at_equal_steps(part: Frame) -> Delay:
    """Onset ÷ what the ladder predicts for the same steps of the weights, over seeds; censored runs as in `delay`."""
    part = part[part["predicted"].notna()]
    ratio, is_event = np.log(part["time"]) - part["predicted"], part["is_event"].to_numpy(dtype=bool)
    if part.empty:
        return UNKNOWN
    if not is_event.any():
        return Delay(UNKNOWN.estimate, True, math.exp(float(ratio.min())))
    value = ratio.to_numpy(dtype=float)

    def mean(mask: Bools) -> float | None:
        if not is_event[mask].any():
            return None
        fitted = censored_fit(value[mask], is_event[mask], np.ones((int(mask.sum()), 1)))
        return None if fitted is None else float(fitted[0])

    found = over_seeds(mean, part["seed"].to_numpy())
    if found.error is None and not is_event.all():
        return Delay(t_estimate(ratio), is_at_least=True)
    return Delay(found)


def paired(part: Frame, other: Frame, name: str) -> Interval:
    """The mean difference of two arms over the seeds that both have, with its t-interval."""
    return t_interval([a - b for a, b in _pairs(part, other, name)])


def _pairs(part: Frame, other: Frame, name: str) -> list[tuple[float, float]]:
    """The values of the seeds that both arms have."""
    known = dict(zip(other["seed"], other[name], strict=True))
    return [(value, known[seed]) for seed, value in zip(part["seed"], part[name], strict=True) if seed in known]


def _shared(part: Frame, reference: Frame) -> tuple[Frame, Frame]:
    """The rows of the seeds that both arms have."""
    return part[part["seed"].isin(reference["seed"])], reference[reference["seed"].isin(part["seed"])]
