from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import sentence_bleu
from scipy.stats import entropy

from collapselab.metrics.diversity import (
    distinct_per_sample,
    distinct_pooled,
    ngram_entropy_nats,
    self_bleu,
    token_entropy_nats,
    unique_sequences,
)

samples_of_few_tokens = st.lists(st.lists(st.integers(0, 2), max_size=15), max_size=5)


def slow_bleu_4(sample: Sequence[int], references: Sequence[Sequence[int]]) -> float:
    """Papineni et al. 2002, pair by pair."""
    product = 1.0
    for n in (1, 2, 3, 4):
        grams = Counter(tuple(sample[k : k + n]) for k in range(len(sample) - n + 1))
        in_references = [Counter(tuple(r[k : k + n]) for k in range(len(r) - n + 1)) for r in references]
        clipped = sum(min(count, max(r[gram] for r in in_references)) for gram, count in grams.items())
        product *= clipped / sum(grams.values())
    nearest = min((abs(len(r) - len(sample)), len(r)) for r in references)[1]
    penalty = 1.0 if len(sample) >= nearest else math.exp(1 - nearest / len(sample))
    return penalty * product**0.25


def slow_self_bleu(samples: Sequence[Sequence[int]]) -> float | None:
    kept = [ids for ids in samples if len(ids) >= 4]
    if len(kept) < 2:
        return None
    return sum(slow_bleu_4(ids, kept[:k] + kept[k + 1 :]) for k, ids in enumerate(kept)) / len(kept)


def test_self_bleu_by_hand():
    # Each sample has precisions 4/5, 3/4, 2/3, 1/2 against the other, and no brevity penalty.
    assert self_bleu([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # The shorter one has precision 1 and penalty exp(1 - 5/4); the longer one 4/5, 3/4, 2/3, 1/2 and none.
    expected = (math.exp(1 - 5 / 4) + (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25) / 2
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5]]) == pytest.approx(expected)


@given(samples_of_few_tokens)
def test_self_bleu_equals_its_definition(samples: list[list[int]]):
    expected = slow_self_bleu(samples)
    assert self_bleu(samples) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@given(st.lists(st.integers(0, 2), min_size=4, max_size=20), st.integers(2, 4))
def test_equal_samples_have_self_bleu_1(ids: list[int], copies: int):
    assert self_bleu([ids] * copies) == pytest.approx(1)


def test_samples_without_a_common_4_gram_have_self_bleu_0():
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 5]]) == 0


@pytest.mark.parametrize("samples", [[], [[1, 2, 3, 4]], [[1, 2, 3, 4], [1, 2, 3]]])
def test_self_bleu_is_undefined_below_two_samples(samples: list[list[int]]):
    assert self_bleu(samples) is None


def test_distinct_by_hand():
    samples = [[1, 2, 3], [1, 2, 3], [1, 1, 1]]
    assert distinct_pooled(samples, 1) == 3 / 9
    assert distinct_per_sample(samples, 1) == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert distinct_pooled(samples, 2) == 3 / 6  # 12, 23, 11
    assert distinct_per_sample(samples, 2) == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_distinct_leaves_out_what_is_too_short():
    assert distinct_pooled([[1], [1, 2]], 2) == distinct_per_sample([[1], [1, 2]], 2) == 1


@given(samples_of_few_tokens, st.integers(1, 4))
def test_distinct_of_one_sample_is_the_same_both_ways(samples: list[list[int]], n: int):
    for ids in samples:
        assert distinct_pooled([ids], n) == distinct_per_sample([ids], n)
    values = [distinct_pooled(samples, n), distinct_per_sample(samples, n)]
    assert values == [None, None] or all(value is not None and 0 < value <= 1 for value in values)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=15), min_size=2, max_size=5))
def test_self_bleu_is_that_of_nltk(samples: list[list[int]]):
    def bleu(k: int) -> float:
        with warnings.catch_warnings():  # it warns where no n-gram is shared, which counts as nearly 0 there
            warnings.simplefilter("ignore")
            return float(sentence_bleu(samples[:k] + samples[k + 1 :], samples[k]))

    assert self_bleu(samples) == pytest.approx(sum(map(bleu, range(len(samples)))) / len(samples), abs=1e-9)


def test_entropy_by_hand():
    assert token_entropy_nats([[1, 1], [2, 3]]) == pytest.approx(1.5 * math.log(2))
    assert ngram_entropy_nats([[1, 1, 1], [1, 2, 2]], 2) == pytest.approx(1.5 * math.log(2))  # 11 twice, 12, 22
    assert ngram_entropy_nats([[1], [2]], 2) is None, "no bigram spans two samples"


@given(samples_of_few_tokens, st.integers(1, 3))
def test_entropy_is_that_of_scipy(samples: list[list[int]], n: int):
    grams = [tuple(ids[k : k + n]) for ids in samples for k in range(len(ids) - n + 1)]
    expected = entropy(list(Counter(grams).values())) if grams else None
    assert ngram_entropy_nats(samples, n) == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_unique_sequences_by_hand():
    assert unique_sequences([[1, 2], [1, 2], [1, 2, 3], [2, 1]]) == 3 / 4
    assert unique_sequences([[1]] * 5) == 1 / 5
    assert unique_sequences([[], [1]]) == 1
    assert unique_sequences([[1, 2]]) is unique_sequences([[], []]) is None
