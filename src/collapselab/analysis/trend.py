"""Do runs with higher scores collapse sooner? The log-rank test for trend, within strata, seeds as clusters.

Runs of different strata are never compared. Durations and events are those of `survival`. Shape letters: E onsets,
N runs, C clusters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from collapselab.analysis.intervals import Floats, SignificanceTest
from collapselab.analysis.survival import Events, Labels, Values

MAX_ARRANGEMENTS = 100_000
NO_ORDER = "no onset while runs with different values were at risk in one stratum"


def log_rank_trend(
    durations: Values, events: Events, scores: Values, strata: Labels | None = None, clusters: Labels | None = None
) -> SignificanceTest:
    """The log-rank test for trend: do runs with higher scores collapse sooner? With two scores, the log-rank test.

    U sums, over onsets, the score of the run that collapses minus the mean score of the runs at risk in its stratum.
    The statistic is z = U/√V with the hypergeometric variance V; it is positive if higher scores come first. The
    p-value is that of z, or with few runs the exact one: the share of all ways to deal out the scores within the strata
    that give a U as large. (With three runs against three, 5 % of the log-rank test are 11 % in truth.)

    Runs of one cluster (a seed) may resemble each other, which neither knows. With `clusters` the p-value is the larger
    one of it and of the t-test that the clusters' shares of U have mean 0. One cluster has none.

    Reference: Tarone 1975; Lin & Wei 1989 for the shares.
    """
    n = len(durations)
    share_N, variance = shares_of_trend(durations, events, scores, strata)
    if variance <= 0:
        return SignificanceTest(None, None, n, NO_ORDER)
    total = float(share_N.sum())
    z = total / math.sqrt(variance)
    p_value = _exact_p_value(durations, events, scores, strata)
    if p_value is None:
        p_value = math.erfc(abs(z) / math.sqrt(2))
    if clusters is None:
        return SignificanceTest(z, p_value, n)
    between, num_clusters = variance_between(share_N, clusters)
    if num_clusters < 2:
        return SignificanceTest(z, None, n, "one seed")
    if between > 0:
        from scipy.special import stdtr

        p_value = max(p_value, 2 * float(stdtr(num_clusters - 1, -abs(total) / math.sqrt(between))))
    return SignificanceTest(z, p_value, n)


def risk_sets(durations: Values, events: Events, strata: Labels | None) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """For each onset: which runs are at risk (EN), which have theirs at the same time (EN), and which one it is (E)."""
    duration_N, is_event_N = np.asarray(durations, dtype=float), np.asarray(events, dtype=bool)
    stratum_N = np.zeros(len(duration_N)) if strata is None else np.asarray(strata)
    event_E = np.flatnonzero(is_event_N)
    is_same_EN = stratum_N[event_E, None] == stratum_N
    at_risk_EN = is_same_EN & (duration_N >= duration_N[event_E, None])
    tied_EN = is_same_EN & is_event_N & (duration_N == duration_N[event_E, None])
    return at_risk_EN.astype(float), tied_EN.astype(float), event_E


def shares_of_trend(durations: Values, events: Events, scores: Values, strata: Labels | None) -> tuple[Floats, float]:
    """Each run's share of U (N), and V: see `log_rank_trend`."""
    at_risk_EN, tied_EN, event_E = risk_sets(durations, events, strata)
    x_N, num_E, num_tied_E = np.asarray(scores, dtype=float), at_risk_EN.sum(axis=1), tied_EN.sum(axis=1)
    excess_EN = at_risk_EN * (x_N - (at_risk_EN @ x_N / num_E)[:, None])
    share_N = -(excess_EN / num_E[:, None]).sum(axis=0)
    share_N[event_E] += excess_EN[np.arange(len(event_E)), event_E]
    # d of n runs collapse at once: drawn without replacement.
    shrink_E = (num_E - num_tied_E) / np.maximum(num_E - 1, 1)
    variance = float(((excess_EN**2).sum(axis=1) / num_E * shrink_E).sum())
    # Equal scores may leave a rounding error.
    return share_N, variance if variance > 1e-12 * float((x_N**2).sum()) else 0.0


def _exact_p_value(durations: Values, events: Events, scores: Values, strata: Labels | None) -> float | None:
    """The share of arrangements of the scores within the strata with a |U| as large; `None` if there are too many."""
    at_risk_EN, _, event_E = risk_sets(durations, events, strata)
    x_N = np.asarray(scores, dtype=float)
    # U is the sum of score times weight: 1 for an onset, less the runs' expected number of onsets.
    weight_N = -(at_risk_EN / at_risk_EN.sum(axis=1, keepdims=True)).sum(axis=0)
    weight_N[event_E] += 1
    stratum_N = (
        np.zeros(len(x_N), dtype=int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    )
    members = [np.flatnonzero(stratum_N == stratum) for stratum in range(stratum_N.max() + 1)]
    values = [np.unique(x_N[member], return_counts=True) for member in members]
    num_arrangements = math.prod(
        math.factorial(int(counts.sum())) // math.prod(math.factorial(count) for count in counts.tolist())
        for _, counts in values
    )
    if num_arrangements > MAX_ARRANGEMENTS:
        return None
    totals = np.zeros(1)
    for member, (value, counts) in zip(members, values, strict=True):
        sums = list(_arranged_sums(weight_N[member].tolist(), value.tolist(), counts.tolist()))
        totals = np.add.outer(totals, np.array(sums)).ravel()
    observed = abs(float(weight_N @ x_N))
    return float((np.abs(totals) >= observed * (1 - 1e-9)).mean())


def _arranged_sums(weights: list[float], values: list[float], counts: list[int]) -> Iterator[float]:
    """Σ weight · value of every way to give each value to so many of the weights."""
    if len(values) == 1:
        yield values[0] * sum(weights)
        return
    for chosen in itertools.combinations(range(len(weights)), counts[0]):
        rest = [weight for i, weight in enumerate(weights) if i not in chosen]
        first = values[0] * sum(weights[i] for i in chosen)
        yield from (first + others for others in _arranged_sums(rest, values[1:], counts[1:]))


def variance_between(share_N: Floats, clusters: Labels) -> tuple[float, int]:
    """The variance of U as the clusters' shares of it vary, and the number of clusters."""
    cluster_N = np.unique(np.asarray(clusters), return_inverse=True)[1]
    share_C = np.bincount(cluster_N, weights=share_N)
    num = len(share_C)
    return (float(share_C.var(ddof=1)) * num if num > 1 else 0.0), num
