"""Names of curves beside the curves: none covers another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collapselab.report.direct_labels import LINE_PX, apart, darker


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
