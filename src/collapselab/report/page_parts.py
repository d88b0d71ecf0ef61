"""The plain parts of a report: summary, runs, hypotheses, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import pandas as pd

from collapselab.analysis.comparisons import trajectory
from collapselab.analysis.intervals import in_figures
from collapselab.analysis.survival import Frame
from collapselab.collapse.words import EVENTS, FATES
from collapselab.report.captions import sentence
from collapselab.report.describe import (
    Common,
    common_environment,
    common_settings,
    labels,
    loss_on_human_text,
    outcome,
    settings_of,
    story,
)
from collapselab.report.groups import UNFINISHED, run_table
from collapselab.report.values import counted, known, shown
from collapselab.rundir.frames import Runs
from collapselab.visible import visible

if TYPE_CHECKING:  # lifelines and scipy take a second to import, and only pages of several runs need them
    from collapselab.analysis.hypotheses import Hypothesis

STEPS = {
    **{name: EVENTS[name].label for name in ("warned_step", "onset_step", "total_collapse_step")},
    "last_step": "last step",
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
    numbers = {words: frame[name].nunique() for name, words in COUNTED.items() if name in settings_of(frame)}
    of_what = ", ".join(counted(number, words) for words, number in numbers.items() if number)
    fates = Counter(_fate(row) for row in cast(list[dict[str, Any]], frame.to_dict("records")))
    became = ", ".join(f"{fate} in {count}" for fate, count in fates.most_common())
    num = trajectory(frame).nunique()
    once = f" ({num:,} trajectories, some seen more than once)" if num < len(frame) else ""
    return f"{counted(len(frame), 'run')}{once} of {of_what}: {became}."


def lead(runs: Runs) -> str:
    """What became of the runs, in one sentence."""
    if len(runs.runs) == 1:
        return story(cast(Frame, runs.runs).iloc[0].to_dict())
    table: Frame = run_table(runs)
    is_own, is_plain = table["train.source"] == "own", table["safeguards"] == "none"
    texts = {"own text": is_own & is_plain, "own text with safeguards": is_own & ~is_plain, "other text": ~is_own}
    parts = [part for part in (_collapsed(table[rows], text) for text, rows in texts.items()) if part]
    return sentence("; ".join(parts)) + "." if parts else "No run has a step yet."


def _collapsed(table: Frame, text: str) -> str:
    """How many of these runs collapsed, and when half of them had; empty if there are none."""
    num, num_collapsed = len(table), int(table["is_event"].sum())
    if not num:
        return ""
    if num == 1:
        who, does = f"the run on {text}", "collapses" if num_collapsed else "does not collapse"
    elif not num_collapsed:
        who, does = f"none of the {num:,} runs on {text}", "collapses"
    else:
        who, does = f"{'all' if num_collapsed == num else f'{num_collapsed:,} of'} {num:,} runs on {text}", "collapse"
    when = f", half of them by step {_median_onset(table)}" if num > 1 and 2 * num_collapsed > num else ""
    return f"{who} {does}{when}{' so far' if (table['ending'] == UNFINISHED).any() else ''}"


def _median_onset(table: Frame) -> int:
    onsets = sorted(table.loc[table["is_event"], "duration"])
    return int(onsets[(len(table) - 1) // 2])


@dataclass(frozen=True)
class RunRow:
    """A run in the overview: its link, its label, its bar, and cells as text.

    `bar` has the widths of its parts in thousandths of the longest run: before onset, until total collapse, after it.
    """

    link: str
    label: str
    bar: tuple[int, int, int]
    cells: list[str]


@dataclass(frozen=True)
class RunTable:
    """The overview: headings beside the run and its bar, rows, and the step at which the longest bar ends."""

    names: list[str]
    rows: list[RunRow]
    last_step: int


def overview(runs: Runs) -> RunTable:
    """One row per run: label, bar, outcome and steps."""
    frame = cast(Frame, runs.runs)
    last = frame["run"].map(cast(Frame, runs.steps).groupby("run")["step"].max())
    rows = cast(list[dict[str, Any]], frame.assign(last_step=last).to_dict("records"))
    longest = max([1, *(int(row["last_step"]) for row in rows if known(row, "last_step"))])
    made = [
        RunRow(
            link=link_to(row),
            label=label,
            bar=_bar(row, longest),
            cells=[
                _fate(row),
                *(shown(row.get(name)) for name in STEPS),
                shown(loss_on_human_text(row)),
                *(shown(row.get(name)) for name in ("kind_at_end", "run")),
            ],
        )
        for label, row in zip(labels(runs), rows, strict=True)
    ]
    return RunTable(["fate", *STEPS.values(), "loss on human text", "kind", "directory"], made, longest)


def link_to(row: Mapping[str, Any]) -> str:
    """The address, inside the page, of a run at its onset, or at its last step."""
    step = next((int(row[name]) for name in ("onset_step", "last_step") if known(row, name)), 0)
    return f"#run={quote(visible(str(row['run'])), safe='')}&step={step}"


def _bar(row: Mapping[str, Any], longest: int) -> tuple[int, int, int]:
    if not known(row, "last_step"):
        return 0, 0, 0
    last = int(row["last_step"])
    onset, total = (int(row[name]) if known(row, name) else last for name in ("onset_step", "total_collapse_step"))
    first, second, end = (round(1000 * step / longest) for step in (onset, max(onset, total), last))
    return first, second - first, max(0, end - second)


def damages(runs: Runs) -> list[str]:
    """The damage of each damaged run, and whether the run is left out."""
    return [one.message + ("; the run is left out" if one.is_left_out else "") for one in runs.damages]


def hypotheses(runs: Runs) -> list[tuple[str, list[dict[str, str]]]]:
    """The claims in words: those that the runs say something of, and, under a heading, the others.

    Empty for a single run, which cannot test them.
    """
    if len(runs.runs) < 2:
        return []
    from collapselab.analysis.hypotheses import judge

    told = [(one.effect is not None, _hypothesis(one)) for one in judge(runs)]
    tested, untested = ([words for is_known, words in told if is_known is wanted] for wanted in (True, False))
    heading = f"{counted(len(untested), 'claim')} that these runs cannot test"
    return [part for part in (("", tested), (heading, untested)) if part[1]]


def setting_parts(runs: Runs) -> list[tuple[str, Common]]:
    """Settings, and versions and machines: shared values, and values that differ."""
    return [("Settings", common_settings(runs)), ("Versions and machines", common_environment(runs))]


def _hypothesis(one: Hypothesis) -> dict[str, str]:
    interval = "" if one.low is None or one.high is None else f" [{in_figures(one.low)}, {in_figures(one.high)}]"
    return {
        "key": one.key,
        "claim": one.claim,
        "verdict": sentence(one.verdict),
        "style": VERDICT_STYLES[one.verdict],
        "effect": "" if one.effect is None else f"{sentence(one.effect_name)}: {in_figures(one.effect)}{interval}.",
        "p_adjusted": "unknown" if one.p_adjusted is None else in_figures(float(f"{one.p_adjusted:.2g}")),
        "test": one.test,
        "counts": f"{counted(one.num_runs, 'run')}, {counted(one.num_seeds, 'seed')}",
        "note": "; ".join(filter(None, (one.note, one.footnote))),
    }


def _fate(row: Mapping[str, Any]) -> str:
    if pd.isna(row["ended_by"]):
        return "unfinished" if pd.isna(row["status"]) else str(row["status"])
    return FATES[row["fate"]].label
