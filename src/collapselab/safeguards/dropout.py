"""`dropout`: a control."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from collapselab.config.safeguards.on_objective import Dropout as Settings
from collapselab.randomness import rng
from collapselab.safeguards.base import Safeguard, Shared, replaced
from collapselab.step.batches import Batch
from collapselab.step.learner import Learner, TokenLosses


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Attention and feed-forward part of each layer: what has a matrix among the children of the longest list."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    children = [child for layer in layers for child in layer.children()]
    return [child for child in children if any(p.dim() == 2 for p in child.parameters())]


class Dropout(Safeguard):
    """The plain loss of a further forward pass, in which outputs of each block are dropped with probability `rate`.

    What is left is divided by 1 − rate. The model writes and is evaluated without dropout, and `train_nll_nats` is that
    of the pass without it. Costs a forward pass.

    Source: Srivastava 2014; here a control, for noise in the update.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._rate = settings.rate
        self._blocks = blocks_of(shared.parts.learner.loaded.model)

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        seed = int(rng(learner.config.seed, "safeguard", step).integers(2**62))
        generator = torch.Generator().manual_seed(seed)

        def drop(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):  # of attention, with its weights
                first, *others = cast(tuple[Any, ...], output)
                return (drop(_module, _inputs, first), *others)
            is_kept = (torch.rand(output.shape, generator=generator) >= self._rate).to(output.device)
            return output * is_kept / (1 - self._rate)

        hooks = [block.register_forward_hook(drop) for block in self._blocks]
        try:
            thinned = learner.nll_again(Batch(losses.inputs_BT, losses.targets_BT)).mean
        finally:
            for hook in hooks:
                hook.remove()
        return replaced(objective, losses, thinned)
