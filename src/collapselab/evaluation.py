"""Loss on human text. Every number names its protocol; sums and counts are kept and the mean is taken once.

Shape letters: B windows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from collapselab.engine.interface import Scorer
from collapselab.protocols import Protocol, Window
from collapselab.tokenization import Tokenizer

TOKENS_PER_PASS = 1024  # logits of 1024 tokens over 50,000 words are 200 MB in float32


@dataclass(frozen=True)
class Loss:
    """Loss of one model on one text under one protocol.

    `nll_nats`: mean negative log-likelihood a scored token. `se_nats`: its standard error, with the windows as the
    independent units (tokens of one window are not); `None` for a single window. `bits_per_byte` and
    `word_perplexity` divide the same sum by the bytes and by the white-space separated words of the scored text.
    """

    protocol: str
    nll_nats: float
    se_nats: float | None
    num_tokens: int
    num_bytes: int
    num_words: int

    @property
    def perplexity(self) -> float:
        return _exp(self.nll_nats)

    @property
    def bits_per_byte(self) -> float:
        return self.nll_nats * self.num_tokens / math.log(2) / self.num_bytes

    @property
    def word_perplexity(self) -> float:
        return _exp(self.nll_nats * self.num_tokens / self.num_words)


@dataclass(frozen=True)
class Plan:
    """A tokenised text and the windows of it that are scored."""

    protocol: Protocol
    ids: Sequence[int]
    windows: Sequence[Window]
    num_bytes: int
    num_words: int


def plan(protocol: Protocol, ids: Sequence[int], tokenizer: Tokenizer, generator: np.random.Generator) -> Plan:
    """The windows of a text; `generator` draws those of `windows[n,k]`.

    Raises:
        InputError: the text is too short for the protocol.
    """
    windows = protocol.windows(len(ids), generator)
    scored = [tokenizer.decode(list(ids[w.first_scored : w.end])) for w in windows]
    # A word cut by a window's edge counts in both windows; over disjoint[1024] that is under 0.2 % of the words.
    return Plan(
        protocol,
        ids,
        windows,
        num_bytes=sum(len(text.encode()) for text in scored),
        num_words=max(1, sum(len(text.split()) for text in scored)),
    )


def evaluate(scorer: Scorer, plan: Plan, start_id: int) -> Loss:
    """The model's loss on the planned windows, accumulated in float64."""
    return evaluate_texts(scorer, {"": plan}, start_id)[""]


def evaluate_texts(scorer: Scorer, plans: Mapping[str, Plan], start_id: int) -> dict[str, Loss]:
    """The losses of several texts; windows of one shape share forward passes, whichever text they are from.

    `start_id` is the token before each window under a protocol with `+eot`.
    """
    sums: dict[str, list[float]] = {name: [0.0] * len(p.windows) for name, p in plans.items()}
    counts: dict[str, list[int]] = {name: [0] * len(p.windows) for name, p in plans.items()}
    for (_, num_context), batch in _batches(plans, start_id):
        tokens_BT = torch.tensor([row for _, _, row in batch])
        nll_B = cast(list[float], scorer.score(tokens_BT, num_context).double().sum(1).tolist())
        for (name, index, row), nll in zip(batch, nll_B, strict=True):
            sums[name][index], counts[name][index] = nll, len(row) - num_context
    return {name: _loss(p, sums[name], counts[name]) for name, p in plans.items()}


def _loss(plan: Plan, sums: Sequence[float], counts: Sequence[int]) -> Loss:
    count = sum(counts)
    mean = math.fsum(sums) / count
    return Loss(plan.protocol.name, mean, _standard_error(sums, counts, mean), count, plan.num_bytes, plan.num_words)


_Row = tuple[str, int, list[int]]  # text, number of the window, token ids with the prefix if there is one


def _batches(plans: Mapping[str, Plan], start_id: int) -> Iterator[tuple[tuple[int, int], Sequence[_Row]]]:
    """((tokens, tokens of them that are context only), rows): as many rows as `TOKENS_PER_PASS` holds."""
    by_shape: dict[tuple[int, int], list[_Row]] = {}
    for name, plan in plans.items():
        prefix = [start_id] if plan.protocol.end_of_text_prefix else []
        for index, w in enumerate(plan.windows):
            row = [*prefix, *plan.ids[w.start : w.end]]
            by_shape.setdefault((len(row), w.first_scored - w.start + len(prefix)), []).append((name, index, row))
    for shape, rows in by_shape.items():
        size = max(1, TOKENS_PER_PASS // shape[0])
        yield from ((shape, rows[i : i + size]) for i in range(0, len(rows), size))


def _standard_error(sums: Sequence[float], counts: Sequence[int], mean: float) -> float | None:
    """Of a ratio of sums over windows (Cochran 1977, eq. 6.9)."""
    if len(sums) < 2:
        return None
    residuals = np.asarray(sums) - mean * np.asarray(counts)
    return float(math.sqrt(len(sums) / (len(sums) - 1) * float(residuals @ residuals)) / sum(counts))


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
