"""The share of runs without onset against step (Kaplan-Meier), by learning rate and by model size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from collapselab.analysis.survival import Frame, kaplan_meier
from collapselab.report.captions import onsets_in_words, runs_in_words, tendency
from collapselab.report.curves import columns
from collapselab.report.entries import Figure
from collapselab.report.figures.sizes import GAP, OnsetPanel
from collapselab.report.selection import at_shared_rates, judged_once, left_out, num_arms, rates
from collapselab.report.theme import layered, log_ticks, panel_title, panel_width, share_axis, themed
from collapselab.report.values import short
from collapselab.rundir.frames import Runs
from collapselab.visible import visible

MAX_PANELS, PANELS_A_ROW = 6, 3
HEIGHT = 190
CENSORED_FIELDS: list[str | alt.FieldName] = ["at", "step", "survival"]  # `at`: the place on a logarithmic axis
CURVE_FIELDS: list[str | alt.FieldName] = [*CENSORED_FIELDS, "low", "high", "at_risk"]


@dataclass(frozen=True)
class Survival:
    """Panels with the same curves, what they compare, and a sentence on what is left out."""

    panels: Sequence[OnsetPanel]
    compared: str
    left_out: str


def by_learning_rate(runs: Runs) -> Survival | None:
    """Own-text runs by learning rate, one panel per model."""
    every = judged_once(runs)
    if len(every) < 2:
        return None
    table = at_shared_rates(every)
    models = table["model_label"].unique()[:MAX_PANELS]
    table = table[table["model_label"].isin(models)].assign(curve=table["lr"].map(short))
    panels = [OnsetPanel(m, table[table["model_label"] == m], rates(table), "learning rate") for m in models]
    return Survival(panels, "learning rate", left_out(num_arms(every) - num_arms(table)))


def by_size(runs: Runs) -> Survival | None:
    """Own-text runs by model, one panel per learning rate that at least two models had."""
    every = judged_once(runs)
    if every["model_label"].nunique() < 2:
        return None
    table = at_shared_rates(every)
    table = table.assign(curve=table["model_label"])
    models = list(table["model_label"].unique())
    parts = [(rate, part) for rate, part in table.groupby("lr") if part["model_label"].nunique() > 1][:MAX_PANELS]
    panels = [OnsetPanel(f"learning rate {short(rate)}", part, models, "model") for rate, part in parts]
    num_left_out = num_arms(every) - sum(num_arms(part) for _, part in parts)
    return Survival(panels, "model size", left_out(num_left_out)) if panels else None


def draw(survival: Survival) -> alt.VConcatChart:
    """Survival curves with 95 % bands; all panels have the same curves.

    A short upright line marks a censored run. Bands are unknown for one run, and at shares of 0 and 1.
    """
    panels = survival.panels
    every: Frame = pd.concat([panel.table["duration"] for panel in panels])
    ends = [0.7 * max(1.0, float(every.min())), max(2.0, float(every.max()))]
    axis = alt.Axis(format="d", values=log_ticks(*ends), title="step", labelFlush=False)
    x = alt.X("at:Q", axis=axis, scale=alt.Scale(type="log", domain=ends, nice=False))
    width = panel_width(min(len(panels), PANELS_A_ROW), GAP)
    charts = [_panel(panel, x, width, is_left=i % PANELS_A_ROW == 0) for i, panel in enumerate(panels)]
    rows = [
        alt.hconcat(*charts[i : i + PANELS_A_ROW], spacing=GAP, bounds="flush")
        for i in range(0, len(charts), PANELS_A_ROW)
    ]
    data = pd.DataFrame([row for panel in panels for row in _rows(panel, ends[0])])
    subtitle = "share of runs without onset; bands: 95 % (Kaplan-Meier); upright line: a run that ended without onset"
    title = alt.TitleParams(message(survival), subtitle=subtitle)
    return themed(alt.vconcat(*rows, spacing=14, title=title, data=data))


def message(survival: Survival) -> str:
    """What the compared values do to the time of collapse."""
    word = tendency(
        (panel.table[panel.table["curve"] == name] for name in panel.curves if (panel.table["curve"] == name).any())
        for panel in survival.panels
    )
    compared = {"learning rate": "The higher the learning rate", "model size": "The larger the model"}
    if word is None:
        return f"Runs without onset of collapse, by {survival.compared}"
    return f"{compared[survival.compared]}, the {word} the collapse"


def caption(survival: Survival) -> str:
    every = pd.concat([panel.table for panel in survival.panels])
    medians = "; ".join(panel.medians(", ") for panel in survival.panels)
    return (
        f"Share of runs without onset of collapse against step, with 95 % bands (Kaplan-Meier), for "
        f"{runs_in_words(every)}. {onsets_in_words(every)} Median step of onset in {medians}.{survival.left_out}"
    )


def _panel(panel: OnsetPanel, x: alt.X, width: int, *, is_left: bool) -> alt.LayerChart:
    color, dash = panel.channels(width)
    axis = share_axis(title="runs without onset" if is_left else None, labelOpacity=int(is_left))
    y = alt.Y("survival:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    here = f"datum.panel === {json.dumps(visible(panel.title))}"
    curve, censored = (
        alt.Chart()
        .transform_filter(f"{here} && datum.kind === '{kind}'")
        .transform_flatten(fields)
        .encode(x=x, y=y, color=color)
        for kind, fields in (("curve", CURVE_FIELDS), ("censored", CENSORED_FIELDS))
    )
    tooltip = [alt.Tooltip("curve:N", title=panel.legend), alt.Tooltip("step:Q"), alt.Tooltip("at_risk:Q")]
    shares = [alt.Tooltip(f"{name}:Q", format=".0%") for name in ("survival", "low", "high")]
    band = curve.transform_filter("isValid(datum.low)").encode(y=alt.Y("low:Q", axis=axis), y2="high:Q")
    layers = [
        band.mark_area(opacity=0.15, interpolate="step-after"),
        curve.mark_line(strokeWidth=1.8, interpolate="step-after").encode(strokeDash=dash),
        censored.mark_tick(orient="vertical", height=10, thickness=1.5),
        curve.mark_point(size=80, opacity=0, filled=True).encode(tooltip=[*tooltip, *shares]),
    ]
    return layered(*layers, title=panel_title(panel.title), width=width, height=HEIGHT)


def _rows(panel: OnsetPanel, first_step: float) -> list[dict[str, object]]:
    """One row per curve, with its points as lists, and one row with its censored runs."""
    rows: list[dict[str, object]] = []
    for curve, runs in panel.table.groupby("curve", sort=False):
        estimate: Frame = kaplan_meier(runs["duration"].to_numpy(), runs["is_event"].to_numpy())
        lost = sorted(runs.loc[~runs["is_event"], "duration"])
        at = estimate["step"].searchsorted(lost, side="right") - 1
        censored = pd.DataFrame({"step": lost, "survival": estimate["survival"].to_numpy()[at]})
        for kind, points, fields in (("curve", estimate, CURVE_FIELDS), ("censored", censored, CENSORED_FIELDS)):
            points = points.assign(at=points["step"].replace({0: first_step}))  # a logarithmic axis has no step 0
            rows.append({"panel": panel.title, "curve": curve, "kind": kind, **columns(points[fields])})
    return rows


BY_LEARNING_RATE = Figure(
    "Survival curves of onset, by learning rate",
    by_learning_rate,
    draw,
    caption,
    "fewer than two runs on their own text could be judged.",
)
BY_SIZE = Figure(
    "Survival curves of onset, by model size",
    by_size,
    draw,
    caption,
    "no two models were run at equal learning rates.",
)
