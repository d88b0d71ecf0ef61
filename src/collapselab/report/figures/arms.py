"""Losses of runs with equal model and learning rate that differ otherwise, for example in a control or temperature."""

from __future__ import annotations

from functools import partial
from typing import cast

from collapselab.report.entries import Figure
from collapselab.report.figures.losses import Losses, caption, draw, losses_of, with_text
from collapselab.report.groups import rest_labels, run_table
from collapselab.report.values import counted, short
from collapselab.rundir.frames import Runs

MAX_ARMS = 8  # curves of unordered arms in one panel


def select(runs: Runs) -> Losses | None:
    """The model and learning rate with the most arms."""
    table = with_text(run_table(runs), runs, 0)
    if table.empty:
        return None
    place = table.groupby(["model", "lr", "text"])["rest"].nunique()
    if place.max() < 2:
        return None
    model, rate, text = cast(tuple[str, float, str], place.idxmax())
    table = table[(table["model"] == model) & (table["lr"] == rate) & (table["text"] == text)]
    table = table.assign(rest_label=rest_labels(table))
    num_runs = table["rest_label"].value_counts()
    kept = num_runs.index[:MAX_ARMS]
    table = table[table["rest_label"].isin(kept)].sort_values("rest_label", kind="stable")
    # Own text comes first, in black.
    table = table.iloc[(table["train.source"] != "own").to_numpy().argsort(kind="stable")]
    table = table.assign(panel=table["model_label"], curve=table["rest_label"])
    num_others = len(num_runs) - len(kept)
    further = counted(num_others, "further arm") if num_others else ""
    return losses_of(runs, table, "arm", list(table["curve"].unique()), further)


def message(losses: Losses) -> str:
    """On which arm the loss on human text rises most, for which model at which learning rate."""
    row, validation = losses.table.iloc[0], losses.series[0]
    rise = {run: values[-1] - values[0] for run, (_, values) in validation.items()}
    by_arm = losses.table.assign(rise=losses.table["run"].map(rise)).groupby("curve")["rise"].mean()
    where = f"{row['model_label']} at learning rate {short(row['lr'])}"
    return f"{where}: loss on {row['text']} rises most on {by_arm.idxmax()}"


FIGURE = Figure(
    "Controls and other arms: losses at equal model and learning rate",
    select,
    partial(draw, title=message),
    caption,
    "no two runs of one model at one learning rate differ in anything but the seed.",
)
