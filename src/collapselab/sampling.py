"""From logits to the next token: pure functions, then `generate`.

Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from collapselab.config import Sampling


def distribution(logits_BV: Tensor, rule: Sampling) -> Tensor:
    """The sampling distribution q, shape (B, V): temperature, then top-k, top-p, min-p, renormalised; or greedy.

    Ties at a threshold are kept, so a rule may keep a few tokens more than asked for. Greedy is a one-hot
    distribution on the first of the likeliest tokens.

    Reference: Holtzman 2020 (top-p), Fan 2018 (top-k), Nguyen 2024 (min-p); the order is that of `transformers`.
    """
    if rule.greedy:
        return torch.nn.functional.one_hot(logits_BV.argmax(-1), logits_BV.shape[-1]).to(logits_BV.dtype)
    scaled_BV = logits_BV / rule.temperature
    if rule.top_k is not None and rule.top_k < scaled_BV.shape[-1]:
        smallest_B1 = scaled_BV.topk(rule.top_k, dim=-1).values[:, -1:]
        scaled_BV = scaled_BV.masked_fill(scaled_BV < smallest_B1, -torch.inf)
    probs_BV = scaled_BV.softmax(-1)
    if rule.top_p is not None and rule.top_p < 1:
        probs_BV = _keep_top_p(probs_BV, rule.top_p)
    if rule.min_p is not None:
        probs_BV = probs_BV.masked_fill(probs_BV < rule.min_p * probs_BV.amax(-1, keepdim=True), 0.0)
    return probs_BV / probs_BV.sum(-1, keepdim=True)


def _keep_top_p(probs_BV: Tensor, top_p: float) -> Tensor:
    sorted_BV, order_BV = torch.sort(probs_BV, dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.cumsum(-1) - sorted_BV
    kept_BV = sorted_BV.masked_fill(before_BV >= top_p, 0.0)
    return torch.zeros_like(probs_BV).scatter(-1, order_BV, kept_BV)


def draw(probs_BV: Tensor, noise_BV: Tensor) -> Tensor:
    """One token a row, shape (B,): argmax of p/e with e ~ Exp(1), which is the Gumbel-max draw without logarithms.

    With the noise fixed by position, every way of computing the same logits draws the same tokens.

    Reference: Maddison 2014 (Gumbel-max); the exponential race is its monotone image.
    """
    # A draw of exactly 0 (one in some 10⁸) would make 0/0 of an excluded token.
    return (probs_BV / noise_BV.clamp_min(1e-30)).argmax(-1)


@dataclass(frozen=True)
class Generated:
    """What a model wrote.

    `token_ids`: a sequence each, without the prompt, with the end-of-text token if generation stopped there.
    `nll_nats`, `entropy_nats`: a mean each, of -log p(token) and of the entropy of p (temperature 1, untruncated).
    """

    token_ids: list[list[int]]
    nll_nats: list[float]
    entropy_nats: list[float]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    rule: Sampling,
    noise: Sequence[np.random.Generator],
    *,
    max_new_tokens: int,
    context: int,
    stop_token: int | None = None,
) -> Generated:
    """`max_new_tokens` tokens after each prompt.

    Args:
        model: a causal language model in evaluation mode.
        prompts: B token sequences of one length.
        rule: from logits to the sampling distribution.
        noise: a generator for each sequence; position i of a sequence uses the i-th block of V draws, so a sequence
            does not depend on the others in its batch.
        max_new_tokens: length of each sequence.
        context: positions the model sees. Up to it the keys and values are cached; past it the oldest tokens fall
            out, positions are numbered anew, and each token is a full forward pass.
        stop_token: end a sequence after this token; `None` continues.
    """
    assert len(prompts) == len(noise) and len({len(p) for p in prompts}) == 1, (len(prompts), len(noise))
    tokens_BT = torch.tensor([list(p) for p in prompts], device=model.device)
    num_prompt, cache = tokens_BT.shape[1], DynamicCache(config=model.config)
    nll_BT: list[Tensor] = []
    entropy_BT: list[Tensor] = []
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    for _ in range(max_new_tokens):
        logits_BV = _next_logits(model, tokens_BT, cache, context)
        logp_BV = logits_BV.log_softmax(-1)
        vocab = logits_BV.shape[-1]
        noise_BV = torch.from_numpy(np.stack([g.standard_exponential(vocab, dtype=np.float32) for g in noise]))
        next_B = draw(distribution(logits_BV, rule), noise_BV.to(model.device))
        nll_BT.append(-logp_BV.gather(-1, next_B[:, None])[:, 0])
        entropy_BT.append(-(logp_BV.exp() * logp_BV).sum(-1))
        tokens_BT = torch.cat([tokens_BT, next_B[:, None]], 1)
        if stop_token is not None:
            ended_B |= next_B == stop_token
            if bool(ended_B.all()):
                break
    return _cut(tokens_BT[:, num_prompt:], torch.stack(nll_BT, 1), torch.stack(entropy_BT, 1), stop_token)


def _next_logits(model: PreTrainedModel, tokens_BT: Tensor, cache: DynamicCache, context: int) -> Tensor:
    """Logits after the last token, shape (B, V), in float32."""
    if tokens_BT.shape[1] > context:
        return model(input_ids=tokens_BT[:, -context:], use_cache=False, logits_to_keep=1).logits[:, -1].float()
    unread_BT = tokens_BT[:, cache.get_seq_length() :]
    return model(input_ids=unread_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()


def _cut(tokens_BT: Tensor, nll_BT: Tensor, entropy_BT: Tensor, stop_token: int | None) -> Generated:
    rows = cast(list[list[int]], tokens_BT.tolist())
    lengths = [row.index(stop_token) + 1 if stop_token is not None and stop_token in row else len(row) for row in rows]
    return Generated(
        token_ids=[row[:n] for row, n in zip(rows, lengths, strict=True)],
        nll_nats=[row[:n].double().mean().item() for row, n in zip(nll_BT, lengths, strict=True)],
        entropy_nats=[row[:n].double().mean().item() for row, n in zip(entropy_BT, lengths, strict=True)],
    )
