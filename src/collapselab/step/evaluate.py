"""Loss on human text. Every number names its protocol; sums and counts are kept, and the mean is taken once.

Shape letters: B windows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from collapselab.config.protocols import Protocol, Window
from collapselab.engine.interface import Scorer
from collapselab.inputs.encoded_text import EncodedText

# Receives a text's name, tokens scored and their losses, both (B, T).
OnTokens = Callable[[str, Tensor, Tensor], None]
TOKENS_PER_PASS = 1024  # logits of 1024 tokens over 50,000 words are 200 MB in float32


@dataclass(frozen=True)
class Loss:
    """Loss of one model on one text under one protocol.

    `nll_nats`: mean negative log-likelihood per scored token. `se_nats`: its standard error, with the windows as the
    independent units (tokens of one window are not); `None` for a single window. `bits_per_byte` and
    `word_perplexity` divide the same sum by the bytes and by the white-space separated words of the scored tokens
    (`EncodedText`), `word_perplexity_eol` by words and line ends, each of which the literature on WikiText and Penn
    Treebank counts as a word `<eos>`; `None` where there are none, as there is no word in Chinese.
    """

    protocol: str
    nll_nats: float
    se_nats: float | None
    num_tokens: int
    num_bytes: int
    num_words: int
    num_line_ends: int

    @property
    def perplexity(self) -> float:
        return _exp(self.nll_nats)

    @property
    def bits_per_byte(self) -> float | None:
        return self.nll_nats * self.num_tokens / math.log(2) / self.num_bytes if self.num_bytes else None

    @property
    def word_perplexity(self) -> float | None:
        return self._per(self.num_words)

    @property
    def word_perplexity_eol(self) -> float | None:
        return self._per(self.num_words + self.num_line_ends)

    def _per(self, count: int) -> float | None:
        return _exp(self.nll_nats * self.num_tokens / count) if count else None


@dataclass(frozen=True)
class Plan:
    """A tokenised text and the windows of it that are scored."""

    protocol: Protocol
    ids: Sequence[int]
    windows: Sequence[Window]
    num_bytes: int
    num_words: int
    num_line_ends: int


def plan(protocol: Protocol, text: EncodedText, generator: np.random.Generator) -> Plan:
    """The windows of a text; `generator` draws those of `windows[n,k]`.

    Bytes, words and line ends of a scored token count as often as the token is scored: once by `disjoint` and
    `sliding`, so that they do not depend on the stride; in `windows[n,k]` once for each overlapping window, like nats.

    Raises:
        InputError: the text is too short for the protocol.
    """
    windows = protocol.windows(len(text.ids), generator)
    first = np.asarray([w.first_scored for w in windows])
    end = np.asarray([w.end for w in windows])
    counts = (text.bytes_before, text.words_before, text.line_ends_before)
    return Plan(protocol, text.ids, windows, *(int((before[end] - before[first]).sum()) for before in counts))


def evaluate(scorer: Scorer, plan: Plan, start_id: int) -> Loss:
    """The model's loss on the planned windows, accumulated in float64."""
    return evaluate_texts(scorer, {"": plan}, start_id)[""]


def evaluate_texts(
    scorer: Scorer, plans: Mapping[str, Plan], start_id: int, on_tokens: OnTokens | None = None
) -> dict[str, Loss]:
    """The losses on several texts; windows of one shape share forward passes, even across texts.

    `start_id` is the token before each window under a protocol with `+eot`. `on_tokens` sees the loss of each token.
    """
    sums: dict[str, list[float]] = {name: [0.0] * len(p.windows) for name, p in plans.items()}
    counts: dict[str, list[int]] = {name: [0] * len(p.windows) for name, p in plans.items()}
    for (_, num_context), batch in _batches(plans, start_id):
        tokens_BT = torch.tensor([row for _, _, row in batch])
        nll_BT = scorer.score(tokens_BT, num_context)
        nll_B = cast(list[float], nll_BT.double().sum(1).tolist())
        for (name, index, row), nll in zip(batch, nll_B, strict=True):
            sums[name][index], counts[name][index] = nll, len(row) - num_context
        if on_tokens is not None:
            for name in dict.fromkeys(name for name, _, _ in batch):
                rows = [i for i, (of_text, _, _) in enumerate(batch) if of_text == name]
                on_tokens(name, tokens_BT[rows, num_context:], nll_BT[rows])
    return {name: _loss(p, sums[name], counts[name]) for name, p in plans.items()}


def _loss(plan: Plan, sums: Sequence[float], counts: Sequence[int]) -> Loss:
    count = sum(counts)
    mean = math.fsum(sums) / count
    text = plan.num_bytes, plan.num_words, plan.num_line_ends
    return Loss(plan.protocol.name, mean, _standard_error(sums, counts, mean), count, *text)


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
