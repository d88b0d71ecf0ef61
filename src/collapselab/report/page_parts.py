"""The plain parts of a report: summary, runs, hypotheses, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from collapselab.analysis.comparisons import trajectory
from collapselab.analysis.survival import Frame
from collapselab.collapse.words import EVENTS, FATES
from collapselab.report.describe import (
    Common,
    common_environment,
    common_settings,
    labels,
    loss_on_human_text,
    outcome,
)
from collapselab.report.values import counted, shown
from collapselab.rundir.frames import Runs

if TYPE_CHECKING:  # lifelines and scipy take a second to import, and only pages of several runs need them
    from collapselab.analysis.hypotheses import Hypothesis

OVERVIEW = {
    "kind_at_end": "kind",
    **{name: EVENTS[name].label for name in ("onset_step", "total_collapse_step")},
    "last_step": "last step",
    "run": "directory",
}
VERDICT_STYLES = {"holds": "holds", "does not hold": "fails", "undecided": "undecided"}
COUNTED = {"model": "model", "lr": "learning rate", "seed": "seed"}


@dataclass(frozen=True)
class Printed:
    """A table of the page, every cell as text."""

    title: str
    names: list[str]
    rows: list[list[str]]


def summary(runs: Runs) -> str:
    """The number of runs, their models and their outcomes."""
    frame = cast(Frame, runs.runs)
    if len(frame) == 1:
        return f"{labels(runs)[0]}: {outcome(frame.iloc[0].to_dict())}."
    of_what = ", ".join(counted(frame[name].nunique(), words) for name, words in COUNTED.items())
    fates = Counter(_fate(row) for row in cast(list[dict[str, Any]], frame.to_dict("records")))
    became = ", ".join(f"{fate} in {count}" for fate, count in fates.most_common())
    num = trajectory(frame).nunique()
    once = f" ({num:,} trajectories, some seen more than once)" if num < len(frame) else ""
    return f"{counted(len(frame), 'run')}{once} of {of_what}: {became}."


def overview(runs: Runs) -> Printed:
    """One row per run: label, outcome and steps."""
    frame = cast(Frame, runs.runs)
    last = frame["run"].map(cast(Frame, runs.steps).groupby("run")["step"].max())
    rows = cast(list[dict[str, Any]], frame.assign(last_step=last).to_dict("records"))
    cells = [
        [label, _fate(row), shown(loss_on_human_text(row)), *(shown(row.get(name)) for name in OVERVIEW)]
        for label, row in zip(labels(runs), rows, strict=True)
    ]
    return Printed("Runs", ["run", "fate", "loss on human text", *OVERVIEW.values()], cells)


def damages(runs: Runs) -> list[str]:
    """The damage of each damaged run, and whether the run is left out."""
    return [one.message + ("; the run is left out" if one.is_left_out else "") for one in runs.damages]


def hypotheses(runs: Runs) -> list[dict[str, str]]:
    """The hypotheses in words; empty for a single run, which cannot test them."""
    if len(runs.runs) < 2:
        return []
    from collapselab.analysis.hypotheses import judge

    return [_hypothesis(one) for one in judge(runs)]


def setting_parts(runs: Runs) -> list[tuple[str, Common]]:
    """Settings, and versions and machines: shared values, and values that differ."""
    return [("Settings", common_settings(runs)), ("Versions and machines", common_environment(runs))]


def _hypothesis(one: Hypothesis) -> dict[str, str]:
    interval = "" if one.low is None or one.high is None else f" ({_figures(one.low, 3)} to {_figures(one.high, 3)})"
    return {
        "key": one.key,
        "claim": one.claim,
        "verdict": one.verdict,
        "style": VERDICT_STYLES[one.verdict],
        "effect": _figures(one.effect, 3) + interval,
        "effect_name": one.effect_name,
        "p_adjusted": _figures(one.p_adjusted, 2),
        "test": one.test,
        "counts": f"{one.num_runs}, {one.num_seeds}",
        "note": "; ".join(filter(None, (one.note, one.footnote))),
    }


def _fate(row: Mapping[str, Any]) -> str:
    if pd.isna(row["ended_by"]):
        return "unfinished" if pd.isna(row["status"]) else str(row["status"])
    return FATES[row["fate"]].label


def _figures(value: float | None, digits: int) -> str:
    return shown(None if value is None else float(f"{value:.{digits}g}"))
