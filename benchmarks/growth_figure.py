"""The figure of growth.csv: measured seconds per step as points, floors as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import altair as alt
import pandas as pd

from benchmarks.growth import PANELS, Panel, Point
from collapselab.report.theme import Styles, styles, themed

PANEL_WIDTH, PANEL_HEIGHT = 270, 240
AXIS_TITLES: dict[Panel, str] = {
    "parameters": "parameters",
    "new tokens": "new tokens per step",
    "batch size": "sequences per step",
}


def growth_figure(points: Sequence[Point]) -> alt.HConcatChart:
    """Seconds per step against parameters, new tokens and batch size; every axis is logarithmic.

    Points are medians, bars reach from the minimum to the maximum of the runs, lines are the bytes and operations of a
    step divided by the measured ceilings.
    """
    used = styles(sorted({_series(point) for point in points}), ordered=False)
    present: list[Panel] = [panel for panel in PANELS if any(point.panel == panel for point in points)]
    charts = [_panel(panel, [point for point in points if point.panel == panel], used) for panel in present]
    lines = "points: medians (bars: minimum to maximum); lines: bytes and operations divided by measured ceilings"
    return themed(alt.hconcat(*charts, title=alt.TitleParams("Seconds per step", subtitle=lines), spacing=24))


def _panel(panel: Panel, points: Sequence[Point], used: Styles) -> alt.LayerChart:
    rows = [
        {
            "series": _series(point),
            "x": point.x,
            "floor": point.floor_s,
            "median": point.median_s,
            "least": point.least_s,
            "greatest": point.greatest_s,
        }
        for point in points
    ]
    seconds = [s for point in points for s in (point.floor_s, point.least_s, point.greatest_s) if s is not None]
    powers, log = _powers_of_ten(seconds), alt.Scale(type="log", nice=False)
    legend = alt.Legend(title=None, orient="top", symbolSize=120)
    title = "seconds per step" if panel == "parameters" else None
    y_scale = alt.Scale(type="log", domain=[powers[0], powers[-1]])
    chart = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("x:Q", title=AXIS_TITLES[panel], scale=log, axis=_x_axis(panel, points)),
        color=alt.Color("series:N", scale=used.color, legend=legend),
    )
    measured = chart.transform_filter("isValid(datum.median)")
    line = chart.mark_line(strokeWidth=1.4).encode(
        y=alt.Y("floor:Q", title=title, scale=y_scale, axis=alt.Axis(values=powers, format="~g")),
        strokeDash=alt.StrokeDash("series:N", scale=used.dash, legend=None),
    )
    bar = measured.mark_rule().encode(y="least:Q", y2="greatest:Q")
    point = measured.mark_point(filled=True, size=45).encode(
        y="median:Q", shape=alt.Shape("series:N", scale=used.shape, legend=legend)
    )
    layered = alt.layer(line, bar, point).properties(width=PANEL_WIDTH, height=PANEL_HEIGHT)
    return cast(alt.LayerChart, layered)


def _x_axis(panel: Panel, points: Sequence[Point]) -> alt.Axis:
    if panel == "parameters":
        return alt.Axis(values=_powers_of_ten([point.x for point in points]), labelExpr="datum.value / 1e6 + ' M'")
    return alt.Axis(values=sorted({point.x for point in points}), format="d")


def _powers_of_ten(values: Sequence[float]) -> list[float]:
    """The powers of ten from just below the minimum to just above the maximum."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _series(point: Point) -> str:
    return f"{point.numerics}, crop" if point.context_mode == "crop" else point.numerics
