"""Time ratios: by which factor onset comes sooner or later per unit of a covariate (accelerated failure time).

log time = a constant of the stratum + β · covariate + normal error; censored runs are known to last longer. Shape
letters: N runs, P columns of the design, K models.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from collapselab.analysis.intervals import Bools, Estimate, Floats, over_seeds
from collapselab.analysis.survival import Events, Labels, Values

MAX_ROUNDS = 5000
MIN_MODELS = 5  # of different sizes taken together: fewer leave a claim on size undecided
_TOLERANCE = 1e-9


def censored_fit(value_N: Floats, is_event_N: Bools, design_NP: Floats) -> Floats | None:
    """The coefficients (P) of a linear model with normal errors, of which some values are known to be larger.

    The largest likelihood, by expectation and maximisation; least squares where nothing is censored. Where columns are
    dependent, the shortest of the solutions. `None` if there is no finite maximum: all runs with some value of a
    covariate are censored, and no other values say how far it goes.

    Reference: Tobin 1958; Aitkin 1981.
    """
    inverse_PN = np.linalg.pinv(design_NP)
    beta_P = inverse_PN @ value_N
    if is_event_N.all():
        return beta_P
    from scipy.special import log_ndtr

    censored = ~is_event_N
    variance = max(float(((value_N - design_NP @ beta_P) ** 2).mean()), 1e-12)
    for _ in range(MAX_ROUNDS):
        mean_N, sigma = design_NP @ beta_P, math.sqrt(variance)
        z = (value_N[censored] - mean_N[censored]) / sigma
        hazard = np.exp(-(z**2) / 2 - math.log(2 * math.pi) / 2 - log_ndtr(-z))
        expected_N = value_N.copy()
        expected_N[censored] = mean_N[censored] + sigma * hazard
        last_P, beta_P = beta_P, inverse_PN @ expected_N
        spread = variance * float((1 + z * hazard - hazard**2).sum())
        variance = max((float(((expected_N - design_NP @ beta_P) ** 2).sum()) + spread) / len(value_N), 1e-12)
        if float(np.abs(beta_P - last_P).max()) < _TOLERANCE:
            return beta_P
    return None


def log_time_ratio(times: Values, events: Events, covariate: Values, strata: Labels, seeds: Labels) -> Estimate:
    """The logarithm of the time ratio per unit of a covariate, seeds as clusters (`over_seeds`)."""
    time_N, is_event_N, x_N = np.log(np.asarray(times, float)), np.asarray(events, bool), np.asarray(covariate, float)
    stratum_N = np.unique(np.asarray(strata), return_inverse=True)[1]

    def slope(mask: Bools) -> float | None:
        known = mask & _has_event(stratum_N, is_event_N & mask)
        dummies = _indicators(stratum_N[known])
        if np.linalg.matrix_rank(np.column_stack([dummies, x_N[known]])) <= dummies.shape[1]:
            return None
        fitted = censored_fit(time_N[known], is_event_N[known], np.column_stack([x_N[known], dummies]))
        return None if fitted is None else float(fitted[0])

    return over_seeds(slope, np.asarray(seeds))


def log_time_ratio_of_models(
    times: Values, events: Events, size: Values, models: Labels, strata: Labels
) -> tuple[Estimate, int]:
    """The logarithm of the time ratio per unit of a model's size, models as units; and the number of models.

    The models' effects on log time, strata held equal, and a line through them: its error has K − 2 degrees of freedom.
    Models that no chain of shared strata links have no effects in common, so that each group of linked models has a
    constant of its own, which takes one more.
    """
    time_N, is_event_N = np.log(np.asarray(times, float)), np.asarray(events, bool)
    stratum_N = np.unique(np.asarray(strata), return_inverse=True)[1]
    known = _has_event(stratum_N, is_event_N)
    names, model_N = np.unique(np.asarray(models)[known], return_inverse=True)
    stratum_N, num = np.unique(stratum_N[known], return_inverse=True)[1], len(names)
    unknown = Estimate(None, None, 0, len(model_N)), num
    if num < 2:
        return unknown
    fitted = censored_fit(
        time_N[known], is_event_N[known], np.column_stack([_indicators(model_N), _indicators(stratum_N)])
    )
    if fitted is None:
        return unknown
    effect_K = fitted[:num]
    size_K = np.array([np.asarray(size, float)[known][model_N == k][0] for k in range(num)])
    design = np.column_stack([size_K, _indicators(_linked(model_N, stratum_N, num))])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return unknown
    beta = np.linalg.pinv(design) @ effect_K
    freedom = num - design.shape[1]
    if freedom < 1:
        return Estimate(float(beta[0]), None, 0, len(model_N)), num
    residual = float(((effect_K - design @ beta) ** 2).sum()) / freedom
    error = math.sqrt(residual * float(np.linalg.inv(design.T @ design)[0, 0]))
    return Estimate(float(beta[0]), error if error > _TOLERANCE else None, freedom, len(model_N)), num


def _has_event(stratum_N: NDArray[np.intp], is_event_N: Bools) -> Bools:
    """Which runs are in a stratum in which any run collapses; the others say nothing of ratios."""
    return np.isin(stratum_N, stratum_N[is_event_N])


def _indicators(label_N: NDArray[np.intp]) -> Floats:
    return (label_N[:, None] == np.unique(label_N)).astype(float)


def _linked(model_N: NDArray[np.intp], stratum_N: NDArray[np.intp], num: int) -> NDArray[np.intp]:
    """The group (K) of each model: models of one stratum are in one group."""
    group_K = np.arange(num)
    for stratum in np.unique(stratum_N):
        members = np.unique(group_K[model_N[stratum_N == stratum]])
        group_K[np.isin(group_K, members)] = members[0]
    return group_K
