"""Curves over seeds: means and intervals by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from collapselab.report.curves import MAX_POINTS, MIN_LOSS_NATS, mean_curve, run_series, single_curves


def test_a_mean_is_the_mean_and_its_interval_students() -> None:
    values = (1.0, 2.0, 6.0, 2.0, 4.0)
    curve = mean_curve([(np.arange(5.0), np.full(5, value)) for value in values], [True] * 5)
    assert curve["step"].tolist() == [0, 1, 2, 3, 4]
    assert curve["value"].tolist() == pytest.approx([3.0] * 5)
    low, high = scipy.stats.t.interval(0.95, 4, 3.0, scipy.stats.sem(values))
    assert curve["high"].tolist() == pytest.approx([high] * 5)
    assert curve["low"].tolist() == pytest.approx([low] * 5)
    assert curve["n"].tolist() == [5] * 5


def test_an_interval_of_a_loss_does_not_go_below_0() -> None:
    curve = mean_curve([(np.arange(2.0), np.full(2, value)) for value in (0.1, 0.1, 0.1, 0.1, 9.0)], [True] * 5)
    assert curve["low"].tolist() == [MIN_LOSS_NATS] * 2


def test_four_runs_have_a_mean_without_an_interval() -> None:
    curve = mean_curve([(np.arange(2.0), np.full(2, value)) for value in (1.0, 2.0, 6.0, 7.0)], [True] * 4)
    assert curve["value"].tolist() == [4.0, 4.0]
    assert curve[["low", "high"]].isna().all(axis=None)


def test_a_mean_ends_with_the_first_finished_run_and_is_of_those_that_reached_its_end() -> None:
    series = {
        "a": (np.arange(3.0), np.zeros(3)),
        "b": (np.arange(9.0), np.arange(9.0)),
        "c": (np.arange(2.0), np.full(2, 90.0)),
    }
    curve = mean_curve(list(series.values()), [True, True, False])
    assert curve["step"].tolist() == [0, 1, 2]
    assert curve["n"].tolist() == [2, 2, 2]
    assert curve["value"].tolist() == pytest.approx([0.0, 0.5, 1.0]), "it does not jump where c is left behind"
    singles = single_curves(series)
    assert singles["b"]["step"].tolist() == singles["b"]["value"].tolist() == list(range(9))
    assert singles["c"]["value"].tolist() == [90.0, 90.0]


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
    assert set(single_curves({"a": long})["a"]["value"]) <= set(long[1])
