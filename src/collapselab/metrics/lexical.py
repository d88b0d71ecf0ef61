"""Vocabulary and its growth over several samples: pure functions on token ids, `None` where undefined."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from collapselab.metrics.repetition import Ids

MATTR_WINDOW = 50
MTLD_BOUND = 0.72
ZIPF_RANKS = 5000
_MAX_ALPHA = 50.0  # a steeper spectrum is one of singletons, to float64's accuracy


def mattr(samples: Sequence[Ids], window: int = MATTR_WINDOW) -> float | None:
    """The mean of distinct tokens / tokens over all windows of 50 tokens inside samples (moving-average TTR).

    Unlike the plain ratio it does not fall with length. Competing definitions: over one joined text, whose windows also
    span two samples. Samples shorter than a window are left out; undefined if none remains.

    Reference: Covington & McFall 2010.
    """
    total = num_windows = 0
    for ids in samples:
        if len(ids) < window:
            continue
        counts = Counter(ids[:window])
        total += len(counts)
        for i in range(window, len(ids)):
            counts[ids[i]] += 1
            left = ids[i - window]
            counts[left] -= 1
            if not counts[left]:
                del counts[left]
            total += len(counts)
        num_windows += len(ids) - window + 1
    return total / window / num_windows if num_windows else None


def mtld(samples: Sequence[Ids], bound: float = MTLD_BOUND) -> float | None:
    """The mean length of stretches whose distinct tokens / tokens stays above 0.72, averaged over samples.

    A stretch (factor) ends at the token that brings the ratio to the bound or below; the unfinished last one counts as
    (1 - its ratio) / (1 - bound). A sample's value is the mean of its tokens / factors, read forwards and backwards.
    Competing definitions: a stretch ends strictly below the bound (McCarthy's own tool); without a finished stretch or
    a repetition the value is undefined here, T in others. Unreliable under 100 tokens. Empty samples and those without
    any repetition are left out; undefined if none remains.

    Reference: McCarthy & Jarvis 2010.
    """
    values: list[float] = []
    for ids in samples:
        factors = [_mtld_factors(way, bound) for way in (ids, ids[::-1])]
        if ids and all(factors):
            values.append(sum(len(ids) / number for number in factors) / 2)
    return sum(values) / len(values) if values else None


def _mtld_factors(ids: Ids, bound: float) -> float:
    factors, length = 0.0, 0
    seen: set[int] = set()
    for token in ids:
        seen.add(token)
        length += 1
        if len(seen) <= bound * length:
            factors, length = factors + 1, 0
            seen.clear()
    return factors + (1 - len(seen) / length) / (1 - bound) if length else factors


def zipf_least_squares(samples: Sequence[Ids], num_ranks: int = ZIPF_RANKS) -> float | None:
    """The exponent s of frequency ~ rank^-s: minus the slope of ln frequency on ln rank, over the top 5000 ranks.

    Competing definitions: `zipf_likelihood`; least squares weighs each rank alike, so the many rare tokens decide,
    whose counts of 1 flatten the line in short text. Compare equal numbers of tokens. Undefined under two types.

    Reference: Zipf 1949; Piantadosi 2014 (what the fit hides).
    """
    counts = sorted(Counter(token for ids in samples for token in ids).values(), reverse=True)[:num_ranks]
    return None if len(counts) < 2 else -_slope(np.log(np.arange(1, len(counts) + 1)), np.log(counts))


def zipf_likelihood(samples: Sequence[Ids]) -> float | None:
    """The exponent s = 1 / (α - 1) by maximum likelihood: a token occurs k times with probability k^-α / ζ(α), k ≥ 1.

    Competing definitions: `zipf_least_squares`; a likelihood of ranks, which treats them as known beforehand; a fit of
    the tail alone (Clauset's minimum). Undefined without a token, and where every token occurs once (α is infinite).

    Reference: Clauset, Shalizi & Newman 2009, eq. 3.5; Mandelbrot 1953 (s from α).
    """
    counts = list(Counter(token for ids in samples for token in ids).values())
    if not counts or max(counts) == 1:
        return None
    from scipy import optimize, special  # the command line does not wait for scipy

    mean_log = float(np.mean(np.log(counts)))

    def loss(alpha: float) -> float:
        return math.log(float(special.zeta(alpha))) + alpha * mean_log

    bounds, options = (1 + 1e-6, _MAX_ALPHA), {"xatol": 1e-8}
    found = cast(Any, optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options=options))
    return 1 / (float(found.x) - 1)


def heaps_exponent(samples: Sequence[Ids]) -> float | None:
    """The exponent β of distinct tokens ~ tokens^β as the joined samples are read: the slope of ln types on ln tokens.

    All prefixes count alike. Competing definitions: prefixes at logarithmic distances, which weigh the beginning more;
    least squares without logarithms. Samples that repeat each other lower it. Undefined under two tokens.

    Reference: Heaps 1978; Herdan 1960.
    """
    joined = [token for ids in samples for token in ids]
    if len(joined) < 2:
        return None
    _, first = np.unique(np.asarray(joined), return_index=True)
    is_new = np.zeros(len(joined))
    is_new[first] = 1
    return _slope(np.log(np.arange(1, len(joined) + 1)), np.log(np.cumsum(is_new)))


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    centred = x - x.mean()
    return float(centred @ (y - y.mean()) / (centred @ centred))
