"""Data inside a page: JSON that is never markup, and short numbers."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab.report.packing import columns_for_json, json_list, packed, script_json
from report_pages import unpack


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_in_a_page_is_ascii_without_markup_and_comes_back(value: object) -> None:
    text = script_json(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed(value))
    assert unpack(packed(value)) == value


def test_lone_surrogates_and_line_separators_survive() -> None:
    text = "\ud800 \u2028 \u2029 </script>"
    assert script_json(text) == '"\\ud800 \\u2028 \\u2029 \\u003c/script\\u003e"'
    assert json.loads(script_json(text)) == text


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1))
def test_floats_are_rounded_to_four_digits_as_python_writes_them(values: list[float]) -> None:
    column = columns_for_json(pd.DataFrame({"x": values}, dtype=np.float64))["x"]
    for value, rounded in zip(values, json_list(column), strict=True):
        if math.isnan(value):
            assert rounded is None
        elif math.isinf(value):
            assert rounded == ("Infinity" if value > 0 else "-Infinity")
        else:
            assert rounded == pytest.approx(value, rel=0.5001e-3, abs=0)


def test_rounded_numbers_are_short() -> None:
    column = columns_for_json(pd.DataFrame({"x": [1 / 3, 123456.789, 2e-5 / 3, -0.04159, 0.0]}))["x"]
    assert json.dumps(json_list(column)) == "[0.3333, 123500.0, 6.667e-06, -0.04159, 0.0]"


def test_unknown_values_of_every_kind_are_null() -> None:
    frame = pd.DataFrame({"i": [1, pd.NA], "b": [pd.NA, True], "o": [None, "x"]}).astype({"i": "Int64", "b": "boolean"})
    columns = columns_for_json(frame)
    assert {name: json_list(column) for name, column in columns.items()} == {
        "i": [1, None],
        "b": [None, True],
        "o": [None, "x"],
    }
