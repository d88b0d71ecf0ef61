"""Names of curves beside the curves: where each goes, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import altair as alt
import numpy as np

from collapselab.analysis.intervals import Floats
from collapselab.report.curves import Series

LINE_PX, CHAR_PX = 12.0, 5.6  # height of a name, and about the width of one of its characters
RIGHT_PX, MARK_PX = 7.0, 3.0  # between a curve's end and its name; half a mark
SHIFTS_PX = tuple(4.0 * i for i in range(-20, 21))  # of a name, down and up
MAX_SHARE = 0.3  # of the width of a panel: longer names would hide it
CURVE_COST = 0.7  # pixels that a name goes farther rather than cover another point of a curve

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, right, bottom, top


def name_labels(
    ends: Mapping[str, Point], colors: Mapping[str, str], px: Point, axes: tuple[alt.X, alt.Y]
) -> list[alt.Chart]:
    """A name right of the end of each curve, moved up where it would cover another.

    Args:
        ends: the last step and value of each curve.
        colors: the colour of each curve; its name is darker, to be read on white.
        px: how many pixels a step is wide, and a unit of the value high.
        axes: of the step, and of the value.
    """
    ordered = sorted(ends, key=lambda name: ends[name][1])
    places: list[tuple[float, float, float]] = []
    for name in ordered:
        left = ends[name][0] * px[0] + RIGHT_PX
        places.append((left, left + CHAR_PX * len(name), ends[name][1] * px[1]))
    charts: list[alt.Chart] = []
    for name, (*_, wanted), height in zip(ordered, places, apart(places), strict=True):
        look: dict[str, Any] = {"align": "left", "dx": RIGHT_PX, "dy": wanted - height, "color": darker(colors[name])}
        charts.append(_at(ends[name], axes).mark_text(text=name, **look))
    return charts


def _at(end: Point, axes: tuple[alt.X, alt.Y]) -> alt.Chart:
    values = [{"step": end[0], "value": end[1]}]
    return alt.Chart(alt.InlineData(values=values)).encode(x=axes[0], y=axes[1])


@dataclass(frozen=True)
class Panel:
    """What is drawn in a panel, in pixels from its lower left corner; arrays have shape [number, 2]."""

    size: Point
    marks: Floats
    curves: Floats


@dataclass(frozen=True)
class View:
    """The part of the plane that a panel shows: its size in pixels, and the ranges of steps and of values."""

    size: Point
    steps: Point
    values: Point

    def in_px(self, points: Iterable[Iterable[float]]) -> Floats:
        """Points of shape [number, 2] in pixels from the lower left corner."""
        (left, right), (low, high) = self.steps, self.values
        shares = (np.array([*map(tuple, points)]) - [left, low]) / [right - left, high - low]
        return shares * self.size


def free_labels(
    curves: Mapping[str, Sequence[Series]],
    colors: Mapping[str, str],
    axes: tuple[alt.X, alt.Y],
    view: View,
) -> list[alt.Chart]:
    """The name of each curve near the end of its longest run, where it covers no mark and no other name.

    Every run ends in a mark. A long name, and one that finds no free place, is left out: the legend has it.

    Args:
        curves: the runs of each curve.
        colors: the colour of each curve; its name is darker, to be read on white.
        axes: of the step, and of the value.
        view: what the panel shows.
    """
    every = [series for runs in curves.values() for series in runs]
    longest = {name: max(runs, key=lambda series: series[0][-1]) for name, runs in curves.items()}
    ends = {name: (float(at[-1]), float(values[-1])) for name, (at, values) in longest.items()}
    points = np.concatenate([view.in_px(zip(*series, strict=True)) for series in every])
    marks = view.in_px((at[-1], values[-1]) for at, values in every)
    places_px = {name: (float(x), float(y)) for name, (x, y) in zip(ends, view.in_px(ends.values()), strict=True)}
    panel = Panel(view.size, marks, np.unique(points.round(), axis=0))
    charts: list[alt.Chart] = []
    for name, (x, y) in free_places(places_px, panel).items():
        dx, dy = x - places_px[name][0], places_px[name][1] - y
        look: dict[str, Any] = {"align": "left", "baseline": "middle", "dx": dx, "dy": dy}
        charts.append(_at(ends[name], axes).mark_text(text=name, color=darker(colors[name]), **look))
    return charts


def free_places(ends: Mapping[str, Point], panel: Panel) -> dict[str, Point]:
    """The left end and the middle height of each name that finds a place, in pixels.

    From the rightmost curve to the leftmost. The nearest free place is taken, but one that covers curves counts as
    farther away; a place nearer to the end of another curve is none.
    """
    found: dict[str, Point] = {}
    taken: list[Box] = []
    for name in sorted(ends, key=lambda name: -ends[name][0]):
        (x, y), wide = ends[name], CHAR_PX * len(name)
        if wide > MAX_SHARE * panel.size[0]:
            continue
        best, least = None, math.inf
        for dx, dy in product((RIGHT_PX, -wide / 2, -wide - RIGHT_PX), SHIFTS_PX):
            box = x + dx, x + dx + wide, y + dy - LINE_PX / 2, y + dy + LINE_PX / 2
            cost = math.hypot(dx + wide / 2, dy) + CURVE_COST * _num_inside(panel.curves, box)
            is_free = _is_inside(box, panel) and not any(_touch(box, other) for other in taken)
            is_free = is_free and min(ends, key=lambda other: _distance(ends[other], box)) == name
            if is_free and cost < least and not _num_inside(panel.marks, box, MARK_PX):
                best, least = box, cost
        if best is not None:
            found[name] = best[0], (best[2] + best[3]) / 2
            taken.append(best)
    return found


def _num_inside(points: Floats, box: Box, margin: float = 0.0) -> int:
    left, right, bottom, top = box
    x, y = points[:, 0], points[:, 1]
    inside = (x > left - margin) & (x < right + margin) & (y > bottom - margin) & (y < top + margin)
    return int(inside.sum())


def _distance(point: Point, box: Box) -> float:
    left, right, bottom, top = box
    return math.hypot(max(left - point[0], point[0] - right, 0), max(bottom - point[1], point[1] - top, 0))


def _is_inside(box: Box, panel: Panel) -> bool:
    left, right, bottom, top = box
    return left >= 1 and bottom >= 1 and top <= panel.size[1] and right <= panel.size[0]


def _touch(box: Box, other: Box) -> bool:
    return box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3]


def apart(places: Sequence[tuple[float, float, float]]) -> list[float]:
    """Heights of names whose left ends, right ends and wanted heights are given, from the lowest to the highest.

    A name that would cover one below it is moved up, as far as it takes.
    """
    heights: list[float] = []
    for i, (left, right, height) in enumerate(places):
        below = [h for (a, b, _), h in zip(places[:i], heights, strict=True) if a < right and left < b]
        for taken in sorted(below):
            if abs(height - taken) < LINE_PX:
                height = taken + LINE_PX
        heights.append(height)
    return heights


def darker(color: str) -> str:
    """A colour (#rrggbb) with three tenths less light: for words in the colour of a line."""
    return "#" + "".join(f"{round(0.7 * int(color[i : i + 2], 16)):02x}" for i in (1, 3, 5))
