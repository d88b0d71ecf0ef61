"""Onset against learning rate where the sampler sharpens, where it is the model itself, where it flattens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import LOOKING, condition
from collapselab.analysis.evidence import with_ends
from collapselab.analysis.intervals import Interval
from collapselab.analysis.survival import Frame
from collapselab.analysis.times import log_time_ratio
from collapselab.report.captions import onsets_in_words, runs_in_words
from collapselab.report.describe import settings_of
from collapselab.report.entries import Figure
from collapselab.report.figures.sizes import CENSORED, ONSET
from collapselab.report.groups import NO_ARM
from collapselab.report.samplers import sampler_in_words, sampler_runs
from collapselab.report.selection import left_out
from collapselab.report.theme import RULE_COLOR, curve_channels, layered, log_ticks, panel_title, panel_width, themed
from collapselab.report.values import readable
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 300, 30
MAX_CURVES = 5  # in a panel; of more, those with the most learning rates
WORDS = {
    1: "freeze: sharper than the model",
    0: "drift: the model itself",
    -1: "melt: flatter than the model",
}
SLOPES = {-1: [6, 3], -2: [2, 2]}  # of a steady pull and of a random walk; with their dash patterns


@dataclass(frozen=True)
class Panel:
    """Runs of one direction of the pull, their curves in the column `curve`, and the slope of log onset on log rate."""

    title: str
    table: Frame
    slope: Interval


@dataclass(frozen=True)
class Rates:
    panels: Sequence[Panel]
    curves: Sequence[str]
    left_out: str


def select(runs: Runs) -> Rates | None:
    """Own-text runs by the direction of their sampler's pull, where models and samplers were run at several rates."""
    own = sampler_runs(runs)
    own = own.assign(group=condition(own, (*LOOKING, "lr")))
    mean = own.groupby("group")["pull"].transform("mean")
    num_rates = own.groupby("group")["lr"].transform("nunique")
    own = own.assign(side=np.sign(mean))[(num_rates > 1) & mean.notna()]
    kept: list[Frame] = []
    for _, part in own.groupby("side"):
        most = part.groupby("group", sort=False)["lr"].nunique().sort_values(ascending=False, kind="stable").index
        kept.append(part[part["group"].isin(most[:MAX_CURVES])])
    if not kept:
        return None
    shown: Frame = pd.concat(kept)
    shown = shown.assign(curve=_labels(shown)).sort_values(["size", "sampling.temperature", "lr"], kind="stable")
    panels = [
        Panel(words, part, _slope(part)) for side, words in WORDS.items() if len(part := shown[shown["side"] == side])
    ]
    num_left_out = own["group"].nunique() - shown["group"].nunique()
    return Rates(panels, list(shown["curve"].unique()), left_out(num_left_out))


def _labels(table: Frame) -> list[str]:
    """Model and sampler of each run, and what else differs; a model that all have is left out."""
    names = [name for name in settings_of(table) if not name.startswith((*NO_ARM, "model", "lr", "sampling."))]
    varying = [name for name in names if table[name].astype(str).nunique() > 1]
    is_one = table["model_label"].nunique() == 1
    return [
        ", ".join(
            [
                *([] if is_one else [row["model_label"]]),
                sampler_in_words(row),
                *(f"{name.split('.')[-1]} {readable(row[name])}" for name in varying),
            ]
        )
        for row in table.to_dict("records")
    ]


def _slope(table: Frame) -> Interval:
    """The slope of log onset on log rate within each curve, seeds as clusters; censored runs count as later."""
    times = table["duration"].clip(lower=0.5).to_numpy()
    columns = [np.log(table["lr"].to_numpy(dtype=float)), table["group"].to_numpy(), table["seed"].to_numpy()]
    return log_time_ratio(times, table["is_event"].to_numpy(), *columns).interval()


def draw(rates: Rates) -> alt.HConcatChart:
    """A point per run, an open arrow where there was no onset by that step, and the fitted slope beside −1 and −2."""
    every: Frame = pd.concat([panel.table for panel in rates.panels])
    low, high = 0.6 * max(1.0, float(every["duration"].min())), 1.7 * float(every["duration"].max())
    scale, ticks = alt.Scale(type="log", domain=[low, high], nice=False), log_ticks(low, high)
    width = panel_width(len(rates.panels), GAP)
    charts: list[alt.LayerChart] = []
    for i, panel in enumerate(rates.panels):
        y = alt.Y("step:Q", scale=scale, axis=alt.Axis(values=ticks, title=None if i else "step of onset"))
        charts.append(_chart(panel, rates.curves, y, (low, high), width))
    subtitle = "points: single runs; grey lines: slope −1 (a steady pull, dashed) and −2 (a random walk, dotted)"
    title = alt.TitleParams("Onset against learning rate, by what the sampler does", subtitle=subtitle)
    return themed(alt.hconcat(*charts, spacing=GAP, title=title))


