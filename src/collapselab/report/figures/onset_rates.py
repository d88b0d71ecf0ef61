"""Onset against learning rate where the sampler sharpens, where it is the model itself, where it flattens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.comparisons import LOOKING, condition
from collapselab.analysis.evidence import gather, with_ends
from collapselab.analysis.intervals import Floats, Interval
from collapselab.analysis.sampler import arms, is_pure
from collapselab.analysis.sampler_line import pure_onset_by_rate, slope_on_rate
from collapselab.analysis.sampler_pull import SLOPE, onset_by_rate
from collapselab.analysis.survival import Frame
from collapselab.report.captions import onsets_in_words, runs_in_words
from collapselab.report.describe import settings_of
from collapselab.report.entries import Figure
from collapselab.report.figures.sizes import CENSORED, ONSET
from collapselab.report.groups import NO_ARM
from collapselab.report.samplers import REGIMES, sampler_in_words, sampler_runs
from collapselab.report.selection import left_out
from collapselab.report.theme import (
    RULE_COLOR,
    layered,
    legend,
    log_ticks,
    panel_title,
    panel_width,
    styles,
    themed,
)
from collapselab.report.values import readable
from collapselab.rundir.frames import Runs

HEIGHT, GAP = 300, 30
MAX_CURVES = 5  # in a panel; of more, those with the most learning rates
TITLES = {"freeze": "freeze", "drift": "pure sampling", "melt": "melt"}
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}
SLOPES = {-1: [6, 3], -2: [2, 2]}  # of a steady pull and of a random walk; with their dash patterns


@dataclass(frozen=True)
class Panel:
    """Runs of one regime, their curves in the column `curve`, and the slope of log onset on log rate."""

    title: str
    table: Frame
    slope: Interval


@dataclass(frozen=True)
class Rates:
    panels: Sequence[Panel]
    curves: Sequence[str]
    left_out: str


def select(runs: Runs) -> Rates | None:
    """Own-text runs by what their sampler does, where models and samplers were run at several rates."""
    own = sampler_runs(runs)
    regime = own["arm"].map(arms(runs).set_index("arm")["regime"])
    # On the line of pure sampling an arm at a high rate may have an onset of either kind.
    own = own.assign(regime=regime.where(~is_pure(own), "drift"), stratum=condition(own, (*LOOKING, "lr")))
    own = own[is_pure(own) | (regime != "drift")]
    own = own[own.groupby(["regime", "stratum"])["lr"].transform("nunique") > 1]
    kept: list[Frame] = []
    for _, part in own.groupby("regime"):
        most = part.groupby("stratum", sort=False)["lr"].nunique().sort_values(ascending=False, kind="stable").index
        kept.append(part[part["stratum"].isin(most[:MAX_CURVES])])
    if not kept:
        return None
    shown: Frame = pd.concat(kept)
    shown = shown.assign(curve=_labels(shown)).sort_values(["size", "sampling.temperature", "lr"], kind="stable")
    material = gather(runs)
    slopes = {
        "freeze": lambda: onset_by_rate(material),
        "drift": lambda: pure_onset_by_rate(material),
        "melt": lambda: slope_on_rate(own[own["regime"] == "melt"], SLOPE),
    }
    parts = {regime: shown[shown["regime"] == regime] for regime in REGIMES}
    panels = [Panel(TITLES[regime], part, slopes[regime]().effect) for regime, part in parts.items() if len(part)]
    num_left_out = own["arm"].nunique() - shown["arm"].nunique()
    return Rates(panels, list(shown["curve"].unique()), left_out(num_left_out))


def _labels(table: Frame) -> list[str]:
    """Model and sampler of each run, and what else it has that most runs do not; a model that all have is left out."""
    names = [name for name in settings_of(table) if not name.startswith((*NO_ARM, "model", "lr", "sampling."))]
    words = {name: [_setting_in_words(name, value) for value in table[name].tolist()] for name in names}
    usual = {name: Counter(column).most_common(1)[0][0] for name, column in words.items()}
    is_one = table["model_label"].nunique() == 1
    return [
        ", ".join(
            [
                *([] if is_one else [row["model_label"]]),
                sampler_in_words(row),
                *(column[i] for name, column in words.items() if column[i] != usual[name]),
            ]
        )
        for i, row in enumerate(table.to_dict("records"))
    ]


def _setting_in_words(name: str, value: object) -> str:
    """An optimiser is known by its name; of other settings the name is needed too."""
    if name == "optim.name":
        return OPTIMIZERS.get(str(value), str(value))
    return f"{name.split('.')[-1].replace('_', ' ')} {readable(value)}"


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
    subtitle = (
        "points: single runs; arrows: no onset by that step; grey: slopes of a steady pull (−1) and a random walk (−2)"
    )
    title = alt.TitleParams("Onset against learning rate, by what the sampler does", subtitle=subtitle)
    return themed(alt.hconcat(*charts, spacing=GAP, title=title))


def _chart(panel: Panel, curves: Sequence[str], y: alt.Y, ends: tuple[float, float], width: int) -> alt.LayerChart:
    rates = sorted(panel.table["lr"].unique())
    x_scale = alt.Scale(type="log", domain=[rates[0] / 1.3, rates[-1] * 1.3], nice=False)
    axis = alt.Axis(values=rates, format="~e", title="learning rate", labelOverlap="greedy", grid=False)
    x = alt.X("lr:Q", scale=x_scale, axis=axis)
    look = styles(curves, ordered=False)
    color = alt.Color("curve:N", scale=look.color, legend=legend("", curves))
    shape = alt.Shape("curve:N", scale=look.shape, legend=legend("", curves))
    rows = alt.Chart(_rows(panel.table)).encode(
        x=x, y=y, color=color, tooltip=["run:N", "curve:N", "lr:Q", "fate:N", "step:Q"]
    )
    onsets, censored = (rows.transform_filter(f"datum.fate === '{fate}'") for fate in (ONSET, CENSORED))
    layers: list[alt.Chart] = []
    for slope, dash in SLOPES.items():
        points = _line(panel.table, slope, ends)
        line = alt.Chart(points).mark_line(color=RULE_COLOR, opacity=0.5, strokeDash=dash)
        name = alt.Chart(points.head(1)).mark_text(text=f"−{-slope}", align="left", dx=6, color=RULE_COLOR)
        layers += [part.encode(x=x, y=y) for part in (line, name)]
    if panel.slope.estimate is not None:
        fits = [
            _line(part, panel.slope.estimate, ends).assign(curve=curve) for curve, part in panel.table.groupby("curve")
        ]
        layers.append(alt.Chart(pd.concat(fits)).mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color))
    corner = alt.Chart(alt.InlineData(values=[{"slope": panel.slope.estimate}])).encode(
        x=alt.value("width"), y=alt.value(14)
    )
    layers += [
        onsets.mark_point(filled=True, size=30, opacity=0.8).encode(shape=shape),
        censored.mark_point(filled=False, size=220, strokeWidth=1.2, opacity=0.9, shape="arrow"),
        corner.mark_text(text=_slope_in_words(panel.slope), align="right", dx=-8, fontWeight="bold", color=RULE_COLOR),
    ]
    return layered(*layers, title=panel_title(panel.title), width=width, height=HEIGHT)


def _rows(table: Frame) -> pd.DataFrame:
    names = {"run": "run", "curve": "curve", "lr": "lr", "duration": "step"}
    fate, step = table["is_event"].map({True: ONSET, False: CENSORED}), table["duration"].clip(lower=1)
    return table[list(names)].rename(columns=names).assign(fate=fate, step=step)  # step 0 has no place on this axis


def _line(table: Frame, slope: float, ends: tuple[float, float]) -> pd.DataFrame:
    """The line of a slope through the middle of the runs with onset, or of all if there is none, within the panel."""
    part = table[table["is_event"]] if table["is_event"].any() else table
    middle_lr, middle = (float(np.exp(np.log(part[name].clip(lower=1e-12)).mean())) for name in ("lr", "duration"))
    lr: Floats = np.geomspace(float(table["lr"].min()) / 1.2, float(table["lr"].max()) * 1.2, 60)
    step = middle * (lr / middle_lr) ** slope
    is_inside = (step > ends[0]) & (step < ends[1] / 1.12)  # room for the line's name
    return pd.DataFrame({"lr": lr[is_inside], "step": step[is_inside]})


def _slope_in_words(slope: Interval) -> str:
    return "too few onsets for a slope" if slope.estimate is None else f"slope {with_ends(slope)}"


def caption(rates: Rates) -> str:
    every = pd.concat([panel.table for panel in rates.panels])
    slopes = "; ".join(f"{panel.title}: {_slope_in_words(panel.slope)}" for panel in rates.panels)
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
    "no sampler that freezes, melts or is the model's own was run at two learning rates.",
    "sampler",
)
