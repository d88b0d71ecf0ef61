"""The map of self-training: which cells, in which colours, and the lines of equal pull."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from collapselab.analysis.pull import pull
from collapselab.report.contours import contour
from collapselab.report.figures import FIGURES, sampler_map
from collapselab.rundir.frames import Runs
from figure_specs import drawn, parts, rows_of
from sampler_runs import SAMPLERS


def subset(runs: Runs, keep: Any) -> Runs:
    names = runs.runs.loc[keep, "run"]
    return Runs(*(frame[frame["run"].isin(names)] for frame in (runs.runs, runs.steps, runs.samples)))


def cells_of(runs: Runs) -> dict[tuple[float, str], dict[str, Any]]:
    rows = [row for row in rows_of(drawn("sampler-map", runs)) if "truncation" in row]
    return {(row["temperature"], row["truncation"]): row for row in rows}


def test_each_cell_has_the_regime_and_the_median_onset_of_its_arm(samplers: Runs) -> None:
    cells = cells_of(samplers)
    found = {sampler: (cell["regime"], cell["label"], cell["runs"]) for sampler, cell in cells.items()}
    assert found == {
        (0.8, "none"): ("freeze", "8", 2),
        (0.8, "50"): ("freeze", "5", 2),
        (1.0, "none"): ("drift", "> 30", 2),
        (1.0, "50"): ("freeze", "12", 2),
        (1.2, "none"): ("melt", "9", 2),
        (1.2, "50"): ("drift", "> 30", 2),
    }
    expected = {(t, "none" if k is None else str(k)): gap if kl else 0 for (t, k), (_, gap, kl) in SAMPLERS.items()}
    assert {sampler: cell["pull"] for sampler, cell in cells.items()} == pytest.approx(expected)


def test_an_axis_is_there_only_if_the_runs_vary_in_it(samplers: Runs) -> None:
    def axes(runs: Runs) -> set[str]:
        specs = [part for part in parts(drawn("sampler-map", runs)) if "labelExpr" in part]
        return {str(axis["title"]) for axis in specs}

    assert axes(samplers) == {"temperature", "top-k"}
    at_1 = subset(samplers, samplers.runs["sampling.temperature"] == 1)
    assert axes(at_1) == {"top-k"}
    for whole in (samplers.runs["sampling.top_k"].isna(), samplers.runs["sampling.top_k"] == 50):
        assert axes(subset(samplers, whole)) == {"temperature"}
    one = subset(samplers, (samplers.runs["sampling.temperature"] == 0.8) & (samplers.runs["sampling.top_k"] == 50))
    assert sampler_map.select(one) is None


def test_other_kinds_of_truncation_have_panels_of_their_own(samplers: Runs) -> None:
    runs = samplers.runs.copy()
    cut = runs["sampling.top_k"].eq(50).fillna(False).astype(bool)
    runs.loc[cut, "sampling.min_p"] = 0.05
    runs.loc[cut & (runs["sampling.temperature"] != 1), "sampling.min_p"] = 0.1
    runs["sampling.top_k"] = None
    vega_lite = drawn("sampler-map", Runs(runs, samplers.steps, samplers.samples))
    assert {row["panel"] for row in rows_of(vega_lite) if "panel" in row} == {"min-p"}, "top-k does not vary any more"
    assert [row["row"] for row in rows_of(vega_lite) if row.get("truncation") == "0.1"] == [2, 2], "below 0.05"
    runs.loc[runs["sampling.temperature"] == 1.2, ["sampling.min_p", "sampling.top_k"]] = [None, 50]
    both = drawn("sampler-map", Runs(runs, samplers.steps, samplers.samples))
    assert {row["panel"] for row in rows_of(both) if "panel" in row} == {"top-k", "min-p"}
    assert len(both["vconcat"]) == 2


def test_the_map_cannot_be_zoomed_and_keeps_the_words_above_it(samplers: Runs) -> None:
    vega_lite = drawn("sampler-map", samplers)
    assert vega_lite.get("params") == []
    assert not any(part.get("clip") for part in parts(vega_lite))


def test_each_regime_is_named_once_inside_itself(samplers: Runs) -> None:
    shown = sampler_map.select(samplers)
    assert shown is not None
    named = sampler_map._named(shown.cells)  # pyright: ignore[reportPrivateUsage]
    places = {(row["column"], row["row"]): row["regime"] for row in cells_of(samplers).values()}
    assert {regime: places[place] for regime, place in named.items()} == {r: r for r in ("freeze", "drift", "melt")}


def test_the_caption_counts_arms_seeds_and_what_has_no_place(samplers: Runs) -> None:
    words = FIGURES["sampler-map"].caption(samplers)
    for part in (
        "6 arms of nano (0.56 M)",
        "2 seeds each",
        "Freeze in 3 arms (median onset 5 to 12), drift in 2 arms, melt in 1 arm (median onset 9)",
        "from -1.20 to 1.50 nats",
        "3 further arms are not shown",
    ):
        assert part in words


def test_the_pull_is_the_entropy_that_the_sampler_takes_away() -> None:
    steps = pd.DataFrame(
        {
            "run": ["a"] * 12 + ["b"],
            "step": [*range(12), 0],
            "entropy_nats": [3.0] * 10 + [9.0, 9.0, 3.0],
            "train_nll_nats": [2.5] * 12 + [2.9],
            "sharpening_nats": [0.1] * 12 + [0.0],
        }
    )
    found = pull(pd.DataFrame({"run": ["a", "b", "c"]}), steps)
    assert found.tolist()[:2] == pytest.approx([0.6, 0.0]), "steps from 10 on do not count; no noise where q is p"
    assert math.isnan(found[2])
    assert pull(pd.DataFrame({"run": ["a"]}), steps[["run", "step"]]).isna().all()


def test_a_contour_of_a_plane_is_a_straight_line_from_border_to_border() -> None:
    plane = np.tile(np.arange(4.0), (3, 1))
    pieces = contour(plane, 1.25)
    assert {x for piece in pieces for x, _ in piece} == {1.25}
    assert sum(abs(a[1] - b[1]) for a, b in pieces) == pytest.approx(3)
    assert contour(plane, 7) == []
    plane[1, 1] = np.nan
    beside = [y for piece in contour(plane, 1.25) for _, y in piece if 0 < y < 1]
    assert not beside, "no line in triangles with an unknown value"


@settings(max_examples=50, deadline=None)
@given(arrays(float, (3, 4), elements=st.floats(-1, 1, width=16)), st.integers(-5, 5).filter(bool))
def test_a_contour_parts_the_values_above_from_those_below(values: Any, sevenths: int) -> None:
    """Between two neighbours, one above and one below, the line passes exactly where linear interpolation says."""
    level = sevenths / 7  # equal to none of the values
    points = {point for piece in contour(values, level) for point in piece}
    for row, column in np.ndindex(3, 3):
        left, right = values[row, column], values[row, column + 1]
        crossings = [x for x, y in points if y == row and column < x < column + 1]
        if (left < level) != (right < level):
            assert crossings == pytest.approx([column + (level - left) / (right - left)] * len(crossings))
            assert crossings
        else:
            assert not crossings
