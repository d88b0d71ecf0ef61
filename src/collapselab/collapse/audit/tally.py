"""Counts of verdicts: shares with intervals, trends over the rows, onset, and the difference of two shares."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from collapselab.collapse.rules import SampleVerdict
from collapselab.metrics.shares import clopper_pearson

NUM_PARTS = 10
_MIN_ROWS_AFTER, _AFTER_SHARE, _BEFORE_SHARE = 8, 3 / 4, 1 / 4


@dataclass
class Tally:
    """How many texts there are, could be judged, and are degenerate; of the degenerate, kinds and reasons."""

    num_samples: int = 0
    num_judged: int = 0
    num_degenerate: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def add(self, verdict: SampleVerdict) -> None:
        """One more text."""
        self.num_samples += 1
        self.num_judged += verdict.degenerate is not None
        if verdict.degenerate:
            self.num_degenerate += 1
            self.kinds[verdict.kind or "low-entropy"] += 1
            self.reasons.update(verdict.reasons)

    @property
    def share(self) -> float | None:
        """Degenerate texts among the judged; `None` if none was judged."""
        return self.num_degenerate / self.num_judged if self.num_judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Clopper-Pearson's, at 95 %."""
        return clopper_pearson(self.num_degenerate, self.num_judged)


def share_difference(one: Tally, other: Tally) -> tuple[float, float, float] | None:
    """The share of the first minus that of the second, and its 95 % interval; `None` if one of them is unknown.

    Newcombe's hybrid of two exact intervals: at shares of 0 it is not of width 0.

    Reference: Newcombe 1998, method 10, with Clopper-Pearson's in place of Wilson's intervals (wider).
    """
    if one.share is None or other.share is None or one.interval is None or other.interval is None:
        return None
    difference = one.share - other.share
    low = difference - math.hypot(one.share - one.interval[0], other.interval[1] - other.share)
    high = difference + math.hypot(one.interval[1] - one.share, other.share - other.interval[0])
    return difference, max(-1.0, low), min(1.0, high)


def trend(flags: Sequence[int]) -> list[tuple[int, int]]:
    """(judged, degenerate) of each tenth of the rows, from 1 (degenerate) and 0 in order; empty under 20 rows."""
    if len(flags) < 2 * NUM_PARTS:
        return []
    parts = np.array_split(np.frombuffer(bytes(flags), np.uint8), NUM_PARTS)
    return [(len(part), int(part.sum())) for part in parts]


def onset_of(flags: Sequence[int]) -> int | None:
    """The index at which a corpus changes from mostly healthy to mostly degenerate texts; `None` if it does not.

    The place after which degenerate texts have the largest majority over the others (as onset is dated in a run), if at
    least three quarters of 8 or more texts from there on are degenerate, and at most a quarter of those before.
    """
    signs = 2 * np.frombuffer(bytes(flags), np.uint8).astype(np.int64) - 1
    if len(signs) < _MIN_ROWS_AFTER + 1:
        return None
    before = np.concatenate([[0], np.cumsum(signs)[:-1]])
    start = int(np.argmin(before))
    after = signs[start:]
    is_after = len(after) >= _MIN_ROWS_AFTER and (after > 0).mean() >= _AFTER_SHARE
    return start if start > 0 and is_after and (signs[:start] > 0).mean() <= _BEFORE_SHARE else None
