"""Frames in Parquet files and back: every value and type as it was."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from collapselab import InputError, Runs, load_runs

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="the extra hf is not installed")


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert_frame_equal(one, other, check_exact=True)
    for name in one:
        for a, b in zip(one[name], other[name], strict=True):  # pandas takes None and NaN for equal
            assert type(a) is type(b), (name, a, b)


@needs_pyarrow
def test_runs_are_read_back_as_they_were(finished: Path, tmp_path: Path) -> None:
    runs = load_runs(finished)
    paths = runs.to_parquet(tmp_path / "made" / "here")
    assert [path.name for path in paths] == ["runs.parquet", "steps.parquet", "samples.parquet"]
    again = Runs.from_parquet(tmp_path / "made" / "here")
    for name in ("runs", "steps", "samples"):
        assert_same(getattr(runs, name), getattr(again, name))
    assert pd.read_parquet(paths[2])["text"].tolist() == runs.samples["text"].tolist(), "other programs see a text"


@needs_pyarrow
def test_values_of_every_kind(tmp_path: Path) -> None:
    objects = {
        "text": ["NaN", "", None],
        "mixed": [1, "1", math.nan],
        "truth": [True, None, 0.5],
        "ids": [[1, 2], [], [3]],
        "words": [["a"], None, ["NaN", "\ud800"]],
        "broken": ["\ud800", "b", "c"],
        "nothing": [None, None, None],
    }
    typed = {
        "numbers": [math.inf, -math.inf, math.nan],
        "step": pd.array([1, None, 3], dtype="Int64"),
        "degenerate": pd.array([True, None, False], dtype="boolean"),
    }
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in objects.items()}).assign(**typed)
    Runs(frame, frame.iloc[:0], frame).to_parquet(tmp_path)
    again = Runs.from_parquet(tmp_path)
    assert_same(again.runs, frame)
    assert_same(again.steps, frame.iloc[:0])


@needs_pyarrow
def test_a_file_that_is_none_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*runs\.parquet"):
        Runs.from_parquet(tmp_path)
    load_runs(finished).to_parquet(tmp_path)
    (tmp_path / "steps.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"cannot read .*steps\.parquet"):
        Runs.from_parquet(tmp_path)


def test_without_pyarrow_the_extra_is_named(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = load_runs(finished)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (lambda: runs.to_parquet(tmp_path / "new"), lambda: Runs.from_parquet(tmp_path)):
        with pytest.raises(InputError, match=r"pip install 'collapselab\[hf\]'"):
            call()
    assert not (tmp_path / "new").exists()
