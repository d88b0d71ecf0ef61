"""A corpus judged as a whole: texts that pass one by one may be one text again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collapselab.collapse.audit.likeness import IdArray, Kept, Likeness, gram_hashes
from collapselab.collapse.audit.samples import Judge
from collapselab.collapse.rules import MIN_TOKENS
from collapselab.config.schema import Collapse

WHOLE_TOKENS = 16_384  # joined and judged as one sample; the search for loops grows with the square
_COPIES_SHARE, _MIN_TEXTS = 0.5, 8
_DIVERSITY_TOKENS, _MIN_DIVERSITY_TOKENS = 20_000, 800  # as many as 8 samples of 100


@dataclass(frozen=True)
class Whole:
    """The verdict on a corpus as a whole, by which rules.

    `baseline`: what its diversity was compared with, "reference" or "start"; `None`: nothing. `entropies`: of the
    tokens of the corpus and of the baseline, nats; `distinct`: their shares of distinct 4-grams, at equal lengths.
    """

    degenerate: bool
    reasons: tuple[str, ...]
    num_tokens: int
    baseline: str | None = None
    entropies: tuple[float, float] | None = None
    distinct: tuple[float, float] | None = None


def judge_whole(
    samples: Sequence[IdArray], likeness: Likeness, judge: Judge, is_ordered: bool, reference: Kept | None
) -> Whole:
    """The verdict on texts in order, taken together.

    Joined, they break a rule of samples; or half of them are copies or near copies (`template`); or they are less
    diverse than a baseline by the bounds of a run's `low-diversity`. The baseline is the reference, else the first
    quarter of a corpus whose order is that of its making, of which the last quarter is judged.

    Args:
        samples: the texts that were kept, in order.
        likeness: what they share.
        judge: the rules.
        is_ordered: the order of the texts is that in which they were made.
        reference: texts of a healthy source.
    """
    joined = join_evenly(samples, WHOLE_TOKENS)
    reasons: list[str] = []
    if len(samples) > 1 and len(joined) >= MIN_TOKENS:
        (judged,) = judge.judge_ids([joined], [None])
        reasons += judged.verdict.reasons
    shares = [share for share in (likeness.copies_share, likeness.near_share) if share is not None]
    if len(samples) >= _MIN_TEXTS and shares and max(shares) >= _COPIES_SHARE:
        reasons.append("template")
    latest, before, baseline = list(samples), reference.ids if reference else [], "reference" if reference else None
    if reference is None and is_ordered and len(samples) >= 2 * _MIN_TEXTS:
        quarter = len(samples) // 4
        latest, before, baseline = list(samples[-quarter:]), list(samples[:quarter]), "start"
    compared = compare_diversity(latest, before) if baseline else None
    if compared is None:
        return Whole(bool(reasons), tuple(reasons), len(joined))
    entropies, distinct = compared
    if is_less_diverse(entropies, distinct, judge.thresholds):
        reasons.append("low-diversity")
    return Whole(bool(reasons), tuple(reasons), len(joined), baseline, entropies, distinct)


def join_evenly(samples: Sequence[IdArray], num_tokens: int) -> IdArray:
    """At most this many tokens of whole samples, spread evenly over all of them, in order."""
    total = sum(map(len, samples))
    every = -(-total // num_tokens) if total else 1
    chosen = list(samples[::every])
    return np.concatenate(chosen)[:num_tokens] if chosen else np.zeros(0, np.uint32)


def compare_diversity(
    latest: Sequence[IdArray], before: Sequence[IdArray]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """(entropies in nats, shares of distinct 4-grams), each of the latest and of the earlier texts, at one length.

    `None` where one of them has fewer than 800 tokens.
    """
    num_tokens = min(_DIVERSITY_TOKENS, sum(map(len, latest)), sum(map(len, before)))
    if num_tokens < _MIN_DIVERSITY_TOKENS:
        return None
    pairs = [_diversity(join_evenly(part, num_tokens)) for part in (latest, before)]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def is_less_diverse(entropies: tuple[float, float], distinct: tuple[float, float], thresholds: Collapse) -> bool:
    """Whether the first of each pair is below the second by the bounds of `low-diversity`."""
    return (
        entropies[0] <= entropies[1] - thresholds.entropy_drop_nats
        or distinct[0] <= thresholds.distinct_4_share * distinct[1]
    )


def _diversity(ids: IdArray) -> tuple[float, float]:
    shares = np.unique(ids, return_counts=True)[1] / len(ids)
    grams = gram_hashes(ids, 4)
    return float(-(shares * np.log(shares)).sum()), len(np.unique(grams)) / len(grams)
