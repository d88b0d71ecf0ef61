"""Samples against a reference text: rare tokens, vocabulary, phrases. Pure functions, `None` where undefined.

Tokens fall into four bins by how frequent they are in the reference text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from collapselab.metrics.repetition import Ids

Keys = NDArray[np.uint64]

# Names of the bins, and the last rank of each; a token that the reference lacks belongs to the last bin.
BINS: dict[str, int | None] = {"1_100": 100, "101_1k": 1000, "1k_10k": 10_000, "over_10k": None}
# The same in words.
RANKS = dict(zip(BINS, ("1 to 100", "101 to 1,000", "1,001 to 10,000", "over 10,000 or absent"), strict=True))
NOVELTY_N = (4, 5, 6, 7, 8)


@dataclass(frozen=True, eq=False)
class Reference:
    """A text that samples are compared with, as token ids.

    `counts_V`: how often it has each token of the vocabulary. `bin_V`: the bin of each token, a place in `BINS`;
    equally frequent tokens are ranked by id.
    """

    ids: NDArray[np.int64]
    counts_V: NDArray[np.int64]
    bin_V: NDArray[np.int64]
    _keys: dict[int, Keys] = field(default_factory=dict[int, Keys])

    @classmethod
    def of(cls, ids: Ids, vocab_size: int) -> Reference:
        """The reference of a text's ids, each below `vocab_size`."""
        counts_V = np.bincount(np.asarray(ids, np.int64), minlength=vocab_size)
        rank_V = np.empty(len(counts_V), np.int64)
        rank_V[np.argsort(-counts_V, kind="stable")] = np.arange(1, len(counts_V) + 1)
        bounds = [last for last in BINS.values() if last is not None]
        bin_V = np.where(counts_V > 0, np.searchsorted(bounds, rank_V), len(bounds))
        return cls(np.asarray(ids, np.int64), counts_V, bin_V)

    def bins(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bin of each id; one beyond the vocabulary is as rare as can be."""
        last = len(self.bin_V) - 1
        return np.where(ids > last, len(BINS) - 1, self.bin_V[np.minimum(ids, last)])

    def has(self, keys: Keys, n: int) -> NDArray[np.bool_]:
        """Whether the text has the n-grams of these keys (`ngram_keys`)."""
        if n not in self._keys:
            self._keys[n] = np.unique(ngram_keys(self.ids, n))
        known = self._keys[n]
        if not len(known):
            return np.zeros(len(keys), np.bool_)
        places = np.searchsorted(known, keys).clip(max=len(known) - 1)
        return known[places] == keys


def ngram_keys(ids: NDArray[np.int64], n: int) -> Keys:
    """A key of 64 bits for each n-gram, in order; two different n-grams share one with a probability near 2^-64.

    Reference: Steele et al. 2014 (the mixing function, SplitMix64).
    """
    length = max(0, len(ids) - n + 1)
    keys = np.zeros(length, np.uint64)
    for k in range(n):
        keys = (keys ^ ids[k : k + length].astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys = keys ^ (keys >> np.uint64(31))
    return keys


def mass_ratio(samples: Sequence[Ids], reference: Reference, name: str) -> float | None:
    """The share of the samples' tokens in a bin of frequency / the share of the reference's.

    1 for text that is like the reference; near 0 in the last bins once the tail is lost. Competing definitions: the
    model's probability of the bin under real contexts, which needs a forward pass. Undefined without a token, and where
    the reference has none in the bin.

    Reference: Shumailov et al. 2024 (tails vanish first); the bins are this project's.
    """
    joined = _joined(samples)
    place = list(BINS).index(name)
    of_reference = int(reference.counts_V[reference.bin_V == place].sum())
    if not len(joined) or not of_reference:
        return None
    share = np.count_nonzero(reference.bins(joined) == place) / len(joined)
    return share / (of_reference / len(reference.ids))


def vocabulary_coverage(samples: Sequence[Ids], reference: Reference) -> float | None:
    """The share of the reference's different tokens that the samples have.

    Competing definitions: weighted by frequency, which hides the tail. Grows with the number of tokens: compare equal
    numbers. Undefined for an empty reference, and without a token.
    """
    types = np.flatnonzero(reference.counts_V)
    joined = _joined(samples)
    return float(np.mean(np.isin(types, joined))) if len(types) and len(joined) else None


def lost_types(samples: Sequence[Ids], start: Sequence[Ids]) -> float | None:
    """The share of the different tokens in the untouched model's samples that these samples lack.

    Chance alone loses many: compare with the run's first values. Undefined where the untouched model wrote nothing, and
    without a token.
    """
    before = {token for ids in start for token in ids}
    now = {token for ids in samples for token in ids}
    return len(before - now) / len(before) if before and now else None


def missing_mass(samples: Sequence[Ids]) -> float | None:
    """The probability of tokens not yet seen, as Good and Turing estimate it: tokens that occur once / tokens.

    Falls as the tail is lost; grows again in noise. Depends on the number of tokens. Undefined without a token.

    Reference: Good 1953.
    """
    counts = Counter(token for ids in samples for token in ids)
    total = counts.total()
    return sum(count == 1 for count in counts.values()) / total if total else None


def novelty(samples: Sequence[Ids], reference: Reference, n: int) -> float | None:
    """The share of the samples' n-grams that the reference text does not have.

    Competing definitions: of different n-grams (McCoy's), which a loop does not weigh. Meaningful against the text that
    the model was trained on: against other text nearly everything is new. Undefined without an n-gram.

    Reference: McCoy et al. 2023 (RAVEN).
    """
    keys = [ngram_keys(np.asarray(ids, np.int64), n) for ids in samples]
    joined = np.concatenate(keys) if keys else np.zeros(0, np.uint64)
    return 1 - float(np.mean(reference.has(joined, n))) if len(joined) else None


def _joined(samples: Sequence[Ids]) -> NDArray[np.int64]:
    return np.asarray([token for ids in samples for token in ids], np.int64)
