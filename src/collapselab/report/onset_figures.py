"""Onset of collapse over many runs: against model size (Figure 3), and as survival curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.intervals import bootstrap_interval
from collapselab.analysis.survival import Frame, kaplan_meier, median_onset
from collapselab.report.curves import columns
from collapselab.report.describe import visible
from collapselab.report.theme import Styles, layered, legend, log_ticks, panel_title, panel_width, styles, themed

GAP = 30
SIZE_HEIGHT, SURVIVAL_HEIGHT = 300, 190
PANELS_A_ROW = 3
ONSET, CENSORED = "onset", "no onset up to there"
FATE_SHAPES = alt.Scale(domain=[ONSET, CENSORED], range=["circle", "triangle-up"])
CENSORED_FIELDS: list[str | alt.FieldName] = ["at", "step", "survival"]  # `at`: the place on a logarithmic axis
CURVE_FIELDS: list[str | alt.FieldName] = [*CENSORED_FIELDS, "low", "high", "at_risk"]


@dataclass(frozen=True)
class OnsetPanel:
    """Runs that are compared in one panel: rows of `groups.run_table`, and in their column `curve` what differs."""

    title: str
    table: Frame
    curves: Sequence[str]
    legend: str

    @property
    def look(self) -> Styles:
        return styles(self.curves, ordered=True)


def onset_by_size(panels: Sequence[OnsetPanel], models: Sequence[str], title: str) -> alt.HConcatChart:
    """Onset of collapse against model size (Figure 3): a point a run, and each arm's median with its interval.

    Triangles are runs without onset, at the last step known to lie before any. Medians are those of Kaplan-Meier
    curves, 95 % intervals those of resampled runs; what is not reached within the runs is left out.

    Args:
        panels: for example runs at equal learning rates, and at equal update sizes.
        models: values of `model_label`, small to large.
        title: what is shown.
    """
    every: Frame = pd.concat([panel.table["duration"] for panel in panels])
    low, high = 0.8 * max(1.0, float(every.min())), 1.2 * float(every.max())
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    size = {"width": panel_width(len(panels), GAP), "height": SIZE_HEIGHT}
    charts: list[alt.LayerChart] = []
    for i, panel in enumerate(panels):
        axis = alt.Axis(values=log_ticks(low, high), title=None if i else "step of onset")
        charts.append(_size_panel(panel, models, alt.Y("step:Q", scale=scale, axis=axis), size))
    subtitle = "points: single runs; bars: medians over seeds, with 95 % intervals"
    stack = alt.hconcat(*charts, spacing=GAP, title=alt.TitleParams(title, subtitle=subtitle))
    return themed(stack.resolve_scale(color="independent", strokeDash="independent"))


def survival_curves(panels: Sequence[OnsetPanel], title: str) -> alt.VConcatChart:
    """The share of runs without onset against step, with 95 % bands (Kaplan-Meier); all panels have the same curves.

    A short upright line marks a run that was lost from sight without onset. Bands are unknown for one run, and at
    shares of 0 and 1.
    """
    every: Frame = pd.concat([panel.table["duration"] for panel in panels])
    ends = [0.7 * max(1.0, float(every.min())), max(2.0, float(every.max()))]
    axis = alt.Axis(format="d", values=log_ticks(*ends), title="step", labelFlush=False)
    x = alt.X("at:Q", axis=axis, scale=alt.Scale(type="log", domain=ends, nice=False))
    size = {"width": panel_width(min(len(panels), PANELS_A_ROW), GAP), "height": SURVIVAL_HEIGHT}
    charts = [_survival_panel(panel, x, size, is_left=i % PANELS_A_ROW == 0) for i, panel in enumerate(panels)]
    rows = [
        alt.hconcat(*charts[i : i + PANELS_A_ROW], spacing=GAP, bounds="flush")
        for i in range(0, len(charts), PANELS_A_ROW)
    ]
    data = pd.DataFrame([row for panel in panels for row in _survival_rows(panel, ends[0])])
    return themed(alt.vconcat(*rows, spacing=14, title=title, data=data))


def _size_panel(panel: OnsetPanel, models: Sequence[str], y: alt.Y, size: Mapping[str, int]) -> alt.LayerChart:
    key = legend(panel.legend, panel.curves, "stroke")
    x = alt.X("model:N", sort=list(models), title="model (parameters)", axis=alt.Axis(labelAngle=0, grid=False))
    offset = alt.XOffset("curve:N", sort=list(panel.curves), scale=alt.Scale(paddingOuter=0.7))
    color = alt.Color("curve:N", scale=panel.look.color, legend=key)
    dash = alt.StrokeDash("curve:N", scale=panel.look.dash, legend=key)
    what = alt.Tooltip("curve:N", title=panel.legend)
    numbers = [alt.Tooltip(f"{name}:Q") for name in ("step", "low", "high")]
    runs, medians = (
        alt.Chart(frame).encode(x=x, xOffset=offset, y=y, color=color)
        for frame in (_run_rows(panel.table), _median_rows(panel.table))
    )
    bars = medians.transform_filter("isValid(datum.low) && isValid(datum.high)").encode(y="low:Q", y2="high:Q")
    layers = [
        medians.mark_line(strokeWidth=1.3, opacity=0.8).encode(strokeDash=dash),
        bars.mark_rule(strokeWidth=1.3),
        medians.mark_tick(thickness=3, width=16, opacity=1).encode(tooltip=["model:N", what, *numbers, "runs:Q"]),
        runs.mark_point(size=28, filled=True, opacity=0.8).encode(
            shape=alt.Shape("fate:N", scale=FATE_SHAPES, legend=legend("a run:", [ONSET, CENSORED], fill="#444444")),
            tooltip=["run:N", what, alt.Tooltip("fate:N", title=" "), "step:Q"],
        ),
    ]
    return layered(*layers, title=panel_title(panel.title), **size)


def _run_rows(table: Frame) -> pd.DataFrame:
    names = {"model_label": "model", "curve": "curve", "duration": "step", "run": "run"}
    fate = table["is_event"].map({True: ONSET, False: CENSORED})
    return table[list(names)].rename(columns=names).assign(fate=fate)


def _median_rows(table: Frame) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for (model, curve), runs in table.groupby(["model_label", "curve"], sort=False):
        median = median_onset(runs["duration"].to_numpy(), runs["is_event"].to_numpy()).estimate
        low, high = resampled_median(runs)
        rows.append({"model": model, "curve": curve, "step": median, "low": low, "high": high, "runs": len(runs)})
    return pd.DataFrame(rows)


def resampled_median(runs: Frame) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of the median onset; the one of Kaplan-Meier has no upper end with few runs.

    A run without onset counts as later than all others. `None` for an end among those, for one run, and where a run was
    lost from sight before the last onset, so that its own might lie before.
    """
    onset = runs["duration"].where(runs["is_event"], math.inf)
    if (runs.loc[~runs["is_event"], "duration"] < runs.loc[runs["is_event"], "duration"].max()).any():
        return None, None
    lower_middle = (len(runs) - 1) // 2
    with np.errstate(invalid="ignore"):  # between two infinite resamples
        interval = bootstrap_interval(
            onset, lambda values: np.sort(values, axis=-1)[..., lower_middle], np.random.default_rng(0)
        )
    low, high = (None if end is None or not math.isfinite(end) else end for end in (interval.low, interval.high))
    return low, high


