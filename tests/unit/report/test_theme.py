"""Palette, numbers and ticks."""

from __future__ import annotations

import itertools

import pytest

from collapselab.report.groups import count
from collapselab.report.theme import log_ticks, styles
from collapselab.report.values import short


def luminance(color: str) -> float:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("number", range(1, 9))
def test_ordered_colours_darken_even_in_grey(number: int) -> None:
    look = styles([str(i) for i in range(number)], ordered=True)
    greys = [luminance(color) for color in look.color.to_dict()["range"]]
    assert all(a > b + 8 for a, b in itertools.pairwise(greys))


def test_unordered_curves_differ_in_more_than_colour() -> None:
    look = styles([str(i) for i in range(14)], ordered=False)
    looks = list(zip(look.color.to_dict()["range"], map(tuple, look.dash.to_dict()["range"]), strict=True))
    assert len(set(looks)) == 14
    assert len({dash for _, dash in looks[:7]}) == 7


def test_numbers_are_written_as_people_write_them() -> None:
    assert [short(v) for v in (2e-5, 1.6e-4, 1e-4, 0.001, 0.05, 0.8, 1, 500, 123456, 0)] == [
        "2e-5",
        "1.6e-4",
        "1e-4",
        "0.001",
        "0.05",
        "0.8",
        "1",
        "500",
        "123456",
        "0",
    ]
    assert [count(n) for n in (556_896, 2_222_208, 124_439_808, 1_557_611_200)] == ["0.56 M", "2.2 M", "124 M", "1.6 B"]


def test_logarithmic_axes_have_round_labels_and_enough_of_them() -> None:
    assert log_ticks(8, 450) == [10, 20, 50, 100, 200]
    assert log_ticks(12, 45) == [20, 30, 40]
    assert log_ticks(20, 24) == [20, 21, 22, 23, 24]
