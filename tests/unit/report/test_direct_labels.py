"""Names of curves beside the curves: none covers another."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collapselab.report.direct_labels import CHAR_PX, LINE_PX, MARK_PX, RIGHT_PX, Panel, apart, darker, free_places


def test_names_that_would_touch_are_moved_up_and_others_stay() -> None:
    assert apart([(0, 50, 10), (40, 90, 12), (60, 90, 30), (200, 250, 11)]) == [10, 10 + LINE_PX, 10 + 2 * LINE_PX, 11]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 80), st.integers(0, 100)), max_size=8))
def test_no_name_covers_another(wanted: list[tuple[int, int, int]]) -> None:
    places = [(float(left), float(left + width), float(height)) for left, width, height in wanted]
    places.sort(key=lambda place: place[2])
    heights = apart(places)
    for i, (left, right, height) in enumerate(places):
        assert heights[i] >= height
        for k in range(i):
            if places[k][0] < right and left < places[k][1]:
                assert abs(heights[i] - heights[k]) >= LINE_PX


def test_a_name_is_darker_than_its_line() -> None:
    assert darker("#ff8000") == "#b25a00"


def panel_of(marks: list[tuple[int, int]], curves: list[tuple[int, int]]) -> Panel:
    points = (np.array(found, dtype=float).reshape(-1, 2) for found in (marks, curves))
    return Panel((140.0, 200.0), *points)


def test_a_name_takes_the_nearest_free_place_and_gives_way_to_marks_and_curves() -> None:
    ends, wide = {"2e-5": (50.0, 100.0)}, 4 * CHAR_PX
    assert free_places(ends, panel_of([(50, 100)], []))["2e-5"][0] == 50 - wide / 2, "above or below, in the middle"
    beside = free_places(ends, panel_of([(50, y) for y in range(0, 201, 4)], []))
    assert beside["2e-5"] == (50 + RIGHT_PX, 100.0)
    above = free_places(ends, panel_of([(50, 100)], [(x, 92) for x in range(140)]))["2e-5"][1]
    below = free_places(ends, panel_of([(50, 100)], [(x, 108) for x in range(140)]))["2e-5"][1]
    assert above > 100 > below, "away from the curve"


def test_a_name_stays_away_from_the_ends_of_other_curves() -> None:
    upper = [(x, y) for x in range(0, 141, 4) for y in range(34, 52, 4)]
    ends, panel = {"a": (100.0, 20.0), "b": (100.0, 50.0)}, panel_of([(100, 20), (100, 50), *upper], [])
    under_b = [(x, y) for x in range(0, 141, 4) for y in range(0, 34, 4)]  # what is free is above b
    assert free_places(ends, panel)["a"][1] < 35
    assert "a" not in free_places(ends, panel_of([*map(tuple, panel.marks), *under_b], []))


def test_a_name_without_a_free_place_is_left_out() -> None:
    marks = [(x, y) for x in range(0, 141, 5) for y in range(0, 201, 5)]
    assert free_places({"2e-5": (50.0, 100.0)}, panel_of(marks, [])) == {}
    assert free_places({"a name longer than a third": (50.0, 100.0)}, panel_of([], [])) == {}, (
        "it would hide the curves"
    )
    at_the_edge = free_places({"at edge": (139.0, 100.0)}, panel_of([(139, 100)], []))
    assert at_the_edge["at edge"][0] + 7 * CHAR_PX <= 140


@given(
    st.lists(st.tuples(st.integers(0, 140), st.integers(0, 200)), max_size=12),
    st.lists(st.tuples(st.integers(0, 140), st.integers(0, 200)), max_size=5),
)
def test_no_name_covers_a_mark_or_another_name(others: list[tuple[int, int]], ends: list[tuple[int, int]]) -> None:
    named = {f"{i}e-5": (float(x), float(y)) for i, (x, y) in enumerate(ends)}
    places, boxes = free_places(named, panel_of(others + ends, [])), list[tuple[float, float]]()
    for x, y in places.values():
        for mark_x, mark_y in others + ends:
            is_below = x - MARK_PX < mark_x < x + 4 * CHAR_PX + MARK_PX
            assert not (is_below and abs(mark_y - y) < LINE_PX / 2 + MARK_PX)
        assert all(abs(x - a) >= 4 * CHAR_PX or abs(y - b) >= LINE_PX for a, b in boxes)
        assert 0 <= x <= 140 - 4 * CHAR_PX
        assert 0 <= y <= 200
        boxes.append((x, y))
