"""Time ratios: against least squares, lifelines and values by hand, with censoring, gaps and separated models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from lifelines import LogNormalAFTFitter
from scipy import stats

from collapselab.analysis.times import censored_fit, log_time_ratio, log_time_ratio_of_models


def test_without_censoring_it_is_least_squares() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 20))
    fitted = censored_fit(y, np.ones(20, bool), np.column_stack([x, np.ones(20)]))
    assert fitted == pytest.approx(np.polyfit(x, y, 1))


@pytest.mark.parametrize("seed", range(3))
def test_with_censoring_it_is_the_log_normal_model_of_lifelines(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 4, 60).astype(float)
    times = np.exp(5 - 0.6 * x + 0.4 * draw.normal(size=60))
    events, seen = times < 120, np.minimum(times, 120)
    assert 10 < (~events).sum() < 40
    expected = LogNormalAFTFitter().fit(pd.DataFrame({"t": seen, "e": events, "x": x}), "t", "e").params_["mu_"]
    fitted = censored_fit(np.log(seen), events, np.column_stack([x, np.ones(60)]))
    # Two searches for one maximum.
    assert fitted == pytest.approx([expected["x"], expected["Intercept"]], abs=1e-4)


def test_a_wholly_censored_half_has_no_finite_ratio() -> None:
    x, events = np.repeat([0.0, 1.0], 4), np.repeat([True, False], 4)
    found = log_time_ratio([10, 11, 12, 13] + [400] * 4, events, x, [0] * 8, [0, 1, 2, 3] * 2)
    assert (found.value, found.error) == (None, None)


def test_the_ratio_is_the_t_test_over_the_slopes_of_seeds() -> None:
    draw = np.random.default_rng(4)
    x, seed = np.tile(np.arange(4.0), 5), np.repeat(np.arange(5), 4)
    logs = 5 - 0.7 * x + 0.3 * draw.normal(size=20) + draw.normal(size=5)[seed]
    slopes = [np.polyfit(x[seed == s], logs[seed == s], 1)[0] for s in range(5)]
    found = log_time_ratio(np.exp(logs), [True] * 20, x, [0] * 20, seed)
    assert found.value == pytest.approx(np.mean(slopes))
    assert found.p_value(0.0) == pytest.approx(stats.ttest_1samp(slopes, 0).pvalue)


def test_strata_have_levels_of_their_own_and_those_without_an_onset_say_nothing() -> None:
    x, strata, seed = np.tile([0.0, 1.0], 6), np.repeat([0, 1, 2], 4), np.tile([0, 0, 1, 1], 3)
    times = [100, 50, 120, 60, 10, 5, 12, 6, 400, 7, 400, 7]
    events = [True] * 8 + [False] * 4
    found = log_time_ratio(times, events, x, strata, seed)
    assert found.value == pytest.approx(-math.log(2))


def test_a_line_through_the_effects_of_models() -> None:
    """Four models, whose effects lie about a line; the rates and seeds shift all alike."""
    size, off = np.array([0.0, 1, 2, 3]), np.array([0.1, -0.1, -0.1, 0.1])
    model, rate, seed = (axis.ravel() for axis in np.meshgrid(range(4), range(2), range(3), indexing="ij"))
    logs = 5 - 0.3 * size[model] + off[model] - 0.7 * rate + 0.2 * seed
    columns = (np.exp(logs), np.ones(24, bool), size[model], model, rate)
    found, num = log_time_ratio_of_models(*columns)
    expected = stats.linregress(size, -0.3 * size + off)
    assert (num, found.value, found.error, found.freedom) == (
        4,
        pytest.approx(expected.slope),
        pytest.approx(expected.stderr),
        2,
    )


def test_more_seeds_are_no_more_models() -> None:
    draw = np.random.default_rng(1)
    effects, sizes = draw.normal(0, 0.3, 3), np.arange(3.0)
    for num_seeds in (2, 50):
        model = np.repeat(np.arange(3), num_seeds)
        found, num = log_time_ratio_of_models(
            np.exp(effects[model]), np.ones(len(model), bool), sizes[model], model, model * 0
        )
        assert (num, found.freedom) == (3, 1)
        assert found.interval().low == pytest.approx(-found.interval().high + 2 * (found.value or 0))
    two, _ = log_time_ratio_of_models([10, 20], [True, True], [0.0, 1.0], [0, 1], [0, 0])
    assert (two.value, two.error) == (pytest.approx(math.log(2)), None)


def test_models_that_no_stratum_links_have_levels_of_their_own() -> None:
    """Two pairs of models, seen under different settings: each pair halves, whatever lies between the pairs."""
    found, num = log_time_ratio_of_models([100, 50, 7000, 3500], [True] * 4, [0, 1, 5, 6], [0, 1, 2, 3], [0, 0, 1, 1])
    assert (num, found.value, found.freedom) == (4, pytest.approx(-math.log(2)), 1)
