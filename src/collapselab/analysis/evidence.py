"""What runs say of a claim, and what all claims are judged from. `hypotheses` makes verdicts of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from collapselab.analysis.comparisons import distinct, trajectory, unguarded
from collapselab.analysis.intervals import LEVEL, Estimate, Interval, in_figures
from collapselab.analysis.survival import Frame, onset_times
from collapselab.config.schema import Sampling
from collapselab.rundir.frames import Runs


@dataclass(frozen=True)
class Material:
    """The runs' rows with `duration`, `is_event` (`survival.onset_times`) and `trajectory`, and their steps.

    `trajectories` are the distinct runs whose onset or censoring is known (`comparisons.distinct`).
    """

    runs: Frame
    steps: Frame
    trajectories: Frame


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim.

    `p_for` is the p-value of an empty claim, `direction` 1 where the effect is as claimed, -1 where it is the opposite,
    0 where it is neither or unknown. `p_against` is the p-value of the smallest effect that would bear the claim out,
    1 where the effect does not fall short of it. Both are two-sided. `num_runs` counts trajectories. `footnote`: the
    same effect by another method.
    """

    effect: Interval
    p_for: float | None
    p_against: float | None
    direction: int
    num_runs: int
    num_seeds: int
    note: str
    footnote: str = ""


def gather(runs: Runs) -> Material:
    """What all claims are judged from."""
    onsets: Frame = onset_times(runs)
    columns = {name: onsets[name].to_numpy() for name in ("duration", "is_event")}
    rows: Frame = runs.runs.assign(**columns)
    rows = rows.assign(trajectory=trajectory(rows))
    return Material(rows, runs.steps, distinct(rows))


def with_paper_sampler(material: Material) -> Material:
    """The runs with the paper's sampler (temperature 0.8, top-k 500), if the runs differ in the sampler; else all."""
    rows = material.runs
    names = [name for name in rows.columns if name.startswith("sampling.")]
    if len(rows[names].astype(str).drop_duplicates()) < 2:
        return material
    usual = Sampling().model_dump()
    is_usual = np.logical_and.reduce([_equals(rows[name], usual[name.removeprefix("sampling.")]) for name in names])
    kept = rows[is_usual]
    return replace(material, runs=kept, trajectories=distinct(kept))


def _equals(values: Frame, usual: object) -> Frame:
    return values.isna() if usual is None else values == usual


def missing(note: str) -> Finding:
    """The finding where runs that the claim needs are not there; the note names them."""
    return Finding(Interval(None, None, None, LEVEL, 0), None, None, 0, 0, 0, note)


def equivalence(estimate: Estimate, low: float, high: float) -> tuple[float | None, float | None, int]:
    """The p-values for and against an estimate's lying between two bounds, two-sided, and the direction.

    For it: the larger one of the tests against each bound. The interval lies between the bounds where that is below
    0.05, and outside them where the other one is.

    Reference: Schuirmann 1987 (two one-sided tests).
    """
    ps = (estimate.p_value(low), estimate.p_value(high))
    if estimate.value is None or ps[0] is None or ps[1] is None:
        return None, None, 0
    if low <= estimate.value <= high:
        return max(ps[0], ps[1]), 1.0, 1
    return 1.0, ps[0] if estimate.value < low else ps[1], -1


def own_text(frame: Frame) -> Frame:
    """The runs on their own text, without safeguards."""
    return unguarded(frame[frame["train.source"] == "own"])


def divergence(frame: Frame) -> Frame:
    """The step at which each run diverged; infinite where it did not, or that is unknown."""
    return frame.reindex(columns=["diverged_step"])["diverged_step"].astype("Float64").fillna(np.inf).astype(float)


def with_ends(interval: Interval, *, signed: bool = False) -> str:
    """An estimate and its interval in words."""
    if interval.estimate is None:
        return "unknown"
    low, high = interval.low, interval.high
    ends = "" if low is None or high is None else f" [{in_figures(low)}, {in_figures(high)}]"
    return in_figures(interval.estimate, signed=signed) + ends
