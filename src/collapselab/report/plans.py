"""Which runs a figure shows, in which panels and curves; `None` where the runs do not have what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from collapselab.analysis.comparisons import UPDATE_STEPS, distinct, equal_update_sets
from collapselab.analysis.survival import Frame
from collapselab.config.schema import split_at_commas
from collapselab.report.groups import drawn_once, main_runs, run_table, shown_run
from collapselab.report.loss_curves import Layout
from collapselab.report.onset_figures import OnsetPanel
from collapselab.report.theme import short
from collapselab.rundir.frames import Runs

MAX_MODELS = 4  # side by side; of more, those with most runs are shown
MAX_ARMS = 8  # curves of unordered arms in one panel
MAX_SURVIVAL_PANELS = 6


@dataclass(frozen=True)
class LossPlan:
    """The runs of a figure of losses (`loss_curves.loss_curves`), their layout, and a sentence on those left out."""

    table: Frame
    layout: Layout
    left_out: str = ""


@dataclass(frozen=True)
class OnsetPlan:
    """The panels of a figure of onsets, its models, small to large, and a sentence on what is left out."""

    panels: tuple[OnsetPanel, ...]
    models: tuple[str, ...]
    left_out: str = ""


def by_learning_rate(runs: Runs, position: int) -> LossPlan | None:
    """Own-text runs by model and learning rate, on their first (0) or second (1) text.

    Where models share two learning rates or more, those that only one model had are left out.
    """
    table = drawn_once(_with_text(main_runs(run_table(runs)), runs, position))
    if table.empty:
        return None
    num_arms = _num_arms(table)
    most = table["model_label"].value_counts(sort=True).index[:MAX_MODELS]
    table = _at_shared_rates(table[table["model_label"].isin(most)])
    has_one_text = table["text"].nunique() == 1
    panel = table["model_label"] if has_one_text else table["model_label"] + ", " + table["text"]
    table = table.assign(panel=panel, curve=table["lr"].map(short))
    layout = Layout(_unique(table["panel"]), _rates(table), "learning rate", ordered=True)
    return LossPlan(table, layout, _left_out(num_arms - _num_arms(table), "arm"))


def by_arm(runs: Runs) -> LossPlan | None:
    """Runs of one model at one learning rate that differ in something else: controls, temperatures, what there is.

    Of all models and learning rates the ones with most such arms.
    """
    table = drawn_once(_with_text(run_table(runs), runs, 0))
    if table.empty:
        return None
    place = table.groupby(["model", "lr", "text"])["rest"].nunique()
    if place.max() < 2:
        return None
    model, rate, text = cast(tuple[str, float, str], place.idxmax())
    table = table[(table["model"] == model) & (table["lr"] == rate) & (table["text"] == text)]
    num_runs = table["rest_label"].value_counts()
    kept = num_runs.index[:MAX_ARMS]
    table = table[table["rest_label"].isin(kept)].sort_values("rest_label", kind="stable")
    # What a model writes itself comes first, and is drawn in black.
    table = table.iloc[(table["train.source"] != "own").to_numpy().argsort(kind="stable")]
    table = table.assign(panel=table["model_label"], curve=table["rest_label"])
    layout = Layout(_unique(table["panel"]), _unique(table["curve"]), "arm", ordered=False)
    return LossPlan(table, layout, _left_out(len(num_runs) - len(kept), "arm"))


def sizes_compared(runs: Runs) -> OnsetPlan | None:
    """Own-text runs of two or more models at equal learning rates, and at equal update sizes."""
    table = _judged(runs)
    panels = [panel for panel in (_equal_rates(table), _equal_updates(table, runs.steps)) if panel is not None]
    if not panels:
        return None
    used = table[table["run"].isin([run for panel in panels for run in panel.table["run"]])]
    return OnsetPlan(tuple(panels), tuple(_unique(used["model_label"])))


def rates_survived(runs: Runs) -> OnsetPlan | None:
    """Own-text runs by learning rate, a panel a model."""
    table = _judged(runs)
    if len(table) < 2:
        return None
    num_arms = _num_arms(table)
    table = _at_shared_rates(table)
    models = _unique(table["model_label"])[:MAX_SURVIVAL_PANELS]
    table = table[table["model_label"].isin(models)].assign(curve=table["lr"].map(short))
    rates, left_out = _rates(table), _left_out(num_arms - _num_arms(table), "arm")
    panels = [OnsetPanel(model, table[table["model_label"] == model], rates, "learning rate") for model in models]
    return OnsetPlan(tuple(panels), tuple(models), left_out)


def sizes_survived(runs: Runs) -> OnsetPlan | None:
    """Own-text runs by model, a panel for each learning rate that two models or more had."""
    table = _judged(runs)
    if table["model_label"].nunique() < 2:
        return None
    shared = _at_shared_rates(table)
    shared = shared.assign(curve=shared["model_label"])
    models = _unique(shared["model_label"])
    parts = [(rate, part) for rate, part in shared.groupby("lr") if part["model_label"].nunique() > 1]
    parts = parts[:MAX_SURVIVAL_PANELS]
    panels = [OnsetPanel(f"learning rate {short(rate)}", part, models, "model") for rate, part in parts]
    left_out = _left_out(_num_arms(table) - sum(_num_arms(part) for _, part in parts), "arm")
    return OnsetPlan(tuple(panels), tuple(models), left_out) if panels else None


def one_run(runs: Runs) -> Mapping[str, Any] | None:
    """The row of the run that is shown where only one can be, its onset found in the records if it is unfinished."""
    table = run_table(runs)
    samples: Frame = runs.samples
    name = shown_run(main_runs(table), set(samples["run"]))
    if name is None:
        return None
    row = cast(dict[str, Any], table[table["run"] == name].iloc[0].to_dict())
    if row["is_event"] and pd.isna(row["onset_step"]):
        row["onset_step"] = int(row["duration"])
    return row


def _judged(runs: Runs) -> Frame:
    """The main runs whose onset or censoring is known, each trajectory once."""
    main = main_runs(run_table(runs))
    known = distinct(main)
    return main[main["run"].isin(known["run"])]


def _with_text(table: Frame, runs: Runs, position: int) -> Frame:
    """The runs with a validation loss on the text at a position of their `data`, and that text."""
    texts = table["data"].astype(str).map(split_at_commas).str.get(position)
    table = table.assign(text=texts)[texts.notna()]
    steps: Frame = runs.steps
    known = set[str]()
    for text in table["text"].unique():
        column = f"val_nll_nats[{text}]"
        if column in steps:
            known |= set(steps.loc[steps[column].notna(), "run"])
    return table[table["run"].isin(known)]


def _at_shared_rates(table: Frame) -> Frame:
    """Without the learning rates of one model, where models share a grid: they belong to another comparison."""
    is_shared = table.groupby("lr")["model"].transform("nunique") > 1
    return table[is_shared] if table.loc[is_shared, "lr"].nunique() > 1 else table


def _equal_rates(table: Frame) -> OnsetPanel | None:
    part = table[table.groupby("lr")["model"].transform("nunique") > 1]
    part = part.assign(curve=part["lr"].map(short))
    return None if part.empty else OnsetPanel("at equal learning rates", part, _rates(part), "learning rate")


def _equal_updates(table: Frame, steps: Frame) -> OnsetPanel | None:
    """Sets of arms whose first updates are equally large, named by their mean size relative to the weights."""
    if table.empty or "relative_update_norm" not in steps:
        return None
    early = steps.loc[steps["step"] < UPDATE_STEPS, ["run", "relative_update_norm"]].astype(
        {"relative_update_norm": float}
    )
    part = table.assign(
        set=equal_update_sets(table, steps), update=table["run"].map(early.groupby("run").mean().iloc[:, 0])
    )
    part = part[part["set"].notna() & (part.groupby("set")["model"].transform("nunique") > 1)]
    if part.empty:
        return None
    sizes = part.groupby("set")["update"].mean().sort_values()
    names = {number: f"{short(float(f'{size:.2g}'))}" for number, size in sizes.items()}
    part = part.assign(curve=part["set"].map(names))
    return OnsetPanel("at equal update sizes", part, list(dict.fromkeys(names.values())), "relative update")


def _num_arms(table: Frame) -> int:
    return len(table[["model", "lr", "rest"]].drop_duplicates())


def _left_out(number: int, what: str) -> str:
    """A sentence on what there was no room for; empty if there was."""
    if number < 1:
        return ""
    return f" {number} further {what} is not shown." if number == 1 else f" {number} further {what}s are not shown."


def _rates(table: Frame) -> list[str]:
    return [short(rate) for rate in sorted(table["lr"].unique())]


def _unique(values: Any) -> list[str]:
    return [str(value) for value in dict.fromkeys(values)]
