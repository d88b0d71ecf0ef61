"""Estimates with intervals and tests over seeds: means, paired differences, shares, ranks. `survival` has onset.

Unknown is `None`: one seed has an estimate and no interval. docs/statistics.md says what each is used for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from collapselab.metrics.shares import clopper_pearson

# scipy.stats takes half a second to import, so each function that needs it imports it.
LEVEL = 0.95
NUM_RESAMPLES = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate from n values, and the ends of its interval; an end that is unknown or unbounded is `None`."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    n: int


@dataclass(frozen=True)
class SignificanceTest:
    """A test statistic and its two-sided p-value from n values; `reason` says why they are unknown."""

    statistic: float | None
    p_value: float | None
    n: int
    reason: str | None = None


@dataclass(frozen=True)
class Effect:
    """An effect with its interval and the p-value of no effect; `reason` says why something is unknown."""

    interval: Interval
    p_value: float | None
    reason: str | None = None


def mean_interval(values: Iterable[float | None], level: float = LEVEL) -> Interval:
    """The mean with Student's t-interval, m ± t s/√n with n − 1 degrees of freedom.

    Unknown values (`None`, NaN) are left out. One value has no interval; nor have values that are all equal, which
    say nothing of their spread, nor values of which one is infinite.
    """
    known = _known(values)
    n = len(known)
    if n == 0 or not np.isfinite(known).all():
        # inf and -inf have no mean.
        signs = set(known[np.isinf(known)])
        return Interval(signs.pop() if len(signs) == 1 else None, None, None, level, n)
    mean = float(known.mean())
    if n == 1 or np.ptp(known) == 0:
        return Interval(mean, None, None, level, n)
    from scipy.special import stdtrit

    half_width = float(stdtrit(n - 1, (1 + level) / 2) * known.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, level, n)


def mean_test(values: Iterable[float | None], expected: float) -> SignificanceTest:
    """Student's t-test of the mean against an expected value; unknown where `mean_interval` has no interval."""
    known = _known(values)
    interval = mean_interval(known)
    if interval.low is None or interval.estimate is None:
        return SignificanceTest(None, None, len(known), "fewer than two different finite values")
    from scipy.special import stdtr

    n = len(known)
    statistic = (interval.estimate - expected) / (float(known.std(ddof=1)) / math.sqrt(n))
    return SignificanceTest(statistic, 2 * float(stdtr(n - 1, -abs(statistic))), n)


def bootstrap_interval(
    values: Iterable[float | None],
    statistic: Callable[[Floats], Floats],
    generator: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """A statistic with the percentile interval of resamples of the values; for medians.

    Args:
        values: unknown ones are left out; one value has no interval.
        statistic: reduces the last axis, for example `partial(np.median, axis=-1)`.
        generator: draws the resamples.
        num_resamples: their number.
        level: share of repetitions in which the interval holds the true value.

    With fewer than about ten values the interval is too narrow.

    Reference: Efron 1979.
    """
    known = _known(values)
    n = len(known)
    if n == 0:
        return Interval(None, None, None, level, n)
    estimate = float(statistic(known))
    if n == 1:
        return Interval(estimate, None, None, level, n)
    resamples = statistic(known[generator.integers(0, n, (num_resamples, n))])
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, n)


def share_interval(num_hits: int, n: int, level: float = LEVEL) -> Interval:
    """The share num_hits/n with the exact interval of the binomial distribution; known for one value too.

    Reference: Clopper & Pearson 1934.
    """
    ends = clopper_pearson(num_hits, n, level)
    return Interval(None, None, None, level, n) if ends is None else Interval(num_hits / n, *ends, level, n)


def rank_agreement(first: Sequence[float | None], second: Sequence[float | None], level: float = LEVEL) -> Effect:
    """Kendall's τ_b between two values of each item: +1 the same order, −1 the opposite one, with its p-value.

    The p-value is exact for few items without ties. The interval is approximate, tanh(artanh τ ± z √(.437/(n − 4))),
    and unknown under five items and for |τ| = 1. Items with an unknown value are left out. τ is unknown under two
    items, and where one side is all ties.

    Reference: Kendall 1938; Fieller, Hartley & Pearson 1957.
    """
    pairs = [(_number(a), _number(b)) for a, b in zip(first, second, strict=True)]
    pairs = [(a, b) for a, b in pairs if not math.isnan(a) and not math.isnan(b)]
    n, sides = len(pairs), list(zip(*pairs, strict=True))
    if n < 2 or any(len(set(side)) == 1 for side in sides):
        return Effect(Interval(None, None, None, level, n), None, "fewer than two different values on a side")
    from scipy import stats
    from scipy.special import ndtri

    # Ranks, since an infinite loss is a value too.
    result = cast(Any, stats).kendalltau(*(cast(Any, stats).rankdata(side) for side in sides))
    # Perfect order comes out as .9999999999999999.
    tau, p_value = round(float(result.statistic), 12), float(result.pvalue)
    if n < 5 or abs(tau) == 1:
        return Effect(Interval(tau, None, None, level, n), p_value, "no interval under five items or in perfect order")
    half_width = float(ndtri((1 + level) / 2)) * math.sqrt(0.437 / (n - 4))
    low, high = (math.tanh(math.atanh(tau) + sign * half_width) for sign in (-1, 1))
    return Effect(Interval(tau, low, high, level, n), p_value)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """p-values adjusted for the number of tests that have one; below α, the family-wise error is below α.

    The i-th smallest of m is multiplied by m − i + 1, and is no smaller than the one before.

    Reference: Holm 1979.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p_value, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p_value))
        adjusted[index] = largest
    return tuple(adjusted)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _known(values: Iterable[float | None]) -> Floats:
    array = np.array([_number(value) for value in values], dtype=np.float64)
    return array[~np.isnan(array)]
