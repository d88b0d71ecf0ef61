"""Loss on human text. Every number names its protocol; sums and counts are kept, and the mean is taken once.

Shape letters: B windows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from collapselab.config.protocols import Protocol, Window
from collapselab.engine.interface import Scorer
from collapselab.inputs.encoded_text import EncodedText

TOKENS_PER_PASS = 1024  # logits of 1024 tokens over 50,000 words are 200 MB in float32


@dataclass(frozen=True)
class Loss:
    """Loss of one model on one text under one protocol.

    `nll_nats`: mean negative log-likelihood per scored token. `se_nats`: its standard error, with the windows as the
    independent units (tokens of one window are not); `None` for a single window. `bits_per_byte` and
    `word_perplexity` divide the same sum by the bytes and by the white-space separated words of the scored tokens
    (`EncodedText`); `None` where no byte or no word begins in them, as in Chinese.
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
    def bits_per_byte(self) -> float | None:
        return self.nll_nats * self.num_tokens / math.log(2) / self.num_bytes if self.num_bytes else None

    @property
    def word_perplexity(self) -> float | None:
        return _exp(self.nll_nats * self.num_tokens / self.num_words) if self.num_words else None


@dataclass(frozen=True)
class Plan:
    """A tokenised text and the windows of it that are scored."""

    protocol: Protocol
    ids: Sequence[int]
    windows: Sequence[Window]
    num_bytes: int
    num_words: int


def plan(protocol: Protocol, text: EncodedText, generator: np.random.Generator) -> Plan:
    """The windows of a text; `generator` draws those of `windows[n,k]`.

    Bytes and words of a scored token count as often as the token is scored: once by `disjoint` and `sliding`,
    so that they do not depend on the stride; in `windows[n,k]` once for each overlapping window, like nats.

    Raises:
        InputError: the text is too short for the protocol.
    """
    windows = protocol.windows(len(text.ids), generator)
    first = np.asarray([w.first_scored for w in windows])
    end = np.asarray([w.end for w in windows])
    return Plan(
        protocol,
        text.ids,
        windows,
        num_bytes=int((text.bytes_before[end] - text.bytes_before[first]).sum()),
        num_words=int((text.words_before[end] - text.words_before[first]).sum()),
    )


def evaluate(scorer: Scorer, plan: Plan, start_id: int) -> Loss:
    """The model's loss on the planned windows, accumulated in float64."""
    return evaluate_texts(scorer, {"": plan}, start_id)[""]


def evaluate_texts(scorer: Scorer, plans: Mapping[str, Plan], start_id: int) -> dict[str, Loss]:
    """The losses on several texts; windows of one shape share forward passes, even across texts.

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
    """((tokens, how many of them are only context), rows): as many rows as fit in `TOKENS_PER_PASS`."""
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
