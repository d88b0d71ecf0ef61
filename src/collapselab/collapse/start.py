"""A run's own start: what the untouched model writes, and what of the rules that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from collapselab.config.schema import Collapse
from collapselab.metrics import repetition_metrics
from collapselab.metrics.diversity import token_entropy_nats
from collapselab.metrics.repetition import Ids, ngrams
from collapselab.records import Value

SHORT_TOKENS = 200
# A rule is moved if more than one of the start's samples break it.
_RANK = 1


@dataclass(frozen=True)
class Start:
    """What is known before the first update.

    `thresholds`: the settings, moved where the start's own text breaks them. `nll_nats`: the larger of the losses of
    step 0, on the model's own text and on human text. `samples`: those drawn at the start to compare with.
    """

    thresholds: Collapse
    nll_nats: float | None
    samples: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, samples: Sequence[Ids], values: Mapping[str, Value], thresholds: Collapse) -> Start:
        """The start of a run: its samples, and the record of step 0."""
        losses = [values.get(name) for name in ("train_nll_nats", "val_nll_nats")]
        known = [float(loss) for loss in losses if isinstance(loss, (int, float))]
        moved = moved_thresholds([repetition_metrics(ids) | {"num_tokens": len(ids)} for ids in samples], thresholds)
        return cls(moved, max(known, default=None), tuple(tuple(ids) for ids in samples))


@lru_cache(maxsize=16)  # a run asks for its start at every step
def diversity_of(samples: tuple[tuple[int, ...], ...], length: int) -> tuple[float, float]:
    """`token_entropy_nats` and `distinct_4_pooled` of samples cut to one length, of at least 4 tokens."""
    cut = [ids[:length] for ids in samples]
    entropy = token_entropy_nats(cut)
    assert entropy is not None and length >= 4, length
    distinct: set[tuple[int, ...]] = set()
    return entropy, len(distinct.union(*map(four_grams, cut))) / (len(cut) * (length - 3))


@lru_cache(maxsize=512)  # a sample is looked at again for as long as it is in the window
def four_grams(ids: tuple[int, ...]) -> frozenset[tuple[int, ...]]:
    """The distinct 4-grams of a sample."""
    return frozenset(ngrams(ids, 4))


def moved_thresholds(rows: Sequence[Mapping[str, Value]], thresholds: Collapse) -> Collapse:
    """The thresholds for a model whose untouched text has these metrics.

    Tables and code repeat themselves. Where more than one sample of the start breaks a rule, its bound moves to halfway
    between the second worst of them and a perfect loop, so that the model's normal text passes and a deeper loop is
    still seen. A loop at the start of a single sample moves nothing.
    """
    if len(rows) <= _RANK:
        return thresholds
    length = max(_number(row, "num_tokens") for row in rows)
    repeats = _second_worst([_number(row, "seq_rep_4") - seq_rep_4_growth(length, thresholds) for row in rows])
    spans = _second_worst([_number(row, "loop_span") / max(1.0, _number(row, "num_tokens")) for row in rows])
    top = _second_worst([_number(row, "top_token_share") for row in rows])
    entropy = -_second_worst([-_number(row, "match_entropy_nats", math.inf) for row in rows])
    name = "seq_rep_4" if length >= SHORT_TOKENS else "seq_rep_4_short"
    changes: dict[str, float] = {}
    for setting, value in ((name, repeats), ("loop_share", spans), ("top_token_share", top)):
        if value >= getattr(thresholds, setting):
            changes[setting] = (value + 1) / 2
    if entropy <= thresholds.match_entropy_nats:
        changes["match_entropy_nats"] = entropy / 2
    return thresholds.model_copy(update=changes)


def seq_rep_4_growth(num_tokens: float, thresholds: Collapse) -> float:
    """By how much the bound of `seq_rep_4` lies higher for a sample of this length than for one of 200 tokens.

    Repeats add up: a text of T tokens has about T² pairs of places, so the share of repeated 4-grams of the same text
    grows with its length (Welleck's seq-rep-n is compared at one length for that reason).
    """
    return thresholds.seq_rep_4_per_doubling * max(0.0, math.log2(num_tokens / SHORT_TOKENS)) if num_tokens else 0.0


def _second_worst(values: Sequence[float]) -> float:
    return sorted(values, reverse=True)[_RANK]


def _number(row: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    value = row[name]
    return float(value) if isinstance(value, (int, float)) else unknown
