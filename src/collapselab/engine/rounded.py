"""Training in bfloat16: matrices rounded at random, gradients in bfloat16, weights and optimiser state in float32."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from collapselab.engine.numerics import round_at_random
from collapselab.errors import InputError


class RoundedModel:
    """A model whose forward pass reads bfloat16 copies of its matrices, made again for every pass.

    The gradients appear on the copies (`gradients`), at half the size of float32. Embeddings are looked up in
    float32, which keeps the residual stream in float32; only the rows looked up get a gradient from it. Autocast alone
    would round the weights to nearest, convert every gradient, and fill a dense gradient for the embedding.
    """

    def __init__(self, model: PreTrainedModel, kernels: Any) -> None:
        self._model: Any = model
        self._kernels = kernels
        self._embedding = cast(nn.Embedding, model.get_input_embeddings()).weight
        lookups = [id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)]
        head = cast(nn.Linear, model.get_output_embeddings())
        self._copies = {
            name: torch.empty_like(p, dtype=torch.bfloat16).requires_grad_()
            for name, p in model.named_parameters()
            if p.dim() == 2 and p.requires_grad and (id(p) not in lookups or p is head.weight)
        }
        self._check_lookup()

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) with their graph."""
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, copy in self._copies.items():
                copy.grad = None
                self._round(parameters[name], copy)
        self._tokens = tokens_BT.flatten()
        self._looked_up = self._embedding.detach()[tokens_BT].requires_grad_()
        arguments = {"inputs_embeds": self._looked_up, "use_cache": False}
        with torch.autocast(tokens_BT.device.type, dtype=torch.bfloat16):
            return torch.func.functional_call(self._model, self._copies, kwargs=arguments).logits

    def gradients(self) -> dict[Tensor, Tensor]:
        """The gradient of each parameter after the backward pass, with what float32 passes left on it."""
        found: dict[Tensor, Tensor] = {}
        for name, p in self._model.named_parameters():
            copy = self._copies.get(name)
            gradient = p.grad if copy is None else copy.grad
            if copy is not None and p.grad is not None:
                gradient = p.grad if copy.grad is None else p.grad + copy.grad
            if p is self._embedding and p.requires_grad and self._looked_up.grad is not None:
                gradient = torch.zeros_like(p) if gradient is None else gradient
                gradient.index_add_(0, self._tokens, self._looked_up.grad.flatten(0, 1).to(gradient.dtype))
            if gradient is not None:
                found[p] = gradient
        return found

    @torch.no_grad()
    def _check_lookup(self) -> None:
        """Refuses a model that does more with its tokens than to look them up (Gemma scales what it finds)."""
        tokens_BT = torch.arange(min(16, len(self._embedding)), device=self._embedding.device)[None]
        plain_BTV = self._model(input_ids=tokens_BT, use_cache=False).logits
        ours_BTV = self._model(inputs_embeds=self._embedding[tokens_BT], use_cache=False).logits
        if (plain_BTV - ours_BTV).abs().max() > 1e-4 * plain_BTV.abs().max():
            raise InputError(
                f"numerics.update bfloat16 does not support {type(self._model).__name__}: it changes its embeddings",
                "use `**{\"numerics.update\": 'float32'}`",
            )

    def _round(self, weight: Tensor, copy: Tensor) -> None:
        if self._kernels is None or weight.device.type != "cpu":
            copy.copy_(round_at_random(weight))
        else:
            threads = torch.get_num_threads()
            self._kernels.round_weights(weight.data_ptr(), copy.data_ptr(), weight.numel(), threads)
