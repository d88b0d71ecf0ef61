"""Names of curves beside the curves: where each goes, so that none covers another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

LINE_PX, CHAR_PX = 12.0, 5.6  # height of a name, and about the width of one of its characters

Point = tuple[float, float]


def name_labels(
    ends: Mapping[str, Point], colors: Mapping[str, str], px: Point, axes: tuple[alt.X, alt.Y], *, is_right: bool
) -> list[alt.Chart]:
    """A name at the end of each curve, right of it or above it, moved up where it would cover another.

    Args:
        ends: the last step and value of each curve.
        colors: the colour of each curve; its name is darker, to be read on white.
        px: how many pixels a step is wide, and a unit of the value high.
        axes: of the step, and of the value.
        is_right: right of the ends, or above them.
    """
    x, y = axes
    ordered = sorted(ends, key=lambda name: ends[name][1])
    places: list[tuple[float, float, float]] = []
    for name in ordered:
        (step, value), width = ends[name], CHAR_PX * len(name)
        left = step * px[0] + (7 if is_right else 3 - width)
        places.append((left, left + width, value * px[1] + (0 if is_right else 9)))
    charts: list[alt.Chart] = []
    for name, (*_, wanted), height in zip(ordered, places, apart(places), strict=True):
        step, value = ends[name]
        at = alt.Chart(alt.InlineData(values=[{"step": step, "value": value}])).encode(x=x, y=y)
        up = height - wanted + (0 if is_right else 9)
        align, dx = ("left", 7) if is_right else ("right", 3)
        charts.append(at.mark_text(text=name, align=align, dx=dx, dy=-up, color=darker(colors[name])))
    return charts


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
