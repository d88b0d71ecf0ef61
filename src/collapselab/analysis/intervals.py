"""Estimates with intervals and tests: over seeds by leaving one out, bootstrap, shares; and Holm's correction.

Unknown is `None`: one seed has an estimate and no interval. docs/statistics.md says what each is used for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collapselab.metrics.shares import clopper_pearson

# scipy.stats takes half a second to import, so each function that needs it imports it.
LEVEL = 0.95
NUM_RESAMPLES = 2000
_MAX_END = 700.0  # the exponential of more is no number

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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


@dataclass(frozen=True)
class Estimate:
    """An estimate from n runs and its standard error, with the degrees of freedom of Student's t; unknown: `None`."""

    value: float | None
    error: float | None
    freedom: int
    n: int

    def interval(self, shown: Callable[[float], float] = float, level: float = LEVEL) -> Interval:
        """The t-interval; `shown` takes the estimate to the scale that is shown, `math.exp` from logarithms."""
        if self.value is None or not math.isfinite(self.value):
            return Interval(None, None, None, level, self.n)
        if self.error is None:
            return Interval(shown(self.value), None, None, level, self.n)
        from scipy.special import stdtrit

        half_width = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        ends = [min(max(self.value + sign * half_width, -_MAX_END), _MAX_END) for sign in (-1, 1)]
        return Interval(shown(self.value), shown(ends[0]), shown(ends[1]), level, self.n)

    def p_value(self, expected: float) -> float | None:
        """The two-sided p-value of the t-test against an expected value."""
        if self.value is None or self.error is None:
            return None
        from scipy.special import stdtr

        return 2 * float(stdtr(self.freedom, -abs(self.value - expected) / self.error))


def over_seeds(estimate: Callable[[Bools], float | None], seeds: Sequence[int] | NDArray[np.int_]) -> Estimate:
    """An estimate from all runs, with its error from leaving out each seed in turn (delete-one jackknife).

    `estimate` gets a mask of the runs to use. The variance is (S − 1)/S Σ (θ₋ₛ − mean)², with S − 1 degrees of freedom.
    Where each seed has each arm and the estimate is the mean of the seeds' own, that is the t-test over seeds. One seed
    has no error; nor have estimates that are all equal, which say nothing of their spread.

    Reference: Quenouille 1956; Efron & Stein 1981.
    """
    seed_N = np.asarray(seeds)
    n, labels = len(seed_N), np.unique(seed_N)
    value = estimate(np.ones(n, dtype=bool)) if n else None
    if value is None or len(labels) < 2:
        return Estimate(value, None, 0, n)
    without = [estimate(seed_N != label) for label in labels]
    known = np.array([other for other in without if other is not None], dtype=np.float64)
    if len(known) < len(labels):
        return Estimate(value, None, 0, n)
    error = math.sqrt((len(labels) - 1) * float(known.var()))
    return Estimate(value, error if error > 1e-12 * max(1.0, abs(value)) else None, len(labels) - 1, n)


def arm_mean(
    values: Floats, arms: Sequence[Any] | NDArray[Any], seeds: Sequence[int] | NDArray[np.int_]
) -> tuple[Estimate, Bools]:
    """The mean of the arms' means, over seeds, and which runs are used: an arm of one seed is left out.

    So a seed without some arm does not move the mean by that arm's level. With one seed in all, each run is used.
    """
    arm_N, seed_N = np.unique(np.asarray(arms), return_inverse=True)[1], np.asarray(seeds)
    pairs = np.unique(np.column_stack([arm_N, seed_N]), axis=0)
    num_seeds = np.bincount(pairs[:, 0]) if len(pairs) else np.zeros(0, dtype=int)
    used = num_seeds[arm_N] > 1 if len(np.unique(seed_N)) > 1 else np.ones(len(arm_N), dtype=bool)
    value_N, arm_N, seed_N = values[used], arm_N[used], seed_N[used]

    def mean(mask: Bools) -> float:
        counts = np.bincount(arm_N[mask])
        sums = np.bincount(arm_N[mask], weights=value_N[mask])
        return float((sums[counts > 0] / counts[counts > 0]).mean())

    return over_seeds(mean, seed_N), used


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


def share_test(num_hits: int, n: int, expected: float, *, is_more: bool) -> float | None:
    """The exact binomial p-value that more (or fewer) than the expected share are hits, doubled; `None` for none."""
    if n == 0:
        return None
    from scipy.special import bdtr, bdtrc

    tail = 1.0 if num_hits == 0 else float(bdtrc(num_hits - 1, n, expected))
    return min(1.0, 2 * (tail if is_more else float(bdtr(num_hits, n, expected))))


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


def _known(values: Iterable[float | None]) -> Floats:
    array = np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    return array[~np.isnan(array)]


def in_figures(value: float, *, signed: bool = False) -> str:
    """A number to three significant digits, as it is written everywhere: 0.0123, −1.25, 2e-5."""
    mantissa, _, exponent = f"{value:{'+' if signed else ''}.3g}".partition("e")
    return mantissa.replace("-", "−") + (f"e{int(exponent)}" if exponent else "")
