"""The lines of one run, by panel: losses, repetition, entropy. Noisy lines are averaged, long ones thinned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import altair as alt
import numpy as np
import pandas as pd

from collapselab.analysis.survival import Frame
from collapselab.collapse.numbers import ANY_TEXT, DERIVED, NUMBERS, PANELS, drawn_in, label
from collapselab.report.curves import with_derived
from collapselab.report.theme import COLORS, DASHES, share_axis

LOSS_HEIGHT, LOWER_HEIGHT = 230, 120
TEXT_STYLES = tuple(zip(COLORS[1:5], DASHES[:4], strict=True))
LOSS_STYLES = ((COLORS[0], DASHES[0]), *TEXT_STYLES)
LOWER_STYLES = ((COLORS[1], DASHES[0]), (COLORS[2], (4, 2)))
THIN, MEAN = " (thin)", " (mean)"  # the name of a layer shows whether its rows were measured
VALIDATION = label("val_nll_nats[]")
MAX_RAW_STEPS = 150  # with more steps, raw values would be a block of ink
MAX_DRAWN_STEPS = 400  # with more steps, the anatomy keeps the extremes of each 200th of the run

Style = tuple[str, tuple[int, ...]]
Lines = dict[str, Frame]  # known values by step, by legend label


@dataclass(frozen=True)
class Panel:
    """The lines of one panel: the measured ones, drawn thick or, if their means are drawn too, thin."""

    name: str
    y: alt.Y
    height: int
    styles: Mapping[str, Style]
    values: Lines
    means: Lines
    thin: Lines

    def is_empty(self) -> bool:
        return all(values.empty for values in (self.values | self.thin).values())

    def rows(self) -> Frame:
        """The chart's data: columns `layer`, `line`, `step` and `value`."""
        layers = {"": self.values, MEAN: self.means, THIN: self.thin}
        parts = [
            pd.DataFrame({"layer": self.name + kind, "line": line, "step": values.index, "value": values.to_numpy()})
            for kind, lines in layers.items()
            for line, values in lines.items()
        ]
        return pd.concat(parts)


def loss_panel(steps: Frame) -> Panel:
    """The training text, then the human texts."""
    y = alt.Y("value:Q", title=_title("loss"), scale=alt.Scale(type="linear", zero=True))
    return _panel("loss", y, LOSS_HEIGHT, _lines(steps, "loss"), LOSS_STYLES)


def repetition_panel(steps: Frame) -> Panel:
    axis = share_axis()
    y = alt.Y("value:Q", title=PANELS["repetition"][0], scale=alt.Scale(domain=[0, 1]), axis=axis)
    return _panel("repetition", y, LOWER_HEIGHT, _lines(with_derived(steps), "repetition"), LOWER_STYLES)


def entropy_panel(steps: Frame) -> Panel:
    y = alt.Y("value:Q", title=_title("entropy"), scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5))
    return _panel("entropy", y, LOWER_HEIGHT, _lines(steps, "entropy"), LOWER_STYLES)


def reward_panel(steps: Frame) -> Panel:
    y = alt.Y("value:Q", title=_title("reward"), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    return _panel("reward", y, LOWER_HEIGHT, _lines(steps, "reward"), LOWER_STYLES)


def _title(panel: str) -> str:
    return "{} ({})".format(*PANELS[panel])


def _lines(steps: Frame, panel: str) -> Lines:
    """The panel's curves by label, in the order of the table of recorded numbers; empty if a run has no values."""
    of_any_run = [name for name in (*NUMBERS, *DERIVED) if ANY_TEXT not in name]
    names = dict.fromkeys([*of_any_run, *cast(list[str], steps.columns.tolist())])
    return {label(name): _values(steps, name) for name in drawn_in(panel, names)}


def thinned(panel: Panel) -> Panel:
    """The panel with at most about 400 values per line, rounded to five digits; a figure shows fewer."""

    def thin(lines: Lines) -> Lines:
        return {line: _extremes(values).map("{:.5g}".format).astype(float) for line, values in lines.items()}

    return replace(panel, values=thin(panel.values), means=thin(panel.means), thin=thin(panel.thin))


def _values(steps: Frame, name: str) -> Frame:
    """A column by step, without the unknown values; empty if the run did not record it."""
    by_step = steps.set_index(steps["step"].astype(int))
    return by_step[name].astype(float).dropna().sort_index() if name in steps else pd.Series(dtype=float)


def _panel(name: str, y: alt.Y, height: int, lines: Lines, styles: Sequence[Style]) -> Panel:
    """In a long run, noisy lines become thick means over thin values."""
    num_steps = max(map(len, lines.values()))
    used = {line: styles[i % len(styles)] for i, line in enumerate(lines)}
    noisy = {line: v for line, v in lines.items() if num_steps > MAX_RAW_STEPS and not line.startswith(VALIDATION)}
    means = {line: _running_mean(values, num_steps // 50) for line, values in noisy.items()}
    smooth = {line: values for line, values in lines.items() if line not in noisy}
    return Panel(name, y, height, used, smooth, means, noisy)


def _running_mean(values: Frame, half_width: int) -> Frame:
    """Means of the finite values around each step; an infinite value stays."""
    finite = values.where(np.isfinite(values))
    return finite.rolling(2 * half_width + 1, center=True, min_periods=1).mean().where(finite.notna(), values)


def _extremes(values: Frame) -> Frame:
    """The first and the last value, and the smallest and largest of each 200th of the steps."""
    if len(values) <= MAX_DRAWN_STEPS:
        return values
    width = -(-len(values) // (MAX_DRAWN_STEPS // 2))
    buckets = values.groupby(np.arange(len(values)) // width)
    kept = {values.index[0], values.index[-1], *buckets.idxmin(), *buckets.idxmax()}
    return values[sorted(kept)]
