"""Curves over seeds: means and intervals by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from collapselab.report.curves import MAX_POINTS, MIN_LOSS_NATS, mean_curve, run_series, tails


def test_a_mean_is_the_mean_and_its_interval_students() -> None:
    series = [(np.arange(5.0), np.full(5, value)) for value in (1.0, 2.0, 6.0)]
    curve = mean_curve(series, [True] * 3)
    assert curve["step"].tolist() == [0, 1, 2, 3, 4]
    assert curve["value"].tolist() == pytest.approx([3.0] * 5)
    low, high = scipy.stats.t.interval(0.95, 2, 3.0, scipy.stats.sem([1.0, 2.0, 6.0]))
    assert curve["high"].iloc[0] == pytest.approx(high)
    assert low < 0
    assert curve["low"].iloc[0] == MIN_LOSS_NATS
    assert curve["n"].tolist() == [3] * 5


def test_a_mean_ends_with_the_first_finished_run_and_tails_go_on() -> None:
    series = {
        "a": (np.arange(3.0), np.zeros(3)),
        "b": (np.arange(9.0), np.arange(9.0)),
        "c": (np.arange(2.0), np.ones(2)),
    }
    curve = mean_curve(list(series.values()), [True, True, False])
    assert curve["step"].tolist() == [0, 1, 2]
    assert curve["n"].tolist() == [3, 3, 2]
    assert curve["value"].tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    after = tails(series, 2.0)
    assert set(after) == {"b"}
    assert after["b"]["step"].tolist() == list(range(2, 9))
    assert after["b"]["value"].tolist() == list(range(2, 9))


def test_one_run_has_a_curve_without_an_interval() -> None:
    curve = mean_curve([(np.array([0.0, 4.0]), np.array([1.0, 3.0]))], [False])
    assert (curve["step"].tolist(), curve["value"].tolist()) == ([0, 4], [1.0, 3.0]), "nothing is interpolated"
    assert curve[["low", "high"]].isna().all(axis=None)


def test_a_long_run_has_few_points_each_the_mean_around_it() -> None:
    values = np.arange(5001.0)
    curve = mean_curve([(np.arange(5001.0), values)], [True])
    assert len(curve) <= MAX_POINTS + 2
    width = math.ceil(5000 / MAX_POINTS)
    step = int(curve["step"].iloc[40])
    assert curve["value"].iloc[40] == pytest.approx(values[step - width // 2 : step + (width - 1) // 2 + 1].mean())
    assert curve["step"].iloc[-1] == 5000


def test_a_series_ends_before_its_first_value_that_is_not_finite() -> None:
    steps = pd.DataFrame({"run": "a", "step": range(5), "x": [1.0, math.nan, 3.0, math.inf, 5.0]})
    at, values = run_series(steps, "x")["a"]
    assert (at.tolist(), values.tolist()) == ([0, 2], [1, 3])
    assert run_series(steps, "y") == {}
    assert run_series(steps.assign(x=math.inf), "x") == {}


def test_no_value_is_made_between_two_records() -> None:
    long = (np.arange(0.0, 1001.0, 25), np.arange(41.0))
    curve = mean_curve([long], [True])
    assert set(curve["value"]) <= set(long[1]), "a window of 10 steps holds one record, or none"
    assert len(curve) == 41
    assert set(tails({"a": long}, 100.0)["a"]["value"]) <= set(long[1])