def _chart(panel: Panel, curves: Sequence[str], y: alt.Y, ends: tuple[float, float], width: int) -> alt.LayerChart:
    rates = sorted(panel.table["lr"].unique())
    x_scale = alt.Scale(type="log", domain=[rates[0] / 1.3, rates[-1] * 1.3], nice=False)
    axis = alt.Axis(values=rates, format="~e", title="learning rate", labelOverlap="greedy", grid=False)
    x = alt.X("lr:Q", scale=x_scale, axis=axis)
    color, _ = curve_channels("", curves, ordered=False)
    rows = alt.Chart(_rows(panel.table)).encode(
        x=x, y=y, color=color, tooltip=["run:N", "curve:N", "lr:Q", "fate:N", "step:Q"]
    )
    onsets, censored = (rows.transform_filter(f"datum.fate === '{fate}'") for fate in (ONSET, CENSORED))
    layers = [
        alt.Chart(_line(panel.table, slope, ends))
        .mark_line(color=RULE_COLOR, opacity=0.5, strokeDash=dash)
        .encode(x=x, y=y)
        for slope, dash in SLOPES.items()
    ]
    if panel.slope.estimate is not None:
        fits = [
            _line(part, panel.slope.estimate, ends).assign(curve=curve) for curve, part in panel.table.groupby("curve")
        ]
        layers.append(alt.Chart(pd.concat(fits)).mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color))
    corner = alt.Chart(alt.InlineData(values=[{}])).encode(x=alt.value("width"), y=alt.value(14))
    layers += [
        onsets.mark_point(filled=True, size=30, opacity=0.8),
        censored.mark_point(filled=False, size=110, opacity=0.9, shape="arrow"),
        corner.mark_text(
            text=f"slope {with_ends(panel.slope, '.2f')}", align="right", dx=-8, fontWeight="bold", color=RULE_COLOR
        ),
    ]
    return layered(*layers, title=panel_title(panel.title), width=width, height=HEIGHT)


def _rows(table: Frame) -> pd.DataFrame:
    names = {"run": "run", "curve": "curve", "lr": "lr", "duration": "step"}
    return table[list(names)].rename(columns=names).assign(fate=table["is_event"].map({True: ONSET, False: CENSORED}))


def _line(table: Frame, slope: float, ends: tuple[float, float]) -> pd.DataFrame:
    """The line of a slope through the middle of the runs with onset, or of all if there is none, within the panel."""
    part = table[table["is_event"]] if table["is_event"].any() else table
    middle_lr, middle = (float(np.exp(np.log(part[name].clip(lower=1e-12)).mean())) for name in ("lr", "duration"))
    lr = np.geomspace(table["lr"].min() / 1.2, table["lr"].max() * 1.2, 60)
    step = middle * (lr / middle_lr) ** slope
    is_inside = (step > ends[0]) & (step < ends[1])
    return pd.DataFrame({"lr": lr[is_inside], "step": step[is_inside]})


def caption(rates: Rates) -> str:
    every = pd.concat([panel.table for panel in rates.panels])
    slopes = "; ".join(f"{panel.title} {with_ends(panel.slope, '.2f')}" for panel in rates.panels)
    return (
        f"Step of onset against learning rate, both logarithmic, for {runs_in_words(every)}: "
        f"{'; '.join(rates.curves)}. Points are runs, open arrows runs without onset by that step. "
        f"{onsets_in_words(every)} Slope of log onset on log rate within model and sampler, with 95 % intervals over "
        f"seeds, censored runs counted as later: {slopes}. "
        f"A steady pull gives −1, a random walk −2.{rates.left_out}"
    )


FIGURE = Figure(
    "Onset against learning rate, by what the sampler does",
    select,
    draw,
    caption,
    "no model and sampler were run at two learning rates with records of the sampler's pull.",
    "sampler",
)
