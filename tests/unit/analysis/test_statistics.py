"""Intervals, tests and corrections: by hand, against scipy, and where nothing is known."""

from __future__ import annotations

import inspect
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from collapselab.analysis.intervals import (
    Estimate,
    Interval,
    arm_mean,
    bootstrap_interval,
    holm,
    over_seeds,
    share_interval,
    share_test,
)


def ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


# --- over seeds


def seed_means(values: NDArray[np.float64], seeds: NDArray[np.int_]) -> Estimate:
    return over_seeds(lambda mask: float(values[mask].mean()), seeds)


@pytest.mark.parametrize("num_seeds", [2, 5, 40])
def test_where_each_seed_has_each_arm_it_is_the_t_test_over_seeds(num_seeds: int) -> None:
    values = np.random.default_rng(num_seeds).normal(3, 2, (num_seeds, 4))
    expected = stats.ttest_1samp(values.mean(axis=1), 2.5)
    found = seed_means(values.ravel(), np.repeat(np.arange(num_seeds), 4))
    assert ends(found.interval(level=0.9)) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert found.p_value(2.5) == pytest.approx(expected.pvalue)
    assert (found.freedom, found.n) == (num_seeds - 1, 4 * num_seeds)


def test_the_t_interval_by_hand() -> None:
    # s = 1, t(.975, 2) = 4.302653
    found = seed_means(np.array([1.0, 2.0, 3.0]), np.arange(3))
    half = 4.302653 / math.sqrt(3)
    assert found.interval() == Interval(2.0, pytest.approx(2 - half), pytest.approx(2 + half), 0.95, 3)
    assert found.interval(math.exp).high == pytest.approx(math.exp(2 + half))


def test_what_has_no_spread_has_no_interval() -> None:
    for values, seeds in (([3.0], [7]), ([2.0, 2.0], [0, 1]), ([1.0, 2.0], [4, 4])):
        found = seed_means(np.array(values), np.array(seeds))
        assert (found.error, found.p_value(0.0)) == (None, None)
        assert found.interval() == Interval(np.mean(values), None, None, 0.95, len(values))
    assert over_seeds(lambda mask: None, [0, 1]).interval() == Interval(None, None, None, 0.95, 2)
    assert over_seeds(lambda mask: 1.0 if mask.all() else None, [0, 1]).error is None
    assert over_seeds(lambda mask: 1.0, []).value is None


def test_a_missing_run_does_not_move_the_mean_by_its_arms_level() -> None:
    """Arms at 0 and at 100, seeds at -1, 0, 1; one seed lacks the high arm: a mean of seed means would be 40."""
    arm = np.array(["low", "low", "low", "high", "high"])
    seed = np.array([0, 1, 2, 0, 1])
    found, used = arm_mean(np.array([-1.0, 0, 1, 99, 100]), arm, seed)
    assert found.value == pytest.approx((0 + 99.5) / 2)
    assert found.error is not None
    assert found.error < 2
    assert used.all()


def test_an_arm_of_one_seed_is_left_out() -> None:
    values, arm, seed = np.array([1.0, 3.0, 50.0]), np.array(["a", "a", "b"]), np.array([0, 1, 1])
    found, used = arm_mean(values, arm, seed)
    assert (found.value, used.tolist()) == (2.0, [True, True, False])
    found, used = arm_mean(values, arm, np.zeros(3, dtype=int))
    assert (found.value, found.error, used.all()) == (26.0, None, True)


# --- bootstrap


def test_the_bootstrap_leaves_out_what_is_unknown() -> None:
    median = partial(np.median, axis=-1)
    assert bootstrap_interval([3.0, None], median, np.random.default_rng(0)) == Interval(3.0, None, None, 0.95, 1)
    assert bootstrap_interval([], median, np.random.default_rng(0)) == Interval(None, None, None, 0.95, 0)


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).exponential(100, 30)
    interval = bootstrap_interval(values, partial(np.mean, axis=-1), np.random.default_rng(2), num_resamples=4000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert interval.estimate == pytest.approx(values.mean())
    # Two draws of 4,000 resamples: their 2.5 % points lie within 2 % of each other's.
    assert ends(interval) == (pytest.approx(expected.low, rel=0.02), pytest.approx(expected.high, rel=0.02))


def test_the_bootstrap_of_a_median_by_hand() -> None:
    # Of three values, all three draws are the smallest (or two of three are) in 7 of 27 resamples.
    interval = bootstrap_interval([1.0, 2.0, 30.0], partial(np.median, axis=-1), np.random.default_rng(0), level=0.4)
    assert (interval.estimate, interval.low, interval.high) == (2.0, 2.0, 2.0)
    interval = bootstrap_interval([1.0, 2.0, 30.0], partial(np.median, axis=-1), np.random.default_rng(0), level=0.6)
    assert (interval.estimate, interval.low, interval.high) == (2.0, 1.0, 30.0)


def test_the_bootstrap_draws_from_the_generator_alone() -> None:
    mean = partial(np.mean, axis=-1)
    first, again, other = (
        bootstrap_interval([1.0, 2.0, 5.0, 9.0], mean, np.random.default_rng(s), 50) for s in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert inspect.signature(bootstrap_interval).parameters["generator"].default is inspect.Parameter.empty


# --- shares


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 20), (3, 7), (7, 7), (50, 100)])
def test_shares_are_those_of_scipy(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    interval = share_interval(hits, n)
    assert interval.estimate == hits / n
    assert ends(interval) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_no_hit_in_five_by_hand() -> None:
    assert ends(share_interval(0, 5)) == (0.0, pytest.approx(1 - 0.025 ** (1 / 5)))
    assert share_interval(0, 0) == Interval(None, None, None, 0.95, 0)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (5, 10)])
def test_tests_of_shares_are_those_of_scipy_doubled(hits: int, n: int) -> None:
    for is_more, side in ((True, "greater"), (False, "less")):
        expected = min(1.0, 2 * stats.binomtest(hits, n, 0.3, alternative=side).pvalue)
        assert share_test(hits, n, 0.3, is_more=is_more) == pytest.approx(expected)


def test_how_many_controls_show_what() -> None:
    """Nine without a collapse show that fewer than half collapse, with nine claims; 36 that at most a tenth do."""
    sure = [n for n in range(1, 40) if (share_test(0, n, 0.5, is_more=False) or 1) < 0.05 / 9]
    assert sure[0] == 9
    assert next(n for n in range(1, 60) if (share_interval(0, n).high or 1) <= 0.10) == 36
    assert share_test(0, 0, 0.5, is_more=False) is None


# --- several tests at once


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.04, None, 0.03]) == (pytest.approx(0.06), None, pytest.approx(0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
    assert holm([None]) == (None,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    adjusted = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected: set[int] = set()
    for rank, i in enumerate(order):
        if (len(order) - rank) * p_values[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(adjusted) if p is not None and p <= alpha} == rejected
