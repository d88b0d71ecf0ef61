"""Repetition inside one sample: pure functions on token ids (without the prompt), `None` where undefined."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collapselab.metrics.matches import match_lengths

Ids = Sequence[int]

MAX_PERIOD = 64
# A collapsed sample slips now and then: the tolerant form allows slips in one loop if they are at least this far apart.
SLIP_DISTANCE = 64


def seq_rep(ids: Ids, n: int) -> float | None:
    """The share of n-grams that repeat an earlier one: 1 - distinct n-grams / (T - n + 1).

    Competing definitions: rep-n of Su et al. is the same in percent; "rep-n" elsewhere counts each n-gram that occurs
    more than once, its first copy included. Grows with T, so compare samples of one length. Undefined for T < n.

    Reference: Welleck et al. 2020 (seq-rep-n).
    """
    num_ngrams = len(ids) - n + 1
    if num_ngrams < 1:
        return None
    return 1 - len(set(ngrams(ids, n))) / num_ngrams


def ngrams(ids: Ids, n: int) -> zip[tuple[int, ...]]:
    """The T - n + 1 n-grams of a sample, in order."""
    return zip(*(ids[k:] for k in range(n)), strict=False)


def diversity(ids: Ids) -> float | None:
    """The product of (1 - seq_rep_n) over n = 2, 3, 4.

    Competing definitions: "diversity" is also used for distinct-n over many samples (`diversity.distinct_n`).
    Undefined for T < 4.

    Reference: Su et al. 2022 (SimCTG).
    """
    product = 1.0
    for n in (2, 3, 4):
        repeated = seq_rep(ids, n)
        if repeated is None:
            return None
        product *= 1 - repeated
    return product


def rep_w(ids: Ids, w: int = 16) -> float | None:
    """The share of tokens that occur among the w tokens before them.

    Competing definitions: Welleck's rep/l asks the same of the model's top-1 prediction under teacher forcing.
    The first token has nothing before it and counts as not repeated. Undefined for T = 0.

    Reference: Fu et al. 2021 (rep-w).
    """
    if not ids:
        return None
    last_seen: dict[int, int] = {}
    repeated = 0
    for position, token in enumerate(ids):
        repeated += position - last_seen.get(token, -w - 1) <= w
        last_seen[token] = position
    return repeated / len(ids)


def rep_r(ids: Ids) -> float | None:
    """The share of tokens inside a bigram that occurs again, earlier or later, overlap allowed.

    Competing definitions: unlike seq_rep_2 it counts tokens, not bigrams, and the first copy too. Undefined for T < 2.

    Reference: Fu et al. 2021 (rep-r).
    """
    if len(ids) < 2:
        return None
    bigrams = list(ngrams(ids, 2))
    counts = Counter(bigrams)
    again = [counts[bigram] > 1 for bigram in bigrams]
    inside = (left or right for left, right in zip([False, *again], [*again, False], strict=True))
    return sum(inside) / len(ids)


def top_token_share(ids: Ids) -> float | None:
    """The most frequent token's share of the sample; undefined for T = 0."""
    return max(Counter(ids).values()) / len(ids) if ids else None


def longest_repeat(ids: Ids) -> int | None:
    """The length in tokens of the longest substring that occurs twice, overlap allowed: T - p in a loop of period p.

    Competing definitions: without overlap it is at most T / 2. 0 if no token repeats; undefined for T = 0.
    """
    return max(match_lengths(ids)) if ids else None


def match_entropy_nats(ids: Ids) -> float | None:
    """Entropy per token from match lengths, in nats: [ (1/(T-1)) Σ_{i=2..T} L_i / ln i ]^-1.

    L_i = 1 + length of the longest match of x_i… with a start j < i, overlap allowed. Assumes no model and no n.
    Competing definitions: a sliding window instead of the growing past (Wyner-Ziv); matches without overlap, which
    are at most T / 2 long in a loop; logarithms to base 2. Matches end with the text, so short samples get high
    values, and the value of a loop tends to 0 as 2 ln T / T. Undefined for T < 2.

    Reference: Grassberger 1989; Kontoyiannis, Algoet, Suhov and Wyner 1998 (the growing-past estimator).
    """
    return entropy_of_matches(match_lengths(ids))


def entropy_of_matches(lengths: Sequence[int]) -> float | None:
    """`match_entropy_nats` from match lengths that are already known."""
    if len(lengths) < 2:
        return None
    total = sum((1 + length) / math.log(i) for i, length in enumerate(lengths[1:], start=2))
    return (len(lengths) - 1) / total


def lz_ratio(ids: Ids) -> float | None:
    """Bytes of the raw-deflated ids / bytes of the ids, compressed once, at level 9, without header or checksum.

    Ids are little-endian uint16, or uint32 if one is above 65,535. Competing definitions: gzip of the text (its header
    of 18 bytes weighs on short samples, and it sees the tokenizer's spelling). May exceed 1 for short or random ids.
    Compare samples of one length and one tokenizer. Undefined for T = 0.
    """
    if not ids:
        return None
    raw = np.asarray(ids, dtype="<u2" if max(ids) < 2**16 else "<u4").tobytes()
    deflate = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    return len(deflate.compress(raw) + deflate.flush()) / len(raw)


