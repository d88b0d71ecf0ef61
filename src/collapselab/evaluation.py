"""Loss on human text. Every number names its protocol; sums and counts are kept and the mean is taken once.

Shape letters: B windows, T positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

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


@torch.no_grad()
def evaluate(model: PreTrainedModel, plan: Plan, end_of_text_id: int) -> Loss:
    """The model's loss on the planned windows, accumulated in float64."""
    sums: list[float] = []
    counts: list[int] = []
    for batch in _batches(plan):
        nll_B, count_B = _window_nll(model, plan, batch, end_of_text_id)
        sums += nll_B.tolist()
        counts += count_B
    total, count = math.fsum(sums), sum(counts)
    mean = total / count
    return Loss(plan.protocol.name, mean, _standard_error(sums, counts, mean), count, plan.num_bytes, plan.num_words)


def _window_nll(
    model: PreTrainedModel, plan: Plan, batch: Sequence[Window], end_of_text_id: int
) -> tuple[Tensor, list[int]]:
    """(sum of the negative log-likelihoods, number of scored tokens) of each window; windows of one shape."""
    prefix = [end_of_text_id] if plan.protocol.end_of_text_prefix else []
    rows = [[*prefix, *plan.ids[w.start : w.end]] for w in batch]
    tokens_BT = torch.tensor(rows, device=model.device)
    skip = batch[0].first_scored - batch[0].start + len(prefix)
    logits_BTV = model(input_ids=tokens_BT, use_cache=False).logits[:, skip - 1 : -1].float()
    nll_BT = torch.nn.functional.cross_entropy(
        logits_BTV.flatten(0, 1), tokens_BT[:, skip:].flatten(), reduction="none"
    ).view(len(rows), -1)
    return nll_BT.double().sum(1), [nll_BT.shape[1]] * len(rows)


def _batches(plan: Plan) -> Iterator[Sequence[Window]]:
    """Windows of equal shape, as many at a time as `TOKENS_PER_PASS` holds."""
    for (length, _), group in groupby(plan.windows, key=lambda w: (w.end - w.start, w.first_scored - w.start)):
        windows = list(group)
        rows = max(1, TOKENS_PER_PASS // length)
        yield from (windows[i : i + rows] for i in range(0, len(windows), rows))


def _standard_error(sums: Sequence[float], counts: Sequence[int], mean: float) -> float | None:
    """Of a ratio of sums over windows (Cochran 1977, eq. 6.9)."""
    if len(sums) < 2:
        return None
    residuals = np.asarray(sums) - mean * np.asarray(counts)
    return float(math.sqrt(len(sums) / (len(sums) - 1) * float(residuals @ residuals)) / sum(counts))


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
