"""The law of onset: predicted against observed step, for the arms it was fitted to and for held-out ones."""

from __future__ import annotations

import altair as alt
import pandas as pd

from collapselab.analysis.law import law
from collapselab.analysis.sampler import arms
from collapselab.analysis.survival import Frame
from collapselab.report.captions import span
from collapselab.report.entries import Figure
from collapselab.report.theme import RULE_COLOR, layered, legend, log_ticks, styles, themed
from collapselab.report.values import counted
from collapselab.rundir.frames import Runs

SIDE = 420
BAND = 0.25
FITTED, HELD_OUT = "fitted", "held out"


def select(runs: Runs) -> Frame | None:
    """The arms of the law; `None` if none is left to test it on."""
    known = arms(runs)
    table = law(known) if len(known) else known
    if table.empty or table["is_fitted"].nunique() < 2:
        return None
    return table.assign(part=table["is_fitted"].map({True: FITTED, False: HELD_OUT}))


def draw(table: Frame) -> alt.LayerChart:
    """A point per arm, against the law's prediction; the band is 25 % above and below the prediction."""
    every: Frame = pd.concat([table["predicted"], table["onset"]])
    low, high = 0.7 * float(every.min()), 1.4 * float(every.max())
    scale, ticks = alt.Scale(type="log", domain=[low, high], nice=False), log_ticks(low, high)
    x = alt.X("predicted:Q", scale=scale, axis=alt.Axis(values=ticks, title="predicted step of onset"))
    axis = alt.Axis(values=ticks, title="observed step of onset (median over seeds)")
    y, least = (alt.Y(f"{name}:Q", scale=scale, axis=axis) for name in ("onset", "least"))
    ends = pd.DataFrame({"predicted": [low, high], "onset": [low, high]})
    ends = ends.assign(least=(1 - BAND) * ends["onset"], most=(1 + BAND) * ends["onset"])
    ideal = alt.Chart(ends).encode(x=x)
    look = styles([FITTED, HELD_OUT], ordered=False)
    tooltip = [alt.Tooltip("arm:N"), alt.Tooltip("predicted:Q", format=".3~g"), alt.Tooltip("onset:Q"), "runs:Q"]
    points = alt.Chart(_rows(table)).mark_point(filled=True, size=60, opacity=0.85)
    points = points.encode(
        x=x,
        y=y,
        color=alt.Color("part:N", scale=look.color, legend=legend("arms:", [FITTED, HELD_OUT])),
        shape=alt.Shape("part:N", scale=look.shape),
        tooltip=tooltip,
    )
    words = [f"median error {_median_error(table):.0%}", f"{counted(len(held_out(table)), 'held-out arm')}"]
    corner = alt.Chart(alt.InlineData(values=[{}])).encode(x=alt.value(10), y=alt.value(16))
    layers = [
        ideal.mark_area(color=RULE_COLOR, opacity=0.1, clip=True).encode(y=least, y2="most"),
        ideal.mark_line(color=RULE_COLOR, strokeWidth=1).encode(y=y),
        points,
        corner.mark_text(text=words, align="left", fontSize=13, fontWeight="bold", color=RULE_COLOR),
    ]
    title = "Predicted and observed onset"
    subtitle = "onset = C / (relative update norm × sharpening); band: 25 % above and below"
    return themed(layered(*layers, width=SIDE, height=SIDE, title=alt.TitleParams(title, subtitle=subtitle)))


def held_out(table: Frame) -> Frame:
    return table[table["part"] == HELD_OUT]


def _median_error(table: Frame) -> float:
    part = held_out(table)
    return float((part["predicted"] / part["onset"] - 1).abs().median())


def _constant(table: Frame) -> float:
    return float((table["predicted"] * table["relative_update_norm"] * table["sharpening_nats"]).iloc[0])


def _rows(table: Frame) -> pd.DataFrame:
    names = {"arm": "arm", "part": "part", "predicted": "predicted", "onset": "onset", "num_runs": "runs"}
    return table[list(names)].rename(columns=names).round({"predicted": 2})


def caption(table: Frame) -> str:
    fitted, tested = table[table["part"] == FITTED], held_out(table)
    inside = int(((tested["predicted"] / tested["onset"] - 1).abs() <= BAND).sum())
    return (
        f"Observed step of onset (median over seeds) against the prediction, for {counted(len(table), 'arm')}: "
        f"onset = {_constant(table):.3g} / (relative update norm × sharpening), both means over the first ten steps. "
        f"C was fitted to {counted(len(fitted), 'arm')}; the other {len(tested)} were held out: median error "
        f"{_median_error(table):.1%}, {inside} of them within 25 %. Observed onsets are {span(table['onset'], 0)}."
    )


FIGURE = Figure(
    "The law of onset: predicted against observed step",
    select,
    draw,
    caption,
    "the law needs at least two arms with onset and records of sharpening and update norm, one to fit and one to test.",
    "sampler",
)
