"""S2a, S3 and S5a: how the pull of a sharpened sampler sets the onset. Thresholds: docs/sampler.md."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import LOOKING, condition
from collapselab.analysis.evidence import Finding, Material, equivalence, missing
from collapselab.analysis.intervals import NUM_RESAMPLES, Floats, bootstrap_interval
from collapselab.analysis.sampler import arms_of, is_pure, measured, regimes
from collapselab.analysis.sampler_line import LARGE_BATCH, LEAST_ONSET, slope_on_rate
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio

SLOPE = (-1.25, -0.8)
MAX_ERROR = 0.25
BATCH_RATIO = (0.8, 1.25)
_WORST = 1e3  # an error without bound: a law that says never


def onset_by_rate(material: Material) -> Finding:
    """S2a: the slope of log onset on log rate in the freeze, within model and sampler, over seeds."""
    rows = frozen(material)
    rows = rows.assign(stratum=condition(rows, (*LOOKING, "lr")))
    rows = rows[rows.groupby("stratum")["lr"].transform("nunique") > 1]
    if rows.empty:
        return missing("needs arms that freeze at two rates or more, other settings equal")
    return slope_on_rate(rows, SLOPE)


def frozen(material: Material) -> Frame:
    """The runs of arms that freeze, with sharpened sampling."""
    rows = measured(material)
    return rows[(rows["arm"].map(regimes(rows)) == "freeze") & ~is_pure(rows)]


def predictions(arms: Frame) -> pd.DataFrame:
    """The arms in which half of the runs have an onset, with the onset that the law predicts.

    `predicted` = C / (relative update norm × sharpening), with one C for each `family` of models, fitted on the arms
    with `is_fitted`: those whose name has a SHA-256 with an odd first digit. An arm that is not sharpened has no finite
    prediction, and is not fitted.
    """
    known: Frame = arms[arms["onset"].notna() & arms["sharpening_nats"].notna() & arms["relative_update_norm"].notna()]
    pull = known["sharpening_nats"] * known["relative_update_norm"]
    onset = np.maximum(known["onset"], LEAST_ONSET)
    is_odd = np.array([int(hashlib.sha256(arm.encode()).hexdigest()[0], 16) % 2 == 1 for arm in known["arm"]], bool)
    family = known["model"].where(~known["model"].str.startswith("builtin:"), "builtin")
    with np.errstate(divide="ignore"):
        logs: Frame = np.log(onset * pull)
    constant = np.exp(logs[is_odd & (pull > 0)].groupby(family).mean())
    found = known.assign(family=family, is_fitted=is_odd, constant=family.map(constant))
    return found.assign(predicted=found["constant"] / pull.where(pull > 0, 0.0))


def law_predicts(material: Material) -> Finding:
    """S3: the median error of the law on the arms that it was not fitted to, with a bootstrap over them."""
    arms = arms_of(material)
    found: Frame = predictions(arms)
    held_out = found[~found["is_fitted"] & found["constant"].notna()]
    if held_out.empty:
        return missing("needs arms with onset and records of sharpening and updates, some fitted and some held out")
    error = _errors(held_out)
    resampled: list[float] = []

    def median(values: Floats) -> Floats:
        medians = np.median(values, axis=-1)
        resampled.extend(np.ravel(medians).tolist())
        return medians

    interval = bootstrap_interval(error, median, np.random.default_rng(0))
    draws = np.array(resampled[1:])
    p_above, p_below = ((1 + (draws > MAX_ERROR).sum()), (1 + (draws <= MAX_ERROR).sum()))
    p_for, p_against = (min(1.0, 2 * float(p) / (NUM_RESAMPLES + 1)) for p in (p_above, p_below))
    constants = found.dropna(subset="constant").groupby("family")["constant"].first()
    note = f"{int(found['is_fitted'].sum())} arms fitted, {len(held_out)} held out, {len(arms) - len(found)} without "
    note += "onset in half of the runs left out; C " + ", ".join(f"{c:.3g} ({f})" for f, c in constants.items())
    note += _by_kind(held_out)
    direction = 1 if interval.estimate is not None and interval.estimate <= MAX_ERROR else -1
    known = interval.low is not None
    rows = measured(material)
    rows = rows[rows["arm"].isin(found["arm"])]
    ps = (p_for, p_against) if known else (None, None)
    return Finding(interval, *ps, direction, len(rows), rows["seed"].nunique(), note)


def _errors(held_out: Frame) -> Floats:
    ratio = (held_out["predicted"] / np.maximum(held_out["onset"], LEAST_ONSET)).to_numpy(dtype=float)
    return np.minimum(np.abs(ratio - 1), _WORST)


def _by_kind(held_out: Frame) -> str:
    """The median error by what the arms cut off, and of those that melt."""
    kinds = {
        "temperature alone": held_out[["top_k", "top_p", "min_p"]].isna().all(axis=1),
        **{name.replace("_", "-"): held_out[name].notna() for name in ("top_k", "top_p", "min_p")},
        "melting": held_out["regime"] == "melt",
    }
    found = [f"{name} {np.median(_errors(held_out[is_kind])):.2g}" for name, is_kind in kinds.items() if is_kind.any()]
    return "; median error: " + ", ".join(found)


def batch_is_nothing(material: Material) -> Finding:
    """S5a: the time ratio of batch 16 to batch 1 in the freeze, other settings equal, seeds paired."""
    rows = frozen(material)
    batch = rows["generate.batch_size"].astype(int)
    rows = rows[batch.isin([1, LARGE_BATCH])]
    stratum = condition(rows, (*LOOKING, "generate.batch_size")) + "|" + rows["seed"].astype(str)
    rows = rows.assign(stratum=stratum, x=(rows["generate.batch_size"] != 1).astype(float))
    rows = rows[rows.groupby("stratum")["x"].transform("nunique") > 1]
    if rows.empty:
        return missing(f"needs arms that freeze with batches of 1 and of {LARGE_BATCH}, other settings and seeds equal")
    time = np.maximum(rows["duration"].to_numpy(dtype=float), LEAST_ONSET)
    ratio = log_time_ratio(time, *(rows[name].to_numpy() for name in ("is_event", "x", "stratum", "seed")))
    p_for, p_against, direction = equivalence(ratio, *map(math.log, BATCH_RATIO))
    by_rate = rows.groupby(["lr", "x"])["duration"].median().unstack()
    note = ", ".join(f"{rate:g} {b:g} and {a:g}" for rate, a, b in by_rate.itertuples(name=None))
    note = f"median onset by rate, batch {LARGE_BATCH} and 1: {note}"
    return Finding(ratio.interval(math.exp), p_for, p_against, direction, len(rows), rows["seed"].nunique(), note)