def _survival_panel(panel: OnsetPanel, x: alt.X, size: Mapping[str, int], *, is_left: bool) -> alt.LayerChart:
    key = legend(panel.legend, panel.curves, "stroke")
    axis = alt.Axis(format="%", tickCount=5, title="runs without onset" if is_left else None, labelOpacity=int(is_left))
    y = alt.Y("survival:Q", axis=axis, scale=alt.Scale(domain=[0, 1]))
    color = alt.Color("curve:N", scale=panel.look.color, legend=key)
    dash = alt.StrokeDash("curve:N", scale=panel.look.dash, legend=key)
    here = f"datum.panel === {json.dumps(visible(panel.title))}"
    kinds = (("curve", CURVE_FIELDS), ("censored", CENSORED_FIELDS))
    curve, censored = (
        alt.Chart()
        .transform_filter(f"{here} && datum.kind === '{kind}'")
        .transform_flatten(fields)
        .encode(x=x, y=y, color=color)
        for kind, fields in kinds
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
    return layered(*layers, title=panel_title(panel.title), **size)


def _survival_rows(panel: OnsetPanel, first_step: float) -> list[dict[str, object]]:
    """A row a curve, its points as lists, and one with the runs that were lost from sight."""
    rows: list[dict[str, object]] = []
    for curve, runs in panel.table.groupby("curve", sort=False):
        estimate: Frame = kaplan_meier(runs["duration"].to_numpy(), runs["is_event"].to_numpy())
        lost = sorted(runs.loc[~runs["is_event"], "duration"])
        at = estimate["step"].searchsorted(lost, side="right") - 1
        censored = pd.DataFrame({"step": lost, "survival": estimate["survival"].to_numpy()[at]})
        place = {"panel": panel.title, "curve": curve}
        for kind, points in (("curve", estimate), ("censored", censored)):
            # A logarithmic axis has no step 0.
            points = points.assign(at=points["step"].replace({0: first_step}))
            fields = [str(name) for name in (CURVE_FIELDS if kind == "curve" else CENSORED_FIELDS)]
            rows.append({**place, "kind": kind, **columns(points[fields])})
    return rows
