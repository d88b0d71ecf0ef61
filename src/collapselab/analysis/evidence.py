"""What runs say of a claim, and what all claims are judged from. `hypotheses` makes verdicts of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collapselab.analysis.comparisons import distinct, trajectory
from collapselab.analysis.intervals import LEVEL, Interval
from collapselab.analysis.survival import Frame, onset_times
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


def missing(note: str) -> Finding:
    """The finding where runs that the claim needs are not there; the note names them."""
    return Finding(Interval(None, None, None, LEVEL, 0), None, None, 0, 0, 0, note)


def own_text(frame: Frame) -> Frame:
    """The runs on their own text."""
    return frame[frame["train.source"] == "own"]


def divergence(frame: Frame) -> Frame:
    """The step at which each run diverged; infinite where it did not, or that is unknown."""
    return frame.reindex(columns=["diverged_step"])["diverged_step"].astype("Float64").fillna(np.inf).astype(float)


def with_ends(interval: Interval, form: str = ".3g") -> str:
    """An estimate and its interval in words."""
    if interval.estimate is None:
        return "unknown"
    ends = "" if interval.low is None or interval.high is None else f" [{interval.low:.3g}, {interval.high:.3g}]"
    return f"{interval.estimate:{form}}{ends}"
