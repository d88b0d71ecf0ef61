"""What hastens onset: trend tests and hazard ratios, by the order in which the runs of each stratum collapse.

Runs of different strata are never compared. Durations and events are those of `survival`. Shape letters: E onsets,
N runs, C clusters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from collapselab.analysis.intervals import LEVEL, Effect, Floats, Interval, SignificanceTest
from collapselab.analysis.survival import Events, Labels, Values

# lifelines and scipy.optimize take long to import, so each function that needs one imports it.
MAX_ARRANGEMENTS = 5000
_MAX_LOG_RATIO = 30.0  # per standard deviation of the covariate; an interval's end beyond is unbounded
_NO_ORDER = "no onset while runs with different values were at risk in one stratum"


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
    share_N, variance = _shares(durations, events, scores, strata)
    if variance <= 0:
        return SignificanceTest(None, None, n, _NO_ORDER)
    total = float(share_N.sum())
    z = total / math.sqrt(variance)
    p_value = _exact_p_value(durations, events, scores, strata)
    if p_value is None:
        p_value = math.erfc(abs(z) / math.sqrt(2))
    if clusters is None:
        return SignificanceTest(z, p_value, n)
    between, num_clusters = _variance_between(share_N, clusters)
    if num_clusters < 2:
        return SignificanceTest(z, None, n, "one seed")
    if between > 0:
        from scipy.special import stdtr

        p_value = max(p_value, 2 * float(stdtr(num_clusters - 1, -abs(total) / math.sqrt(between))))
    return SignificanceTest(z, p_value, n)


def hazard_ratio(
    durations: Values,
    events: Events,
    covariate: Values,
    strata: Labels | None = None,
    clusters: Labels | None = None,
    level: float = LEVEL,
) -> Effect:
    """The hazard ratio of onset per unit of one covariate, by Firth's penalised partial likelihood (Efron's ties).

    The maximum of ℓ(β) = log L(β) + ½ log I(β), which exists also where the covariate predicts the order of onsets
    without exception and Cox's estimate is infinite. The interval is {β: 2 (ℓ_max − ℓ(β)) ≤ χ²} at its level, and the
    p-value that of 2 (ℓ_max − ℓ(0)). With `clusters` the interval is the wider and the p-value the larger of these and
    of what Student's t² V_between/V in place of χ² gives, where V_between is the variance of U as the clusters' shares
    vary (`log_rank_trend`). One cluster has neither.

    Unknown if no onset happens while runs with different values are at risk.

    Reference: Firth 1993; Heinze & Schemper 2001.
    """
    x_N = np.asarray(covariate, dtype=float)
    n, (share_N, variance) = len(x_N), _shares(durations, events, x_N, strata)
    if variance <= 0:
        return Effect(Interval(None, None, None, level, n), None, _NO_ORDER)
    from scipy import optimize
    from scipy.special import chdtrc, chdtri, stdtr, stdtrit

    scale = float(x_N.std())
    likelihood = _penalised_likelihood(durations, events, (x_N - x_N.mean()) / scale, strata)

    def loss(beta: float) -> float:
        return -likelihood(beta)

    bounds = (-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    best = cast(Any, optimize).minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    beta, top = float(best.x), -float(best.fun)
    drop, statistic = float(chdtri(1, 1 - level)), max(0.0, 2 * (top - likelihood(0.0)))
    p_value = float(chdtrc(1, statistic))
    if clusters is not None:
        between, num_clusters = _variance_between(share_N, clusters)
        if num_clusters < 2:
            return Effect(Interval(_exp(beta / scale), None, None, level, n), None, "one seed")
        freedom, inflation = num_clusters - 1, between / variance
        drop = max(drop, float(stdtrit(freedom, (1 + level) / 2)) ** 2 * inflation)
        if inflation > 0:
            p_value = max(p_value, 2 * float(stdtr(freedom, -math.sqrt(statistic / inflation))))
    ends = [_crossing(lambda b: 2 * (top - likelihood(b)) - drop, beta, bound) for bound in bounds]
    low, high = (None if end is None else _exp(end / scale) for end in ends)
    return Effect(Interval(_exp(beta / scale), low, high, level, n), p_value)


def _risk_sets(durations: Values, events: Events, strata: Labels | None) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """For each onset: which runs are at risk (EN), which have theirs at the same time (EN), and which one it is (E)."""
    duration_N, is_event_N = np.asarray(durations, dtype=float), np.asarray(events, dtype=bool)
    stratum_N = np.zeros(len(duration_N)) if strata is None else np.asarray(strata)
    event_E = np.flatnonzero(is_event_N)
    is_same_EN = stratum_N[event_E, None] == stratum_N
    at_risk_EN = is_same_EN & (duration_N >= duration_N[event_E, None])
    tied_EN = is_same_EN & is_event_N & (duration_N == duration_N[event_E, None])
    return at_risk_EN.astype(float), tied_EN.astype(float), event_E


def _shares(durations: Values, events: Events, scores: Values, strata: Labels | None) -> tuple[Floats, float]:
    """Each run's share of U (N), and V: see `log_rank_trend`."""
    at_risk_EN, tied_EN, event_E = _risk_sets(durations, events, strata)
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
    at_risk_EN, _, event_E = _risk_sets(durations, events, strata)
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


