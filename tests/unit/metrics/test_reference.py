"""Samples against a reference text, by hand and against slow definitions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapselab.metrics.reference import (
    BINS,
    Reference,
    lost_types,
    mass_ratio,
    missing_mass,
    ngram_keys,
    novelty,
    vocabulary_coverage,
)

VOCABULARY = 12_000
# Token 0 is the most frequent one; 10,050 tokens occur, 0 to 99 twice and more.
COUNTS = {token: 300 - token if token < 100 else 1 for token in range(10_050)}
REFERENCE = Reference.of([token for token, count in COUNTS.items() for _ in range(count)], VOCABULARY)
few_tokens = st.lists(st.integers(0, 3), max_size=30)


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (0, "1_100"),
        (99, "1_100"),
        (100, "101_1k"),
        (999, "101_1k"),
        (1000, "1k_10k"),
        (9999, "1k_10k"),
        (10000, "over_10k"),
        (10049, "over_10k"),
        (10050, "over_10k"),
        (11999, "over_10k"),
        (50000, "over_10k"),
    ],
)
def test_the_bin_of_a_token_is_that_of_its_rank(token: int, name: str):
    assert list(BINS)[REFERENCE.bins(np.array([token]))[0]] == name


def test_absent_tokens_are_in_the_last_bin_whatever_their_rank():
    reference = Reference.of([3, 3, 1], 5)
    assert reference.bins(np.arange(5)).tolist() == [3, 0, 3, 0, 3]


def test_mass_by_hand():
    total = sum(COUNTS.values())
    common = sum(COUNTS[token] for token in range(100))
    samples = [[0, 1, 2], [100]]
    assert mass_ratio(samples, REFERENCE, "1_100") == pytest.approx(3 / 4 / (common / total))
    assert mass_ratio(samples, REFERENCE, "101_1k") == pytest.approx(1 / 4 / (900 / total))
    assert mass_ratio(samples, REFERENCE, "over_10k") == 0
    assert mass_ratio([[], []], REFERENCE, "1_100") is None
    assert mass_ratio(samples, Reference.of([0, 1], 5), "over_10k") is None, "the reference has none"


@pytest.mark.parametrize("name", BINS)
def test_the_reference_itself_has_mass_1(name: str):
    assert mass_ratio([REFERENCE.ids.tolist()], REFERENCE, name) == pytest.approx(1)


def test_coverage_and_lost_types_by_hand():
    reference = Reference.of([1, 1, 2, 3, 4], 9)
    assert vocabulary_coverage([[1, 1], [2, 8]], reference) == 2 / 4
    assert vocabulary_coverage([[]], reference) is vocabulary_coverage([[1]], Reference.of([], 9)) is None
    assert lost_types([[1, 2], [7]], [[1, 3], [3, 4]]) == 2 / 3
    assert lost_types([[1]], []) is lost_types([[]], [[1]]) is None


def test_missing_mass_by_hand():
    assert missing_mass([[1, 1, 2], [3]]) == 2 / 4
    assert missing_mass([[5] * 10]) == 0
    assert missing_mass([list(range(9))]) == 1
    assert missing_mass([[]]) is None


def test_missing_mass_estimates_what_was_not_seen():
    """2,000 draws from 1 / rank over 5,000 tokens; the seed is fixed. Robbins: standard error below 1 / √n = 0.022."""
    p = 1 / np.arange(1, 5001)
    p /= p.sum()
    ids = np.random.default_rng(0).choice(5000, 2000, p=p)
    unseen = 1 - p[np.unique(ids)].sum()
    assert missing_mass([ids.tolist()]) == pytest.approx(unseen, abs=0.05)


@given(few_tokens, st.lists(few_tokens, max_size=3), st.integers(1, 8))
def test_novelty_equals_its_definition(text: list[int], samples: list[list[int]], n: int):
    known = {tuple(text[k : k + n]) for k in range(len(text) - n + 1)}
    grams = [tuple(ids[k : k + n]) for ids in samples for k in range(len(ids) - n + 1)]
    expected = sum(gram not in known for gram in grams) / len(grams) if grams else None
    assert novelty(samples, Reference.of(text, 4), n) == (None if expected is None else pytest.approx(expected))


def test_keys_of_different_n_grams_differ():
    """Every sequence of 4 of 20 tokens: by chance two of 160,000 keys agree with probability 7e-10."""
    ids = np.array(np.meshgrid(*[np.arange(20)] * 4)).reshape(4, -1).T.ravel()
    keys = ngram_keys(ids, 4)[::4]
    assert len(np.unique(keys)) == 20**4
    assert max(Counter((keys >> np.uint64(60)).tolist()).values()) < 1.05 * 20**4 / 16, "the high bits are even too"
