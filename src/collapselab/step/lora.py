"""Low-rank adapters: only the product of two thin matrices is learned beside each matrix of the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from collapselab.randomness import rng


class Adapters:
    """W = W_0 + B·A for each matrix of attention and feed-forward parts; embeddings, norms and biases stay.

    For a matrix (out, in): A (r, in) begins uniform in ±1/√in, B (out, r) at zero, so that W begins as W_0. W itself is
    in the model, so that engines, evaluation and checkpoints see an ordinary model: the gradients of A and B are made
    from that of W, which is the same by the chain rule as if A and B had been in the forward pass.

    Reference: Hu 2021 (LoRA), with α = r; Jazancort confounds the rank with the learning rate, so compare at equal path
    length.
    """

    def __init__(self, model: PreTrainedModel, rank: int, seed: int) -> None:
        self._model = model
        head = cast("nn.Module | None", model.get_output_embeddings())
        heads = set[int]() if head is None else {id(p) for p in head.parameters()}
        body: nn.Module = model
        self._matrices: dict[str, tuple[Tensor, bool]] = {
            f"{name}.weight": (module.weight, isinstance(module, Conv1D))
            for name, module in cast("Iterator[tuple[str, nn.Module]]", body.named_modules())
            if isinstance(module, (nn.Linear, Conv1D)) and id(module.weight) not in heads
        }
        assert self._matrices, f"{type(model).__name__} has no matrix to adapt"
        self._first = {name: w.detach().clone() for name, (w, _) in self._matrices.items()}
        self.parameters: dict[str, Tensor] = {}
        for i, (name, (w, is_in_out)) in enumerate(self._matrices.items()):
            num_in, num_out = w.shape if is_in_out else w.shape[::-1]
            bound = 1 / math.sqrt(num_in)
            drawn = torch.from_numpy(rng(seed, "adapters", 0, i).uniform(-bound, bound, (rank, num_in)))
            self.parameters[f"{name}|lora_a"] = drawn.float().to(w.device)
            self.parameters[f"{name}|lora_b"] = torch.zeros(num_out, rank, device=w.device)

    def gradients(self, of_weights: Mapping[Tensor, Tensor] | None = None) -> dict[Tensor, Tensor]:
        """The gradients of A and B from those of the matrices, Bᵀ·G and G·Aᵀ; clears the model's gradients.

        `of_weights`: by parameter; by default what backward passes left on the model.
        """
        found: dict[Tensor, Tensor] = {}
        for name, (w, is_in_out) in self._matrices.items():
            gradient = w.grad if of_weights is None else of_weights.get(w)
            if gradient is not None:
                a, b = self._pair(name)
                g = gradient.float()
                g = g.T if is_in_out else g
                found |= {a: (b.T @ g).contiguous(), b: (g @ a.T).contiguous()}
        self._model.zero_grad(set_to_none=True)
        return found

    @torch.no_grad()
    def apply(self) -> tuple[float, float]:
        """Puts the matrices to W_0 + B·A; the norms of the change and of the matrices before it."""
        changes: list[Tensor] = []
        before = [w.detach().clone() for w, _ in self._matrices.values()]
        for (name, (w, is_in_out)), old in zip(self._matrices.items(), before, strict=True):
            a, b = self._pair(name)
            product = b @ a
            w.copy_(self._first[name] + (product.T if is_in_out else product))
            changes.append(w.detach() - old)
        norm = torch.nn.utils.get_total_norm
        return float(norm(changes)), float(norm(before))

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.parameters[f"{name}|lora_a"], self.parameters[f"{name}|lora_b"]
