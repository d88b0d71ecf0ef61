"""The law of onset: predicted against observed step, for the arms it was fitted to and for held-out ones."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.sampler import arms
from collapselab.analysis.sampler_pull import predictions
from collapselab.analysis.survival import Frame
from collapselab.collapse.words import percent
from collapselab.report.captions import span
from collapselab.report.entries import Figure
from collapselab.report.theme import RULE_COLOR, layered, legend, log_ticks, styles, themed
from collapselab.report.values import counted
from collapselab.rundir.frames import Runs

SIDE = 420
BAND = 0.25
FITTED, HELD_OUT = "fitted", "held out"


def select(runs: Runs) -> Frame | None:
    """The arms with a prediction; `None` if none is left to test the law on."""
    table: Frame = predictions(arms(runs))
    table = table[table["constant"].notna()]
    if table.empty or table["is_fitted"].all():
        return None
    return table.assign(part=table["is_fitted"].map({True: FITTED, False: HELD_OUT}))


def draw(table: Frame) -> alt.LayerChart:
    """A point per arm, against the law's prediction; the band is 25 % above and below the prediction."""
    error, table = _errors(table), table[np.isfinite(table["predicted"])]
    every: Frame = pd.concat([table["predicted"], table["onset"]]).clip(lower=0.5)
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
    words = [f"median error {percent(error.median())}", counted(len(error), "held-out arm")]
    corner = alt.Chart(alt.InlineData(values=[{"words": "; ".join(words)}])).encode(x=alt.value(10), y=alt.value(16))
    layers = [
        ideal.mark_area(color=RULE_COLOR, opacity=0.1, clip=True).encode(y=least, y2="most"),
        ideal.mark_line(color=RULE_COLOR, strokeWidth=1).encode(y=y),
        points,
        corner.mark_text(text=words, align="left", fontSize=13, fontWeight="bold", color=RULE_COLOR),
    ]
    title = "Predicted and observed onset"
    subtitle = "onset = C / (relative update norm × sharpening); band: 25 % above and below"
    return themed(layered(*layers, width=SIDE, height=SIDE, title=alt.TitleParams(title, subtitle=subtitle)))


def _errors(table: Frame) -> Frame:
    """Of the held-out arms; infinite where the law says never."""
    held_out = table[table["part"] == HELD_OUT]
    return (held_out["predicted"] / held_out["onset"].clip(lower=0.5) - 1).abs()


def _rows(table: Frame) -> pd.DataFrame:
    names = {"arm": "arm", "part": "part", "predicted": "predicted", "onset": "onset", "num_runs": "runs"}
    return table[list(names)].rename(columns=names).round({"predicted": 2})


def caption(table: Frame) -> str:
    error, num_fitted = _errors(table), int(table["is_fitted"].sum())
    constants = table.groupby("family")["constant"].first()
    c = ", ".join(f"{constant:.3g} ({family})" for family, constant in constants.items())
    never = int(np.isinf(table["predicted"]).sum())
    left_out = (
        f" {counted(never, 'arm')} without sharpening, for which the law predicts none, not drawn." if never else ""
    )
    return (
        f"Observed step of onset (median over seeds) against the prediction, for {counted(len(table), 'arm')}: onset = "
        f"C / (relative update norm × sharpening), both means over the first ten steps, with C {c}. C was fitted to "
        f"{counted(num_fitted, 'arm')}; the other {len(error)} were held out: median error {percent(error.median())}, "
        f"{int((error <= BAND).sum())} of them within 25 %. Observed onsets are {span(table['onset'], 0)}.{left_out}"
    )


FIGURE = Figure(
    "The law of onset: predicted against observed step",
    select,
    draw,
    caption,
    "the law needs at least two arms with onset and records of sharpening and update norm, one to fit and one to test.",
    "sampler",
)
