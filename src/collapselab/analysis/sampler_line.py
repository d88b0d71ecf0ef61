"""S1, S2b, S5b and S6: what happens on the line of pure sampling. Every threshold is decided in docs/sampler.md."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import JUDGING, LOOKING, condition
from collapselab.analysis.evidence import Finding, Material, equivalence, missing, own_text, with_ends
from collapselab.analysis.intervals import Floats, over_seeds, share_interval, share_test
from collapselab.analysis.sampler import is_pure, measured
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio
from collapselab.inputs.model_files import SMOLLM2

TIMES, SHARPENED, PAPER_TOP_K = 10, 0.8, 500
MOST_SHARE = 1 / 2
SLOPE = (-2.5, -1.6)
LARGE_BATCH, MAX_RISE_RATIO = 16, 0.8
LEAST_ONSET = 0.5  # an onset at step 0, where times are compared as ratios


def pure_outlasts(material: Material) -> Finding:
    """S1: the share of pairs in which the pure run has no onset by ten times that of temperature 0.8."""
    rows = measured(material)
    return _share_of_pairs(rows[rows["model"] != SMOLLM2])


def smollm2_alike(material: Material) -> Finding:
    """S6: the same on SmolLM2, if the entropy also falls faster, or rises less, at temperature 0.8 than at 1."""
    rows = measured(material)
    rows = rows[rows["model"] == SMOLLM2]
    found, paired = _share_of_pairs(rows), pairs(rows)
    if paired.empty:
        return found
    lead = (paired["entropy_slope_partner"] - paired["entropy_slope"]).to_numpy(dtype=float)
    known, seeds = np.isfinite(lead), paired["seed"].to_numpy()
    mean = over_seeds(lambda mask: float(lead[mask].mean()) if mask.any() else None, seeds[known])
    ends = [f"{paired[name].mean():.2g}" for name in ("entropy_slope_partner", "entropy_slope")]
    note = f"{found.note}; slope of the entropy {ends[0]} at temperature {SHARPENED} and {ends[1]} at 1, "
    note += f"difference {with_ends(mean.interval())} nats per step"
    is_below = mean.value is not None and mean.value < 0
    direction = found.direction if is_below else min(found.direction, 0)
    return Finding(found.effect, found.p_for, found.p_against, direction, found.num_runs, found.num_seeds, note)


def pairs(rows: Frame) -> Frame:
    """Pure runs beside runs at temperature 0.8 with an onset, seed and other settings equal: a row each.

    The partner cuts nothing off, or else all but the paper's 500 tokens. `outlasts`: 1 if the pure run has no onset by
    ten times its partner's, 0 if it has, NaN if it was not observed for as long.
    """
    without = (*LOOKING, *JUDGING, "sampling.temperature", "sampling.top_k")
    rows = rows.assign(key=condition(rows, without) + "|" + rows["seed"].astype(str))
    pure, top_k = rows[is_pure(rows)], rows["sampling.top_k"].astype(float)
    is_partner = (rows["sampling.temperature"].astype(float) == SHARPENED) & rows["is_event"]
    is_partner &= (top_k.isna() | (top_k == PAPER_TOP_K)) & ~rows["sampling.greedy"].astype(bool)
    partner = rows[is_partner].assign(cut=top_k.notna()).sort_values("cut", kind="stable").drop_duplicates("key")
    partner = partner[["key", "run", "duration", "entropy_slope"]]
    found = pure.drop_duplicates("key").merge(partner, on="key", suffixes=("", "_partner"))
    limit = TIMES * np.maximum(found["duration_partner"], LEAST_ONSET)
    return found.assign(
        outlasts=np.select(
            [found["is_event"] & (found["duration"] <= limit), found["duration"] >= limit], [0.0, 1.0], np.nan
        )
    )


def _share_of_pairs(rows: Frame) -> Finding:
    everything = pairs(rows)
    found = everything.dropna(subset="outlasts")
    if found.empty:
        return missing(f"needs pure runs, ten times as long as the onset at temperature {SHARPENED} of the same seed")
    hits, n = int(found["outlasts"].sum()), len(found)
    by_arm = found.groupby(["model", "lr"])["outlasts"].agg(["sum", "size"])
    note = ", ".join(f"{model} {rate:g} {int(s)} of {k}" for (model, rate), s, k in by_arm.itertuples(name=None))
    early = found[found["outlasts"] == 0]
    note += f"; {len(everything) - n} pairs not observed for as long" if len(everything) > n else ""
    note += f"; {int(early['is_melted'].sum())} of {len(early)} onsets are melting" if len(early) else ""
    p_for, p_against = (share_test(hits, n, MOST_SHARE, is_more=is_more) for is_more in (True, False))
    direction = int(np.sign(hits / n - MOST_SHARE))
    num_runs = len(set(found["run"]) | set(found["run_partner"]))
    return Finding(share_interval(hits, n), p_for, p_against, direction, num_runs, found["seed"].nunique(), note)


def pure_onset_by_rate(material: Material) -> Finding:
    """S2b: the slope of log onset on log rate of pure runs, over seeds; censored ones count.

    Only where at least half of the runs have an onset at two rates or more, other settings equal.
    """
    rows = own_text(material.trajectories)
    rows = rows[is_pure(rows)]
    rows = rows.assign(stratum=condition(rows, (*LOOKING, "lr")))
    has_half = rows.groupby(["stratum", "lr"])["is_event"].mean() >= 1 / 2
    num_rates = has_half.groupby("stratum").sum()
    rows = rows[rows["stratum"].map(num_rates).fillna(0) >= 2]
    if rows.empty:
        return missing("needs two rates at which at least half of the pure runs have an onset, other settings equal")
    return slope_on_rate(rows, SLOPE)


def slope_on_rate(rows: Frame, bounds: tuple[float, float]) -> Finding:
    """The slope of log onset on log rate within `stratum`, over seeds, and whether it is within the bounds."""
    columns = [rows["is_event"], np.log(rows["lr"].astype(float)), rows["stratum"], rows["seed"]]
    time = np.maximum(rows["duration"].to_numpy(dtype=float), LEAST_ONSET)
    slope = log_time_ratio(time, *(np.asarray(column) for column in columns))
    rates = ", ".join(
        f"{rate:g} {int(part['is_event'].sum())} of {len(part)}" for rate, part in rows.groupby("lr", sort=True)
    )
    p_for, p_against, direction = equivalence(slope, *bounds)
    note = f"{rows['stratum'].nunique()} samplers and models; onsets by rate: {rates}"
    return Finding(slope.interval(), p_for, p_against, direction, len(rows), rows["seed"].nunique(), note)


def batch_matters_where_pure(material: Material) -> Finding:
    """S5b: the ratio of the rises in validation loss at one path length, batch 16 to batch 1, seeds paired.

    The path length of a model at a rate is the longest that all of its runs of both batch sizes have gone.
    """
    rows = own_text(material.trajectories)
    batch = rows["generate.batch_size"].astype(int)
    rows = rows[is_pure(rows) & batch.isin([1, LARGE_BATCH])]
    rows = rows.assign(
        stratum=condition(rows, (*LOOKING, "generate.batch_size")), is_large=rows["generate.batch_size"] != 1
    )
    curves = {run: curve for run in rows["run"] if len(curve := _loss_by_path(material.steps, run)) > 1}
    rows = rows[rows["run"].isin(list(curves))]
    num = rows.groupby(["stratum", "seed"])["is_large"].transform("nunique")
    rows = rows[num == 2].assign(path=[curves[run][-1, 0] for run in rows[num == 2]["run"]])
    if rows.empty:
        return missing(f"needs pure runs with batches of 1 and of {LARGE_BATCH}, other settings and seeds equal")
    shortest = rows.groupby("stratum")["path"].transform("min")
    rows = rows.assign(
        end=shortest,
        rise=[_rise_at(curves[run], end) for run, end in zip(rows["run"], shortest, strict=True)],
    )
    ratio = over_seeds(lambda mask: _log_ratio(rows[mask]), rows["seed"].to_numpy())
    bound = math.log(MAX_RISE_RATIO)
    is_below = ratio.value is not None and ratio.value < bound
    p_value = ratio.p_value(bound)
    p_for, p_against = (p_value, 1.0) if is_below else (1.0, p_value)
    means = rows.groupby("is_large")["rise"].mean()
    note = f"rises of {means[True]:.3g} and {means[False]:.3g} nats per token at a path of {rows['end'].mean():.3g}"
    direction = 0 if ratio.value is None else 1 if is_below else -1
    ps = (None, None) if p_value is None else (p_for, p_against)
    return Finding(ratio.interval(math.exp), *ps, direction, len(rows), rows["seed"].nunique(), note)


def _log_ratio(rows: Frame) -> float | None:
    """Mean over strata of the log ratio of the mean rises; `None` where a rise is not above 0."""
    means = rows.groupby(["stratum", "is_large"])["rise"].mean().unstack()
    if means.isna().any(axis=None) or (means <= 0).any(axis=None):
        return None
    return float(np.log(means[True] / means[False]).mean())


def _rise_at(curve: Floats, path: float) -> float:
    return float(np.interp(path, curve[:, 0], curve[:, 1])) - float(curve[0, 1])


def _loss_by_path(steps: Frame, run: str) -> Floats:
    """Path length before the step and validation loss at it, of the run's evaluated steps (2 columns)."""
    part = steps[steps["run"] == run].sort_values("step").reindex(columns=["step", "path_length", "val_nll_nats"])
    before = part["path_length"].astype(float).shift(1)
    before = before.where(part["step"] > 0, 0.0)
    found: Frame = pd.DataFrame({"path": before, "loss": part["val_nll_nats"].astype(float)})
    return found[np.isfinite(found).all(axis=1)].to_numpy()
