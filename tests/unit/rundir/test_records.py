"""Records and their JSON: what goes in comes out, infinity included."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.errors import InputError
from collapselab.records import Record, dumps, loads
from collapselab.rundir.layout import read_lines

# The words that stand for non-finite numbers are the only text that does not come back as text.
words = st.text().filter(lambda text: text not in ("NaN", "Infinity", "-Infinity"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True)
@given(values)
def test_a_value_comes_back_as_it_went(value: object) -> None:
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(("number", "written"), [(math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN")])
def test_non_finite_numbers_are_written_as_words(number: float, written: str) -> None:
    line = dumps({"train_nll_nats": number, "reasons": [number]})
    assert json.loads(line) == {"train_nll_nats": written, "reasons": [written]}
    back = loads(line)["train_nll_nats"]
    assert back == number or (math.isnan(back) and math.isnan(number))


def test_the_text_of_a_sample_stays_text() -> None:
    assert loads(dumps({"text": "NaN", "loss": math.inf})) == {"text": "NaN", "loss": math.inf}


def test_a_line_holds_no_line_break() -> None:
    assert "\n" not in dumps({"text": "a\nb\r\nc"})


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3.0), (0.5, 0.5), (True, 1.0), (None, None), ("loop", None), (["loop"], None)]
)
def test_the_number_of_a_record(value: float | str | list[str] | None, number: float | None) -> None:
    assert Record(0, {"name": value}).number("name") == number


def test_a_name_that_was_not_recorded_is_unknown() -> None:
    assert Record(0, {}).number("val_nll_nats") is None


def test_lines_that_are_no_objects_are_named(tmp_path: Path) -> None:
    for content, reason in (("[1]", "no JSON object"), ("[" * 100_000, "not JSON"), ("9" * 5000, "not JSON")):
        (tmp_path / "steps.jsonl").write_text('{"step": 0}\n' + content + "\n")
        with pytest.raises(InputError, match=rf"steps\.jsonl, line 2: {reason}"):
            read_lines(tmp_path / "steps.jsonl")
