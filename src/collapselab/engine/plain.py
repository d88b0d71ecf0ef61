"""The plain path: the `transformers` module as it is, for every causal language model. The others must equal it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

from collapselab.config.schema import Sampling
from collapselab.engine.interface import Draw
from collapselab.engine.sampling import distribution, draw, nucleus_sizes, penalised

ROWS_PER_CHUNK = 128  # rows of logits turned into losses at a time: 26 MB at 50,000 words


class PlainEngine:
    """Forward passes of the module with a growing cache. It writes and evaluates in float32 only.

    (Autocast would round the weights to the nearest bfloat16, which hides the effect of self-training.)
    """

    name = "plain"
    is_ragged = False

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        self._cache: Any = None
        # Mamba and RWKV keep a different kind of state; they read the whole text again for each token.
        self._has_cache = "past_key_values" in inspect.signature(self._model.forward).parameters
        self._num_read = 0
        self._so_far: list[list[int]] = []

    def weights_changed(self) -> None:
        """Nothing is kept: each forward pass reads the module's weights."""

    def begin(self, num_sequences: int, length: int) -> None:
        self._cache = DynamicCache(config=self._model.config)
        self._num_read, self._so_far = 0, [[] for _ in range(num_sequences)]

    @torch.no_grad()
    def read(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], *, last_only: bool = False) -> Tensor:
        assert set(starts) == {self._num_read}, (starts, self._num_read)
        self._num_read += len(tokens[0])
        if not self._has_cache:
            return self._read_again(tokens, last_only)
        tokens_BT = torch.tensor([list(t) for t in tokens], device=self._model.device)
        kept = {"logits_to_keep": 1} if last_only else {}
        logits_BTV = self._model(input_ids=tokens_BT, past_key_values=self._cache, use_cache=True, **kept).logits
        return (logits_BTV[:, -1:] if last_only else logits_BTV).flatten(0, 1).float()

    def _read_again(self, tokens: Sequence[Sequence[int]], last_only: bool) -> Tensor:
        self._so_far = [[*ids, *new] for ids, new in zip(self._so_far, tokens, strict=True)]
        tokens_BT = torch.tensor(self._so_far, device=self._model.device)
        logits_BTV = self._model(input_ids=tokens_BT, use_cache=False).logits
        return logits_BTV[:, -1 if last_only else -len(tokens[0]) :].flatten(0, 1).float()

    def reread(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        self.begin(len(tokens), len(tokens[0]))
        return self.read(tokens, [0] * len(tokens), last_only=True)

    def draw(self, logits_RV: Tensor, noise_RV: Tensor, rule: Sampling) -> list[Draw]:
        return draw_plainly(logits_RV, noise_RV, rule)

    def write(self, token: int, position: int, noise_RV: Tensor, rule: Sampling, stop_token: int | None) -> list[Draw]:
        return []

    @torch.no_grad()
    def score(self, tokens_BT: Tensor, num_context: int) -> Tensor:
        logits_BTV = self._model(input_ids=tokens_BT.to(self._model.device), use_cache=False).logits
        targets_BT = tokens_BT[:, num_context:].to(self._model.device)
        return (
            nll_of_logits(logits_BTV[:, num_context - 1 : -1].flatten(0, 1), targets_BT.flatten())
            .view_as(targets_BT)
            .cpu()
        )


def draw_plainly(
    logits_RV: Tensor, noise_RV: Tensor, rule: Sampling, histories: Sequence[Sequence[int]] | None = None
) -> list[Draw]:
    """The definition of a draw and its measures, in torch; `histories`: the tokens before, if the rule looks back."""
    ruled_RV = logits_RV if histories is None else penalised(logits_RV, histories, rule)
    logp_RV, q_RV = logits_RV.log_softmax(-1), distribution(ruled_RV, rule)
    tokens_R = draw(q_RV, noise_RV.to(logits_RV.device))
    gap_RV = q_RV.log() - logp_RV  # -infinity for tokens that q excludes, which count as 0 in the mean
    of_token = partial(torch.gather, dim=-1, index=tokens_R[:, None])
    p_RV = logp_RV.exp()
    measures = (
        -of_token(logp_RV)[:, 0],
        -(p_RV * logp_RV).sum(-1),
        torch.where(q_RV > 0, q_RV * gap_RV, 0.0).sum(-1),
        of_token(gap_RV)[:, 0],
        p_RV.amax(-1),
        nucleus_sizes(p_RV).to(p_RV),
    )
    tokens, rows = cast(list[int], tokens_R.tolist()), cast(list[list[float]], torch.stack(measures, -1).tolist())
    return [Draw(token, *row) for token, row in zip(tokens, rows, strict=True)]


def nll_of_logits(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """-log p of each target, (R,), in float32, a few rows at a time."""
    chunks = [slice(begin, begin + ROWS_PER_CHUNK) for begin in range(0, len(targets_R), ROWS_PER_CHUNK)]
    parts = [cross_entropy(logits_RV[c].float(), targets_R[c], reduction="none") for c in chunks]
    return torch.cat(parts)
