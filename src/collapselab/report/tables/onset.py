"""Onset of collapse by arm."""

from __future__ import annotations

import pandas as pd

from collapselab.analysis.comparisons import distinct
from collapselab.analysis.evidence import own_text
from collapselab.analysis.survival import Frame, median_onset, restricted_mean
from collapselab.collapse.words import ENDED_BY, TRAINING_SOURCES
from collapselab.report.entries import Table
from collapselab.report.groups import run_table
from collapselab.rundir.frames import Runs


def build(runs: Runs) -> pd.DataFrame | None:
    """One row per arm: runs, onsets and censored runs, the median onset and the restricted mean with its interval.

    An arm is a group of runs that differ only in the seed or in settings that do not affect training. The mean is
    restricted to the steps before the first run used up its budget (`_horizon`), so that arms can be compared.
    """
    table = run_table(runs)
    known = table[table["run"].isin(distinct(table)["run"])]
    if known.empty:
        return None
    horizon = _horizon(known)
    arms = known.sort_values(["size", "model_label", "lr"], kind="stable").groupby("arm", sort=False)
    return pd.DataFrame([_row(arm, horizon) for _, arm in arms])


def _row(arm: Frame, horizon: float) -> dict[str, object]:
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
    """The last step at which arms are compared: where the first run used up its steps; the last onset if none did.

    Own-text runs without safeguards decide if there are any: controls often run for fewer steps.
    """
    own = own_text(known)
    known = own if len(own) else known
    used_up = known.loc[(known["ending"] == ENDED_BY["budget"].label) & ~known["is_event"], "duration"]
    return float(used_up.min()) if len(used_up) else float(known["duration"].max())


TABLE = Table("Onset of collapse by arm", build)