def _variance_between(share_N: Floats, clusters: Labels) -> tuple[float, int]:
    """The variance of U as the clusters' shares of it vary, and the number of clusters."""
    cluster_N = np.unique(np.asarray(clusters), return_inverse=True)[1]
    share_C = np.bincount(cluster_N, weights=share_N)
    num = len(share_C)
    return (float(share_C.var(ddof=1)) * num if num > 1 else 0.0), num


def _penalised_likelihood(
    durations: Values, events: Events, x_N: Floats, strata: Labels | None
) -> Callable[[float], float]:
    """log L(β) + ½ log I(β) as a function of β."""
    at_risk_EN, tied_EN, event_E = _risk_sets(durations, events, strata)
    # Efron: of d tied onsets the l-th (from 0) sees the tied ones with weight 1 − l/d.
    earlier_E = np.tril(tied_EN[:, event_E], -1).sum(axis=1)
    weight_EN = at_risk_EN - tied_EN * (earlier_E / tied_EN.sum(axis=1))[:, None]
    largest_E = np.where(at_risk_EN > 0, x_N, -np.inf).max(axis=1)
    smallest_E = np.where(at_risk_EN > 0, x_N, np.inf).min(axis=1)

    def value(beta: float) -> float:
        shift_E = beta * (largest_E if beta > 0 else smallest_E)
        term_EN = weight_EN * np.exp(np.minimum(beta * x_N - shift_E[:, None], 0.0))
        sum_E = term_EN.sum(axis=1)
        log_likelihood = float((beta * x_N[event_E] - shift_E - np.log(sum_E)).sum())
        mean_E: Floats = term_EN @ x_N / sum_E
        information = float((term_EN * (x_N - mean_E[:, None]) ** 2).sum(axis=1) @ (1 / sum_E))
        return log_likelihood + 0.5 * math.log(max(information, 1e-300))

    return value


def _exp(value: float) -> float | None:
    """The exponential; `None` beyond the largest number (per unit of a learning rate, say, not of its logarithm)."""
    with np.errstate(over="ignore"):
        result = float(np.exp(value))
    return result if math.isfinite(result) else None


def _crossing(function: Callable[[float], float], start: float, bound: float) -> float | None:
    """Where a function that is negative at `start` becomes positive on the way to `bound`; `None` if nowhere."""
    if function(bound) <= 0:
        return None
    from scipy import optimize

    return float(cast(Any, optimize).brentq(function, start, bound, xtol=1e-10))
