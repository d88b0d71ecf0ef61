"""Selects the runs of a figure or table: own-text runs, each trajectory once, or one representative run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from collapselab.analysis.comparisons import distinct, trajectory
from collapselab.analysis.evidence import own_text
from collapselab.analysis.survival import Frame
from collapselab.collapse.words import ENDED_BY
from collapselab.report.groups import run_table
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

PAPER_LR = 2e-5
MAX_NAMED = 6  # models that are not shown, in words


@dataclass(frozen=True)
class OneRun:
    """A row of `groups.run_table`, the run's steps, and the first sample of each step of those that judge the model."""

    row: Mapping[str, Any]
    steps: Frame
    samples: Frame


def main_runs(table: Frame) -> Frame:
    """The largest set of runs on their own text that differ only in model, learning rate and seed.

    Runs with safeguards only where all have some. Sorted from small to large models and learning rates.
    """
    plain = own_text(table)
    own = table[table["train.source"] == "own"] if plain.empty else plain
    if own.empty:
        return own
    largest = own[own["rest"] == own["rest"].value_counts(sort=False).idxmax()]
    return largest.sort_values(["size", "model_label", "lr", "seed"], kind="stable")


def drawn_once(table: Frame) -> Frame:
    """The runs, each trajectory (`comparisons.trajectory`) once.

    A run judged by its samples is preferred to one judged by probes; then a run that ended by total collapse to one
    that continued past it; then the longest.
    """
    ordered = table.assign(
        trajectory=trajectory(table),
        own_samples=table["collapse.source"] == "stream",
        stopped=table["ending"] == ENDED_BY["collapse"].label,
    )
    ordered = ordered.sort_values(["own_samples", "stopped", "last_step"], ascending=False, kind="stable")
    return table[table.index.isin(ordered.drop_duplicates("trajectory").index)]


def judged_once(runs: Runs) -> Frame:
    """The main runs whose onset or censoring is known, each trajectory once."""
    main = main_runs(run_table(runs))
    return main[main["run"].isin(distinct(main)["run"])]


def at_shared_rates(table: Frame) -> Frame:
    """If models share a grid, leaves out learning rates of a single model: they belong to another comparison."""
    is_shared = table.groupby("lr")["model"].transform("nunique") > 1
    return table[is_shared] if table.loc[is_shared, "lr"].nunique() > 1 else table


def rates(table: Frame) -> list[str]:
    """The learning rates in words, in order of size."""
    return [short(rate) for rate in sorted(table["lr"].unique())]


def num_arms(table: Frame) -> int:
    return len(table[["model", "lr", "rest"]].drop_duplicates())


def left_out(number: int) -> str:
    """A sentence on the arms that did not fit; empty if all did."""
    if number < 1:
        return ""
    return f" {number} further {'arm is' if number == 1 else 'arms are'} not shown."


def models_by_number(table: Frame) -> list[str]:
    """The models by number of runs, the most first; of equal numbers, one of each size first, from small to large."""
    counts = table.groupby("model_label", sort=False).agg(num_runs=("run", "size"), size=("size", "first"))
    counts = counts.assign(is_again=counts.duplicated("size"))
    return list(counts.sort_values(["num_runs", "is_again"], ascending=[False, True], kind="stable").index)


def left_out_by_name(models: Sequence[str], before: Frame, after: Frame) -> str:
    """The models that are not shown, and the learning rates that are in `before` only; empty if none."""
    named, num_others = ", ".join(models[:MAX_NAMED]), len(models) - MAX_NAMED
    words = [named + (f" and {counted(num_others, 'more model')}" if num_others > 0 else "")]
    gone = [rate for rate in rates(before) if rate not in rates(after)]
    kind = "learning rates" if len(gone) > 1 else "learning rate"
    words.append(f"{kind} {', '.join(gone)} (of one model)" if gone else "")
    return "; ".join(part for part in words if part)


def one_run(runs: Runs) -> OneRun | None:
    """The run shown by a figure of one run; the onset of an unfinished run comes from its records."""
    table = run_table(runs)
    name = shown_run(main_runs(table), set(cast(Frame, runs.samples)["run"]))
    return None if name is None else one_of(runs, table, name)


def one_of(runs: Runs, table: Frame, name: str) -> OneRun:
    """The run of that name, whose row is in a table of runs."""
    steps, samples = cast(Frame, runs.steps), cast(Frame, runs.samples)
    row = cast(dict[str, Any], table[table["run"] == name].iloc[0].to_dict())
    if row["is_event"] and pd.isna(row["onset_step"]):
        row["onset_step"] = int(row["duration"])
    return OneRun(row, steps[steps["run"] == name], judging_samples(samples[samples["run"] == name], row))


def judging_samples(samples: Frame, row: Mapping[str, Any]) -> Frame:
    """The first sample of each step of those that judge the model, in order of steps."""
    role = "probe" if row.get("collapse.source") == "probe" else "train"
    return samples[samples["role"] == role].drop_duplicates("step").sort_values("step")


def shown_run(table: Frame, sampled: Set[str]) -> str | None:
    """The run shown by a figure of one run; `None` if there is none.

    Preferred, in this order: a run with samples; with total collapse, or else an onset; at the learning rate of the
    paper's Table 1, 2e-5; with the median last step.

    Args:
        table: the runs to choose from, for example `main_runs`.
        sampled: the names of runs with samples.
    """
    if table.empty:
        return None
    is_sampled = table["run"].isin(sampled)
    table = table[is_sampled] if is_sampled.any() else table
    rank = 2 * (table["ending"] == ENDED_BY["collapse"].label) + table["is_event"].astype(int)
    best = table[rank == rank.max()]
    if (best["lr"] == PAPER_LR).any():
        best = best[best["lr"] == PAPER_LR]
    ordered = best.sort_values("last_step", kind="stable")
    return str(ordered["run"].iloc[(len(ordered) - 1) // 2])
