"""Intervals, tests and corrections: by hand, against scipy, and where nothing is known."""

from __future__ import annotations

import inspect
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from collapselab.analysis.intervals import (
    Interval,
    bootstrap_interval,
    holm,
    mean_interval,
    mean_test,
    rank_agreement,
    share_interval,
)


def ends(interval: Interval) -> tuple[float | None, float | None]:
    return interval.low, interval.high


# --- means


def test_the_t_interval_by_hand() -> None:
    # s = 1, t(.975, 2) = 4.302653
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.estimate, interval.level, interval.n) == (2.0, 0.95, 3)
    assert ends(interval) == (pytest.approx(2 - 4.302653 / math.sqrt(3)), pytest.approx(2 + 4.302653 / math.sqrt(3)))


@pytest.mark.parametrize("n", [2, 5, 40])
def test_mean_and_test_are_those_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(3, 2, n)
    expected = stats.ttest_1samp(values, 2.5)
    interval, test = mean_interval(values, level=0.9), mean_test(values, 2.5)
    assert ends(interval) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert (test.statistic, test.p_value, test.n) == (
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
        n,
    )


def test_a_test_at_the_end_of_the_interval_has_five_per_cent() -> None:
    values = [1.0, 4.0, 2.0, 2.5]
    interval = mean_interval(values)
    assert interval.low is not None
    assert mean_test(values, interval.low).p_value == pytest.approx(0.05)


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([3.0]) == Interval(3.0, None, None, 0.95, 1)
    assert mean_test([3.0], 0.0).p_value is None
    assert bootstrap_interval([3.0], np.median, np.random.default_rng(0)) == Interval(3.0, None, None, 0.95, 1)


def test_what_is_unknown_is_left_out() -> None:
    assert mean_interval([1.0, None, 2.0, math.nan, 3.0]) == mean_interval([1.0, 2.0, 3.0])
    assert mean_interval([None, math.nan]) == Interval(None, None, None, 0.95, 0)
    assert bootstrap_interval([], np.median, np.random.default_rng(0)) == Interval(None, None, None, 0.95, 0)


def test_equal_values_and_infinite_ones_have_no_interval() -> None:
    assert mean_interval([2.0, 2.0, 2.0]) == Interval(2.0, None, None, 0.95, 3)
    assert mean_interval([2.0, math.inf]) == Interval(math.inf, None, None, 0.95, 2)
    assert mean_interval([-math.inf, math.inf]) == Interval(None, None, None, 0.95, 2)
    assert mean_test([2.0, 2.0], 1.0).reason is not None
    assert mean_test([math.inf, 2.0, 3.0], 1.0).p_value is None


# --- bootstrap


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


# --- ranks


def test_five_arms_in_one_order_have_two_chances_in_120() -> None:
    agreement = rank_agreement([1, 2, 3, 4, 5], [10, 20, 25, 80, 81])
    assert (agreement.interval.estimate, agreement.p_value) == (1.0, pytest.approx(2 / 120))
    assert ends(agreement.interval) == (None, None)
    assert rank_agreement([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]).interval.estimate == -1.0


def test_rank_agreement_is_that_of_scipy_and_its_interval_that_of_the_formula() -> None:
    draw = np.random.default_rng(0)
    first = draw.normal(size=12)
    second = first + draw.normal(size=12)
    agreement, expected = rank_agreement(first.tolist(), second.tolist()), stats.kendalltau(first, second)
    tau = float(expected.statistic)
    assert (agreement.interval.estimate, agreement.p_value) == (pytest.approx(tau), pytest.approx(expected.pvalue))
    half = 1.959964 * math.sqrt(0.437 / 8)
    assert ends(agreement.interval) == pytest.approx(
        (math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half))
    )


def test_ranks_know_infinity_and_leave_out_the_unknown() -> None:
    assert rank_agreement([1, 2, math.inf], [0.1, 0.2, 0.3]).interval.estimate == 1.0
    assert rank_agreement([1, 2, 3, None, 4], [4, math.nan, 3, 9, 1]) == rank_agreement([1, 3, 4], [4, 3, 1])


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1]), ([1, 1, 1], [1, 2, 3])])
def test_ranks_that_cannot_agree_or_differ(first: list[float], second: list[float]) -> None:
    agreement = rank_agreement(first, second)
    assert (agreement.interval.estimate, agreement.p_value) == (None, None)
    assert agreement.reason is not None


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
