"""Diversity over several samples: pure functions on token ids, `None` where undefined."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from collapselab.metrics.repetition import Ids, ngrams

_MAX_N = 4


def distinct_pooled(samples: Sequence[Ids], n: int) -> float | None:
    """The number of distinct n-grams of all samples together / the number of all their n-grams.

    Competing definitions: `distinct_per_sample`; the two differ several-fold, since n-grams that samples share count
    here as repeated. Falls as samples are added: compare equal numbers of equal lengths. Undefined without an n-gram.

    Reference: Li et al. 2016 (distinct-n).
    """
    grams = [gram for ids in samples for gram in ngrams(ids, n)]
    return len(set(grams)) / len(grams) if grams else None


def distinct_per_sample(samples: Sequence[Ids], n: int) -> float | None:
    """The mean over samples of distinct n-grams / n-grams: repetition inside samples, blind to equal samples.

    Competing definitions: `distinct_pooled`. Samples under n tokens are left out; undefined if none remains.
    """
    shares = [len(set(ngrams(ids, n))) / (len(ids) - n + 1) for ids in samples if len(ids) >= n]
    return sum(shares) / len(shares) if shares else None


def token_entropy_nats(samples: Sequence[Ids]) -> float | None:
    """The entropy of the tokens of all samples together: `ngram_entropy_nats` of single tokens.

    A template with open slots ("X is a Y.") lowers it, though hardly an n-gram of it is repeated.
    """
    return ngram_entropy_nats(samples, 1)


def ngram_entropy_nats(samples: Sequence[Ids], n: int) -> float | None:
    """The entropy of the n-grams of all samples together: -Σ p ln p over their shares p.

    Competing definitions: the conditional entropy of the n-th token, which is the difference of two of these. Biased
    downward by about (number of different n-grams - 1) / (2 · number of n-grams), that of bigrams in a short text by
    more than a nat: compare equal numbers of equal lengths. Undefined without an n-gram.

    Reference: Shannon 1948; Miller 1955 (the bias).
    """
    grams = (ids if n == 1 else ngrams(ids, n) for ids in samples)
    counts = Counter(gram for of_sample in grams for gram in of_sample)
    total = counts.total()
    return -sum(k / total * math.log(k / total) for k in counts.values()) if total else None


def unique_sequences(samples: Sequence[Ids]) -> float | None:
    """The share of samples that equal no earlier one; undefined for fewer than two, or if all are empty.

    Competing definitions: the share that equals no other one at all, which leaves out the first copy too.
    """
    if len(samples) < 2 or not any(samples):
        return None
    return len({tuple(ids) for ids in samples}) / len(samples)


def self_bleu(samples: Sequence[Ids]) -> float | None:
    """The mean BLEU-4 of each sample against all the others: 1 if they are equal, near 0 if they share no phrase.

    BLEU-4 = brevity penalty · (p_1 p_2 p_3 p_4)^(1/4), with p_n the clipped n-gram precision (an n-gram counts at most
    as often as in the reference that has it most often), and the penalty exp(1 - r/c) for a sample of c tokens below
    the nearest reference length r (the shorter one if two are equally near).
    Competing definitions: Texygen smooths zero precisions; here a sample without a common 4-gram scores 0, so that
    the value is exact. Grows with the number of samples. Samples under 4 tokens are left out; undefined below two.

    Reference: Papineni et al. 2002 (BLEU); Zhu et al. 2018 (self-BLEU).
    """
    kept = [ids for ids in samples if len(ids) >= _MAX_N]
    if len(kept) < 2:
        return None
    log_precision = [0.0] * len(kept)
    for n in range(1, _MAX_N + 1):
        for k, precision in enumerate(_clipped_precisions(kept, n)):
            log_precision[k] += (math.log(precision) if precision else -math.inf) / _MAX_N
    lengths = [len(ids) for ids in kept]
    scores = [_brevity_penalty(lengths, k) * math.exp(log_p) for k, log_p in enumerate(log_precision)]
    return sum(scores) / len(scores)


def _clipped_precisions(samples: Sequence[Ids], n: int) -> list[float]:
    counters = [Counter(ngrams(ids, n)) for ids in samples]
    # The two largest counts of each gram give the largest among the *other* samples, without comparing all pairs.
    largest: dict[tuple[int, ...], tuple[int, int]] = {}
    for counter in counters:
        for gram, count in counter.items():
            first, second = largest.get(gram, (0, 0))
            largest[gram] = (count, first) if count > first else (first, max(second, count))

    def in_others(gram: tuple[int, ...], count: int) -> int:
        first, second = largest[gram]
        return second if count == first else first

    return [
        sum(min(count, in_others(gram, count)) for gram, count in counter.items()) / counter.total()
        for counter in counters
    ]


def _brevity_penalty(lengths: Sequence[int], k: int) -> float:
    length = lengths[k]
    others = [*lengths[:k], *lengths[k + 1 :]]
    nearest = min(others, key=lambda other: (abs(other - length), other))
    return min(1.0, math.exp(1 - nearest / length))
