"""The hazard ratio of onset per unit of a covariate, by Firth's penalised likelihood.

Durations are those of `survival`; runs of different strata are never compared. Shape letters: E onsets, N runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from collapselab.analysis.intervals import LEVEL, Effect, Floats, Interval
from collapselab.analysis.survival import Events, Labels, Values
from collapselab.analysis.trend import NO_ORDER, risk_sets, shares_of_trend, variance_between

# scipy.optimize takes long to import, so each function that needs it imports it.
_MAX_LOG_RATIO = 30.0  # per standard deviation of the covariate; an interval's end beyond is unbounded


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
    n, (share_N, variance) = len(x_N), shares_of_trend(durations, events, x_N, strata)
    if variance <= 0:
        return Effect(Interval(None, None, None, level, n), None, NO_ORDER)
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
        between, num_clusters = variance_between(share_N, clusters)
        if num_clusters < 2:
            return Effect(Interval(_exp(beta / scale), None, None, level, n), None, "one seed")
        freedom, inflation = num_clusters - 1, between / variance
        drop = max(drop, float(stdtrit(freedom, (1 + level) / 2)) ** 2 * inflation)
        if inflation > 0:
            p_value = max(p_value, 2 * float(stdtr(freedom, -math.sqrt(statistic / inflation))))
    ends = [_crossing(lambda b: 2 * (top - likelihood(b)) - drop, beta, bound) for bound in bounds]
    low, high = (None if end is None else _exp(end / scale) for end in ends)
    return Effect(Interval(_exp(beta / scale), low, high, level, n), p_value)


def _penalised_likelihood(
    durations: Values, events: Events, x_N: Floats, strata: Labels | None
) -> Callable[[float], float]:
    """log L(β) + ½ log I(β) as a function of β."""
    at_risk_EN, tied_EN, event_E = risk_sets(durations, events, strata)
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
