"""Vocabulary metrics: by hand, against slow definitions, and against lexicalrichness, powerlaw and scipy."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lexicalrichness import LexicalRichness
from scipy.stats import linregress

from collapselab.metrics.lexical import heaps_exponent, mattr, mtld, zipf_least_squares, zipf_likelihood

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import powerlaw

samples_of_tokens = st.lists(st.lists(st.integers(0, 8), max_size=40), max_size=4)
long_samples = st.lists(st.integers(0, 30), min_size=50, max_size=200)


def as_text(ids: Sequence[int]) -> LexicalRichness:
    letters = "abcdefghijklmnopqrstuvwxyzABCDE"
    return LexicalRichness(" ".join(letters[token] for token in ids), preprocessor=None, tokenizer=str.split)


# --- MATTR


def test_mattr_by_hand():
    assert mattr([[1, 1, 2, 3]], window=3) == pytest.approx((2 / 3 + 1) / 2)
    assert mattr([[1, 1, 2, 3], [5, 5, 5], [1, 2]], window=3) == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)
    assert mattr([[1] * 49]) is None
    assert mattr([list(range(50))]) == 1


@given(samples_of_tokens, st.integers(1, 12))
def test_mattr_equals_its_definition(samples: list[list[int]], window: int):
    shares = [len(set(ids[k : k + window])) / window for ids in samples for k in range(len(ids) - window + 1)]
    assert mattr(samples, window) == (pytest.approx(sum(shares) / len(shares)) if shares else None)


@given(long_samples)
def test_mattr_is_that_of_lexicalrichness(ids: list[int]):
    assert mattr([ids]) == pytest.approx(as_text(ids).mattr(window_size=50))


# --- MTLD


def slow_mtld(ids: Sequence[int], bound: float = 0.72) -> float | None:
    def factors(way: Sequence[int]) -> float:
        number, begin = 0.0, 0
        for end in range(1, len(way) + 1):
            if len(set(way[begin:end])) / (end - begin) <= bound:
                number, begin = number + 1, end
        left = way[begin:]
        return number + ((1 - len(set(left)) / len(left)) / (1 - bound) if left else 0)

    both = [factors(ids), factors(ids[::-1])]
    return (len(ids) / both[0] + len(ids) / both[1]) / 2 if all(both) else None


def test_mtld_by_hand():
    # Forwards: 1 2 1 (ratio 2/3) ends a factor, then 2 is new: no part of one. Backwards: 2 1 2 ends one, 1 is left.
    assert mtld([[1, 2, 1, 2]]) == 4
    # 1 1 (ratio 1/2) ends a factor; 2 3 2 (2/3) another.
    assert mtld([[1, 1, 2, 3, 2]]) == pytest.approx((5 / 2 + 5 / 2) / 2)
    assert mtld([[5] * 10]) == 2
    assert mtld([list(range(100))]) is mtld([[]]) is mtld([]) is None


@given(samples_of_tokens)
def test_mtld_equals_its_definition(samples: list[list[int]]):
    values = [value for ids in samples if ids and (value := slow_mtld(ids)) is not None]
    assert mtld(samples) == (pytest.approx(sum(values) / len(values)) if values else None)


@given(long_samples)
def test_mtld_is_that_of_lexicalrichness(ids: list[int]):
    assert mtld([ids]) == pytest.approx(as_text(ids).mtld(threshold=0.72))


# --- Zipf and Heaps


def test_zipf_of_an_exact_law():
    counts = [round(100_000 / rank) for rank in range(1, 101)]
    ids = [token for token, count in enumerate(counts) for _ in range(count)]
    assert zipf_least_squares([ids]) == pytest.approx(1, abs=1e-3)
    assert zipf_least_squares([[1, 1, 2, 2]]) == 0
    assert zipf_least_squares([[1, 1]]) is zipf_least_squares([[]]) is None


@given(samples_of_tokens, st.integers(2, 5))
def test_zipf_least_squares_is_that_of_scipy(samples: list[list[int]], num_ranks: int):
    counts = sorted(Counter(token for ids in samples for token in ids).values(), reverse=True)[:num_ranks]
    if len(counts) < 2:
        assert zipf_least_squares(samples, num_ranks) is None
    else:
        fit = linregress(np.log(range(1, len(counts) + 1)), np.log(counts))
        assert zipf_least_squares(samples, num_ranks) == pytest.approx(-fit.slope, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(1.6, 2.8))
def test_zipf_likelihood_is_that_of_powerlaw(seed: int, alpha: float):
    counts = np.random.default_rng(seed).zipf(alpha, 60).clip(max=3000).tolist()
    found = zipf_likelihood([[token] * count for token, count in enumerate(counts)])
    if max(counts) == 1:
        assert found is None
        return
    assert found is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranges = {"alpha": [1.01, 60]}
        expected = powerlaw.Fit(counts, discrete=True, xmin=1, verbose=False, parameter_ranges=ranges).power_law.alpha
    ours = 1 + 1 / found
    assert ours == pytest.approx(expected, rel=2e-3)
    # Its search stops a little away from the maximum, so the likelihood decides.
    assert log_likelihood(ours, counts) >= log_likelihood(expected, counts) - 1e-9


def log_likelihood(alpha: float, counts: Sequence[int]) -> float:
    terms = np.arange(1, 200_001, dtype=float) ** -alpha
    zeta = terms.sum() + 200_000.5 ** (1 - alpha) / (alpha - 1)
    return -len(counts) * math.log(zeta) - alpha * sum(math.log(count) for count in counts)


def test_zipf_likelihood_is_undefined_for_singletons():
    assert zipf_likelihood([[1, 2, 3]]) is zipf_likelihood([[]]) is None


def test_heaps_by_hand():
    assert heaps_exponent([list(range(200))]) == pytest.approx(1)
    assert heaps_exponent([[7] * 200]) == 0
    assert heaps_exponent([[1]]) is None
    # Types 1, 2, 2 at 1, 2, 3 tokens; two samples are joined.
    fit = linregress(np.log([1, 2, 3]), np.log([1, 2, 2]))
    assert heaps_exponent([[1, 2], [1]]) == pytest.approx(fit.slope)


@given(samples_of_tokens)
def test_heaps_equals_its_definition(samples: list[list[int]]):
    joined = [token for ids in samples for token in ids]
    if len(joined) < 2:
        assert heaps_exponent(samples) is None
        return
    sizes = range(1, len(joined) + 1)
    fit = linregress(np.log(sizes), np.log([len(set(joined[:n])) for n in sizes]))
    assert heaps_exponent(samples) == pytest.approx(fit.slope, abs=1e-9)
