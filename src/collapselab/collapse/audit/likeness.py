"""What the texts of a corpus share: copies, near copies, openings, phrases; and how diverse they are together.

Memory is bounded. Copies are counted among texts whose hash ends in enough zeros, so that all copies of a text are in
or out together. All else looks at texts spread evenly over the corpus, every one of them in a small corpus.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_HASHES = 400_000
MAX_KEPT, MAX_KEPT_TOKENS = 10_000, 1_500_000
OPENING_WORDS, PHRASE_TOKENS, SHINGLE_TOKENS = 6, 8, 3
_MAX_OPENINGS = 50_000
_NUM_PERM, _NUM_BANDS = 128, 16  # half of the pairs with a Jaccard index of 0.67 are found, 95 % of those with 0.8
_WORD = re.compile(r"\S+")
_MIN_SHARED = 3  # texts that a phrase or an opening stands in before it is worth a line

IdArray = NDArray[np.uint32]


@dataclass
class Kept:
    """Texts spread evenly over a stream whose length is unknown: every k-th, k doubling whenever there are too many."""

    ids: list[IdArray] = field(default_factory=list[IdArray])
    _every: int = 1
    _num_seen: int = 0
    _num_tokens: int = 0

    def add(self, ids: IdArray) -> None:
        """One more text."""
        if self._num_seen % self._every == 0:
            self.ids.append(ids[: MAX_KEPT_TOKENS // 8])
            self._num_tokens += len(self.ids[-1])
            while len(self.ids) > MAX_KEPT or self._num_tokens > MAX_KEPT_TOKENS:
                self.ids = self.ids[::2]
                self._every *= 2
                self._num_tokens = sum(map(len, self.ids))
        self._num_seen += 1


@dataclass
class Copies:
    """How many texts are exact copies of another."""

    counts: dict[int, int] = field(default_factory=dict[int, int])
    _mask: int = 0

    def add(self, text: bytes) -> None:
        """One more text."""
        key = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
        if key & self._mask:
            return
        self.counts[key] = self.counts.get(key, 0) + 1
        while len(self.counts) > MAX_HASHES:
            self._mask = 2 * self._mask + 1
            self.counts = {key: count for key, count in self.counts.items() if not key & self._mask}

    @property
    def share(self) -> float | None:
        """The share of texts that an earlier text equals; `None` without any text."""
        total = sum(self.counts.values())
        return 1 - len(self.counts) / total if total else None

    @property
    def largest(self) -> int:
        """How many times the most copied text stands there."""
        return max(self.counts.values(), default=0)


@dataclass
class Openings:
    """The first words of texts, counted."""

    counts: Counter[str] = field(default_factory=Counter[str])
    num_texts: int = 0

    def add(self, text: str) -> None:
        """One more text."""
        self.num_texts += 1
        words = _WORD.findall(text[:400])
        if words:
            self.counts[" ".join(words[:OPENING_WORDS])] += 1
        if len(self.counts) > _MAX_OPENINGS:  # rare ones are forgotten
            self.counts = Counter(dict(self.counts.most_common(_MAX_OPENINGS // 2)))

    def common(self, at_most: int = 3) -> list[tuple[str, int]]:
        """The commonest, with their counts."""
        return [(words, count) for words, count in self.counts.most_common(at_most) if count >= _MIN_SHARED]


@dataclass(frozen=True)
class Likeness:
    """What texts share. `None`: unknown, or too few texts.

    `near_share`: texts with a near copy among the `num_compared`. `phrases`: of 8 tokens, with the number of texts that
    hold them. `distinct`: distinct n-grams / n-grams for n = 1 to 4, over `num_tokens` tokens together.
    """

    copies_share: float | None
    most_copied: int
    near_share: float | None
    num_compared: int
    openings: list[tuple[str, int]]
    phrases: list[tuple[str, int]]
    distinct: list[float | None]
    num_tokens: int


def likeness(kept: Kept, copies: Copies, openings: Openings, decode: Callable[[list[int]], str] | None) -> Likeness:
    """What was counted and kept of a corpus, as shares."""
    pooled = np.concatenate(kept.ids) if kept.ids else np.zeros(0, np.uint32)
    return Likeness(
        copies.share,
        copies.largest,
        near_share(kept.ids),
        len(kept.ids),
        openings.common(),
        shared_phrases(kept.ids, decode) if decode else [],
        [_distinct(kept.ids, n) for n in (1, 2, 3, 4)],
        len(pooled),
    )


def near_share(samples: Sequence[IdArray]) -> float | None:
    """The share of samples with a near copy among the others, by MinHash over 3-grams (rensa); `None` without rensa.

    Samples under 8 tokens are no copies.

    Reference: Broder 1997.
    """
    try:
        import rensa
    except ImportError:
        return None
    hashes = [np.unique(gram_hashes(ids, SHINGLE_TOKENS)) for ids in samples if len(ids) >= 8]
    if not hashes:
        return None
    offsets = np.concatenate([[0], np.cumsum([len(h) for h in hashes])]).astype(np.uint64)
    library: Any = rensa
    digests: Any = library.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), offsets, _NUM_PERM, 1)
    index: Any = library.RMinHashLSH(threshold=0.7, num_perm=_NUM_PERM, num_bands=_NUM_BANDS)
    return sum(index.query_duplicate_flags_matrix_one_shot(digests)) / len(samples)


def shared_phrases(samples: Sequence[IdArray], decode: Callable[[list[int]], str]) -> list[tuple[str, int]]:
    """Up to three phrases of 8 tokens that stand in most samples, and in how many; none that overlap each other."""
    grams = [np.unique(gram_hashes(ids, PHRASE_TOKENS)) for ids in samples if len(ids) >= PHRASE_TOKENS]
    if not grams:
        return []
    keys, counts = np.unique(np.concatenate(grams), return_counts=True)
    found: list[tuple[str, int]] = []
    seen: set[int] = set()
    for place in np.argsort(-counts, kind="stable")[:200]:
        if counts[place] < max(_MIN_SHARED, len(samples) // 50) or len(found) == 3:
            break
        owner, at = _first_with(samples, int(keys[place]))
        around = set(gram_hashes(owner[max(0, at - 7) : at + 15], PHRASE_TOKENS).tolist())
        phrase = decode(owner[at : at + PHRASE_TOKENS].tolist())
        if not seen & around and phrase.strip():
            found.append((phrase, int(counts[place])))
        seen |= around
    return found


def gram_hashes(ids: IdArray, n: int) -> NDArray[np.uint64]:
    """A hash of each n-gram, in order."""
    count = max(0, len(ids) - n + 1)
    hashes = np.zeros(count, np.uint64)
    for k in range(n):
        hashes = (hashes ^ ids[k : k + count].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _first_with(samples: Sequence[IdArray], key: int) -> tuple[IdArray, int]:
    for ids in samples:
        places = np.flatnonzero(gram_hashes(ids, PHRASE_TOKENS) == np.uint64(key))
        if len(places):
            return ids, int(places[0])
    raise AssertionError(key)


def _distinct(samples: Sequence[IdArray], n: int) -> float | None:
    hashes = [gram_hashes(ids, n) for ids in samples]
    total = sum(map(len, hashes))
    return len(np.unique(np.concatenate(hashes))) / total if total else None
