"""Tables of what the runs say: onset by arm, hypotheses, and how onset depends on the thresholds of collapse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import distinct
from collapselab.analysis.sensitivity import judged_runs, onset_with, variations
from collapselab.analysis.survival import Frame, median_onset, restricted_mean
from collapselab.collapse.words import ENDED_BY, TRAINING_SOURCES
from collapselab.report.groups import run_table
from collapselab.rundir.frames import Runs


def onset_by_arm(runs: Runs) -> pd.DataFrame | None:
    """A row an arm: runs, onsets and censored runs, the median onset and the restricted mean with its interval.

    An arm is a group of runs that differ in the seed only, or in what does not touch training. The mean is restricted
    to the steps up to where the first run used up its own (`_horizon`), so that arms can be compared.
    """
    table = run_table(runs)
    known = table[table["run"].isin(distinct(table)["run"])]
    if known.empty:
        return None
    horizon = _horizon(known)
    rows = [
        _arm_row(arm, horizon)
        for _, arm in known.sort_values(["size", "model_label", "lr"], kind="stable").groupby("arm", sort=False)
    ]
    return pd.DataFrame(rows)


def hypotheses(runs: Runs) -> pd.DataFrame | None:
    """A row a hypothesis: claim, verdict, effect with interval, Holm's p-values for and against, and the test."""
    if len(run_table(runs)) < 2:
        return None
    from collapselab.analysis.hypotheses import judge

    return pd.DataFrame(
        {
            "hypothesis": found.key,
            "claim": found.claim,
            "verdict": found.verdict,
            "effect": found.effect_name,
            "estimate": found.effect,
            "95 % low": found.low,
            "95 % high": found.high,
            "p (Holm)": found.p_adjusted,
            "p against (Holm)": found.p_against,
            "runs": found.num_runs,
            "seeds": found.num_seeds,
            "test": found.test,
            "note": found.note,
            "footnote": found.footnote or None,
        }
        for found in judge(runs)
    )


def threshold_sensitivity(runs: Runs) -> pd.DataFrame | None:
    """How onset moves when a threshold of collapse moves: a row a change, the first one without any.

    Of the own-text runs whose every step is recorded. A run stops at total collapse by its own thresholds, so with
    stricter ones an onset may lie beyond its end: it is lost.
    """
    judged = judged_runs(runs)
    if not judged:
        return None
    recorded = [onset_with(run, run.rules) for run in judged]
    rows = [{"setting": "as recorded", "change": "none", **_moves(recorded, recorded)}]
    for variation in variations():
        moved = [onset_with(run, variation.apply(run.rules)) for run in judged]
        rows.append({"setting": variation.setting, "change": variation.change, **_moves(recorded, moved)})
    return pd.DataFrame(rows)


def _moves(recorded: Sequence[int | None], moved: Sequence[int | None]) -> dict[str, object]:
    pairs = list(zip(recorded, moved, strict=True))
    shifts = [new - old for old, new in pairs if old is not None and new is not None]
    return {
        "runs": len(pairs),
        "onsets": sum(new is not None for _, new in pairs),
        "earlier": sum(shift < 0 for shift in shifts),
        "unchanged": sum(old == new for old, new in pairs),
        "later": sum(shift > 0 for shift in shifts),
        "new": sum(old is None and new is not None for old, new in pairs),
        "lost": sum(old is not None and new is None for old, new in pairs),
        "median shift (steps)": float(np.median(shifts)) if shifts else None,
        "largest shift (steps)": max(shifts, key=abs) if shifts else None,
    }


def _arm_row(arm: Frame, horizon: float) -> dict[str, object]:
    durations, events = arm["duration"].to_numpy(), arm["is_event"].to_numpy()
    mean = restricted_mean(durations, events, horizon)
    num_onsets = int(events.sum())
    first = arm.iloc[0]
    return {
        "model": first["model_label"],
        "learning rate": float(first["lr"]),
        "arm": first["rest_label"] or TRAINING_SOURCES[first["train.source"]],
        "runs": len(arm),
        "seeds": int(arm["seed"].nunique()),
        "onsets": num_onsets,
        "censored": len(arm) - num_onsets,
        "median onset (step)": median_onset(durations, events).estimate,
        f"mean onset up to step {horizon:.0f}": mean.estimate,
        "95 % low": mean.low,
        "95 % high": mean.high,
    }


def _horizon(known: Frame) -> float:
    """The step up to which arms are compared: where the first run used up its steps; the last onset if none did.

    Own-text runs decide, if there are any: controls are often seen for less long.
    """
    own = known[known["train.source"] == "own"]
    known = own if len(own) else known
    used_up = known.loc[(known["ending"] == ENDED_BY["budget"].label) & ~known["is_event"], "duration"]
    return float(used_up.min()) if len(used_up) else float(known["duration"].max())
