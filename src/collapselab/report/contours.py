"""Lines of equal value over a grid of values, some of which may be unknown."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from collapselab.analysis.intervals import Floats

Point = tuple[float, float]


def contour(values_RC: Floats, level: float) -> list[tuple[Point, Point]]:
    """The pieces of the line at a level, as pairs of points (column, row).

    Values are at the centres of cells and linear between them, in the two triangles of each four centres; they go on
    evenly for half a cell at the border, where the line ends. There is no line beside an unknown value (NaN).
    """
    num_rows, num_columns = values_RC.shape
    rows, columns = _with_borders(num_rows), _with_borders(num_columns)
    padded = np.pad(values_RC, 1, mode="edge")
    pieces: list[tuple[Point, Point]] = []
    for i, k in itertools.product(range(num_rows + 1), range(num_columns + 1)):
        for corner in ((i, k), (i + 1, k + 1)):
            triangle = (corner, (i, k + 1), (i + 1, k))
            places = [(columns[column], rows[row]) for row, column in triangle]
            crossed = _crossings(places, [float(padded[place]) for place in triangle], level)
            pieces += [(crossed[0], crossed[1])] if len(crossed) == 2 else []
    return pieces


def _with_borders(num: int) -> Sequence[float]:
    return [-0.5, *range(num), num - 0.5]


def _crossings(places: Sequence[Point], values: Sequence[float], level: float) -> list[Point]:
    """Where a triangle's edges cross the level: at two of them, or nowhere."""
    if np.isnan(values).any():
        return []
    found: list[Point] = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        if (values[a] < level) != (values[b] < level):
            share = (level - values[a]) / (values[b] - values[a])
            (ax, ay), (bx, by) = places[a], places[b]
            found.append((ax + share * (bx - ax), ay + share * (by - ay)))
    return found
