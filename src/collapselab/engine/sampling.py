"""From logits to the next token: pure functions, the definition of every draw.

Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from collapselab.config.schema import Sampling

NUCLEUS = 0.9  # the same in sampling.c


def distribution(logits_BV: Tensor, rule: Sampling) -> Tensor:
    """The sampling distribution q, shape (B, V): temperature, top-nσ, top-k, top-p, min-p, renormalised; or greedy.

    Ties at a threshold are kept, so a rule may keep a few tokens more than asked for. Greedy is a one-hot
    distribution on the first of the likeliest tokens.

    What the rule says of tokens that occurred is `penalised`'s part.

    Reference: Holtzman 2020 (top-p), Fan 2018 (top-k), Nguyen 2024 (min-p), Tang 2024 (top-nσ); the order is that of
    `transformers`.
    """
    if rule.greedy:
        return torch.nn.functional.one_hot(logits_BV.argmax(-1), logits_BV.shape[-1]).to(logits_BV.dtype)
    scaled_BV = logits_BV / rule.temperature
    if rule.top_n_sigma is not None:
        is_finite_BV = scaled_BV.isfinite()
        sigma_B1 = torch.stack([row[kept].std(correction=0) for row, kept in zip(scaled_BV, is_finite_BV, strict=True)])
        lowest_B1 = scaled_BV.amax(-1, keepdim=True) - rule.top_n_sigma * sigma_B1[:, None]
        scaled_BV = scaled_BV.masked_fill(scaled_BV < lowest_B1, -torch.inf)
    if rule.top_k is not None and rule.top_k < scaled_BV.shape[-1]:
        smallest_B1 = scaled_BV.topk(rule.top_k, dim=-1).values[:, -1:]
        scaled_BV = scaled_BV.masked_fill(scaled_BV < smallest_B1, -torch.inf)
    probs_BV = scaled_BV.softmax(-1)
    if rule.top_p is not None and rule.top_p < 1:
        probs_BV = _keep_top_p(probs_BV, rule.top_p)
    if rule.min_p is not None:
        probs_BV = probs_BV.masked_fill(probs_BV < rule.min_p * probs_BV.amax(-1, keepdim=True), 0.0)
    return probs_BV / probs_BV.sum(-1, keepdim=True)


def penalised(logits_BV: Tensor, histories: Sequence[Sequence[int]], rule: Sampling) -> Tensor:
    """The logits (B, V) after the rule's penalties for the tokens that occurred before each row.

    A token that occurred has its logit divided by the repetition penalty if it is positive, multiplied if it is not. A
    token that would complete an n-gram that occurred is excluded, unless that would exclude all.

    Reference: Keskar 2019 (CTRL); Paulus 2018 (no n-gram twice).
    """
    penalised_BV = logits_BV.clone()
    for row_V, history in zip(penalised_BV, histories, strict=True):
        seen = torch.tensor(sorted(set(history)), dtype=torch.long, device=row_V.device)
        values = row_V[seen]
        row_V[seen] = torch.where(values > 0, values / rule.repetition_penalty, values * rule.repetition_penalty)
        excluded = _completing(history, rule.no_repeat_ngram) if rule.no_repeat_ngram else set[int]()
        if excluded and len(excluded) < len(row_V):
            row_V[list(excluded)] = -torch.inf
    return penalised_BV


def _completing(history: Sequence[int], n: int) -> set[int]:
    """The tokens after which an n-gram of the history would stand at its end a second time."""
    last = tuple(history[len(history) - n + 1 :])
    if len(last) < n - 1:
        return set()
    return {history[i + n - 1] for i in range(len(history) - n + 1) if tuple(history[i : i + n - 1]) == last}


def _keep_top_p(probs_BV: Tensor, top_p: float) -> Tensor:
    sorted_BV, order_BV = torch.sort(probs_BV, dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    kept_BV = sorted_BV.masked_fill(before_BV >= top_p, 0.0)
    return torch.zeros_like(probs_BV).scatter(-1, order_BV, kept_BV)


def nucleus_sizes(probs_RV: Tensor, share: float = NUCLEUS) -> Tensor:
    """How many of the largest probabilities of each row it takes to reach 0.9 together, shape (R,), float64.

    The support of top-p sampling at p = 0.9, were it used. Competing definitions: the effective vocabulary e^entropy,
    which also counts the tail. NaN for a row that is not finite.

    Reference: Holtzman 2020.
    """
    # Those below (1 - share) / V are less than 1 - share together: they need no sorting.
    bound = (1 - share) / probs_RV.shape[-1]
    rows = [row[row >= bound].double().sort(descending=True).values.cumsum(0) for row in probs_RV]
    sizes_R = torch.tensor([min(int((row < share).sum()) + 1, len(row)) for row in rows], dtype=torch.float64)
    return sizes_R.masked_fill(probs_RV.isnan().any(-1).cpu(), torch.nan)


def draw(probs_BV: Tensor, noise_BV: Tensor) -> Tensor:
    """One token per row, shape (B,): argmax of p/e with e ~ Exp(1), which is the Gumbel-max draw without logarithms.

    With the noise fixed by position, every way of computing the same logits draws the same tokens.

    Reference: Maddison 2014 (Gumbel-max); the exponential race is its monotone image.
    """
    # A draw of exactly 0 (about one in 10⁸) would give 0/0 for an excluded token.
    return (probs_BV / noise_BV.clamp_min(1e-30)).argmax(-1)
