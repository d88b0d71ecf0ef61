"""The lines of one run, by panel: losses, repetition, entropy. Means where they are noisy, thinned where long."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import altair as alt
import pandas as pd

from collapselab.collapse.numbers import ANY_TEXT, DERIVED, NUMBERS, PANELS, drawn_in, label
from collapselab.report.curves import with_derived
from collapselab.report.theme import COLORS, DASHES

LOSS_HEIGHT, LOWER_HEIGHT = 230, 120
TEXT_STYLES = tuple(zip(COLORS[1:5], DASHES[:4], strict=True))
LOSS_STYLES = ((COLORS[0], DASHES[0]), *TEXT_STYLES)
LOWER_STYLES = ((COLORS[1], DASHES[0]), (COLORS[2], (4, 2)))
ROW = ("layer", "line", "step", "value")
THIN, MEAN = " (thin)", " (mean)"  # a layer's name says whether its rows were measured
VALIDATION = label("val_nll_nats[]")
MAX_RAW_STEPS = 150  # beyond, values alone would be a block of ink
MAX_DRAWN_STEPS = 400  # beyond, the anatomy keeps the extremes of each 200th of the run

Style = tuple[str, tuple[int, ...]]
Values = dict[int, float]  # by step, without the unknown ones
Lines = Mapping[str, Values]


@dataclass(frozen=True)
class Panel:
    """The lines of one panel, by their words in the legend: values or means, and the values behind the means."""

    name: str
    y: alt.Y
    height: int
    thick: Lines
    thin: Lines
    styles: Mapping[str, Style]


def loss_panel(steps: pd.DataFrame) -> Panel:
    """What is trained on, then the human texts."""
    y = alt.Y("value:Q", title=_title("loss"), scale=alt.Scale(type="linear", zero=True))
    return _panel("loss", y, LOSS_HEIGHT, _lines(steps, "loss"), LOSS_STYLES)


def repetition_panel(steps: pd.DataFrame) -> Panel:
    axis = alt.Axis(tickCount=5, format="%")
    y = alt.Y("value:Q", title=PANELS["repetition"][0], scale=alt.Scale(domain=[0, 1]), axis=axis)
    return _panel("repetition", y, LOWER_HEIGHT, _lines(with_derived(steps), "repetition"), LOWER_STYLES)


def entropy_panel(steps: pd.DataFrame) -> Panel:
    y = alt.Y("value:Q", title=_title("entropy"), scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    return _panel("entropy", y, LOWER_HEIGHT, _lines(steps, "entropy"), LOWER_STYLES)


def _title(panel: str) -> str:
    return "{} ({})".format(*PANELS[panel])


def _lines(steps: pd.DataFrame, panel: str) -> Lines:
    """The panel's curves by their labels, as in the table of recorded numbers; empty where a run has no values."""
    of_any_run = [name for name in (*NUMBERS, *DERIVED) if ANY_TEXT not in name]
    names = dict.fromkeys([*of_any_run, *cast(list[str], steps.columns.tolist())])
    return {label(name): _values(steps, name) for name in drawn_in(panel, names)}


def _values(steps: pd.DataFrame, name: str) -> Values:
    """A column by step, without the unknown values; empty if the run did not record it."""
    if name not in steps:
        return {}
    column = cast(list[float], steps[name].astype(float).tolist())
    return {step: value for step, value in zip(steps_of(steps), column, strict=True) if not math.isnan(value)}


def steps_of(steps: pd.DataFrame) -> list[int]:
    return cast(list[int], steps["step"].astype(int).tolist())


def _panel(name: str, y: alt.Y, height: int, lines: Lines, styles: Sequence[Style]) -> Panel:
    """In a long run, noisy lines become thick means over thin values."""
    numsteps = max(len(values) for values in lines.values())
    used = {line: styles[i % len(styles)] for i, line in enumerate(lines)}
    if numsteps <= MAX_RAW_STEPS:
        return Panel(name, y, height, lines, {}, used)
    noisy = {line: values for line, values in lines.items() if not line.startswith(VALIDATION)}
    means = {line: _running_mean(values, numsteps // 50) for line, values in noisy.items()}
    return Panel(name, y, height, {**lines, **means}, noisy, used)


def thinned(panel: Panel) -> Panel:
    thick, thin = (
        {line: _rounded(_extremes(values)) for line, values in lines.items()} for lines in (panel.thick, panel.thin)
    )
    return Panel(panel.name, panel.y, panel.height, thick, thin, panel.styles)


def _extremes(values: Values) -> Values:
    """The first and the last value, and the smallest and largest of each 200th of the steps."""
    if len(values) <= MAX_DRAWN_STEPS:
        return values
    ordered, width = sorted(values), math.ceil(len(values) / (MAX_DRAWN_STEPS // 2))
    kept = {ordered[0], ordered[-1]}
    for start in range(0, len(ordered), width):
        bucket = ordered[start : start + width]
        kept |= {min(bucket, key=values.__getitem__), max(bucket, key=values.__getitem__)}
    return {step: values[step] for step in sorted(kept)}


def _rounded(values: Values) -> Values:
    """Five digits are more than a figure shows."""
    return {step: float(f"{value:.5g}") for step, value in values.items()}


def rows(panel: Panel) -> list[tuple[str, str, int, float]]:
    """The panel's values as the chart's data."""
    return [
        (layer, line, step, value)
        for layer, lines in _layers(panel).items()
        for line, values in lines.items()
        for step, value in sorted(values.items())
    ]


def _layers(panel: Panel) -> dict[str, Lines]:
    """What was measured, drawn thick or thin, and the means of the thin lines."""
    return {
        panel.name: {line: values for line, values in panel.thick.items() if line not in panel.thin},
        panel.name + MEAN: {line: values for line, values in panel.thick.items() if line in panel.thin},
        panel.name + THIN: panel.thin,
    }


def _running_mean(values: Values, half_width: int) -> Values:
    """Means of the finite values around each step; an infinite value stays."""
    steps, column = list(values), list(values.values())
    means: Values = {}
    for i, value in enumerate(column):
        near = [v for v in column[max(0, i - half_width) : i + half_width + 1] if math.isfinite(v)]
        means[steps[i]] = statistics.fmean(near) if math.isfinite(value) else value
    return means