@dataclass(frozen=True)
class Loop:
    """The longest loop of a sample: tokens `start` to `end` have period `period` (`None`: there is no loop).

    `span` counts all its tokens, the first copy included; `copies` = span / period.
    """

    period: int | None = None
    start: int = 0
    end: int = 0
    at_end: bool = False

    @property
    def span(self) -> int:
        return self.end - self.start

    @property
    def copies(self) -> float:
        return self.span / self.period if self.period else 0.0


def find_loop(ids: Ids, *, tolerant: bool) -> Loop | None:
    """The longest loop with a period of at most 64 tokens and at least 2 copies; ties go to the smallest period.

    Token i (≥ p) matches under period p if x_i = x_{i-p}. The strict form takes the longest run of matches and the p
    tokens before it. The tolerant form allows slips in a run, any two at least 64 tokens apart. A wrong token causes a
    mismatch at i (the slip) and an echo at i + p, which is excused if its slip is in the run. A run never ends with a
    slip, and begins with one only if its echo confirms it.

    Competing definitions: Holtzman et al. ask for at least 3 copies, at the very end of the sample (`at_end`).
    Insertions and deletions shift the phase and split a loop. Undefined for T < 2.

    Reference: Holtzman et al. 2020, section 4.
    """
    if len(ids) < 2:
        return None
    tokens = np.asarray(ids, dtype=np.int64)
    best = Loop()
    for period in range(1, min(max(MAX_PERIOD, len(ids) // 3), len(ids) // 2) + 1):
        # Most periods of healthy text need no closer look: 2.3 ms fall to 0.5 ms for 200 tokens.
        if _span_bound(tokens, period) < max(best.span + 1, 2 * period):
            continue
        loop = _tolerant_loop(tokens, period) if tolerant else _strict_loop(tokens, period)
        if loop.span > best.span and loop.copies >= 2:
            best = loop
    return best


def _span_bound(tokens: NDArray[np.int64], period: int) -> int:
    """At least the span of a loop: its first copy, matches, echoes (x_i = x_{i-2p}) and as many slips as fit."""
    matches, echoes = (int((tokens[lag:] == tokens[:-lag]).sum()) for lag in (period, 2 * period))
    return period + matches + echoes + 1 + len(tokens) // SLIP_DISTANCE


def _strict_loop(tokens: NDArray[np.int64], period: int) -> Loop:
    mismatches = np.flatnonzero(tokens[period:] != tokens[:-period]) + period
    walls = np.concatenate(([period - 1], mismatches, [len(tokens)]))
    longest = int(np.diff(walls).argmax())
    end = int(walls[longest + 1])
    return Loop(period, int(walls[longest]) + 1 - period, end, end == len(tokens))


def _tolerant_loop(tokens: NDArray[np.int64], period: int) -> Loop:
    slips, is_echoed = _slips(tokens, period)
    if not slips.size:
        return Loop(period, 0, len(tokens), True)
    # Where a run without slip k or any earlier slip may begin: after their echoes, whose slips it would not contain.
    after = np.maximum.accumulate(slips + is_echoed * period) + 1
    # Slips form chains with gaps of at least SLIP_DISTANCE; a run contains one chain and ends before its neighbours.
    first = np.flatnonzero(np.diff(slips, prepend=slips[0] - 1) < SLIP_DISTANCE)
    last = np.append(first[1:] - 1, len(slips) - 1)
    starts = np.concatenate(([period], after))[first]
    starts = np.where(starts > slips[first], after[first], starts)  # an echo may be after the chain's first slip
    starts = starts + np.isin(starts, slips[~is_echoed])
    ends = np.append(slips, len(tokens))[last + 1]
    trimmed_ends = ends - (ends - 1 == slips[last])
    longest = int((trimmed_ends - starts).argmax())
    # Even with a slip on the sample's very last token, the loop counts as at the end.
    return Loop(period, int(starts[longest]) - period, int(trimmed_ends[longest]), bool(ends[longest] == len(tokens)))


def _slips(tokens: NDArray[np.int64], period: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions of mismatches that no earlier slip explains, and whether each has an echo one period later.

    A mismatch at i is an echo if i - p mismatched, i - 2p did not, and x_i = x_{i-2p}. Without the middle condition
    every text of period 2p would pass as one of period p.
    """
    mismatch = np.zeros(len(tokens), dtype=bool)
    mismatch[period:] = tokens[period:] != tokens[:-period]
    echo = np.zeros(len(tokens) + period, dtype=bool)
    echo[2 * period : -period] = (
        mismatch[2 * period :]
        & mismatch[period:-period]
        & ~mismatch[: -2 * period]
        & (tokens[2 * period :] == tokens[: -2 * period])
    )
    slips = np.flatnonzero(mismatch & ~echo[:-period])
    return slips, echo[slips + period]
