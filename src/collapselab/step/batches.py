"""One update: from sequences to a batch, its loss, and the optimiser's step.

Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from collapselab.config.schema import Optimizer, Training
from collapselab.engine.adamw import adamw_step, can_step
from collapselab.engine.rounded import RoundedModel
from collapselab.step.lora import Adapters

IGNORED = -100  # target value of positions without a loss: padding, and the prompt unless `prompt_in_loss`


@dataclass(frozen=True)
class Batch:
    """Inputs and targets, shape (B, T); a target is the token after its input, or `IGNORED`."""

    inputs_BT: Tensor
    targets_BT: Tensor


@dataclass(frozen=True)
class StepStats:
    """Norms of one update: of the gradient before clipping, of the weights' change, and of the weights before it."""

    grad_norm: float
    update_norm: float
    weight_norm: float

    @property
    def relative_update_norm(self) -> float | None:
        return self.update_norm / self.weight_norm if self.weight_norm else None


def make_batch(
    sequences: Sequence[Sequence[int]],
    num_prompt: int,
    settings: Training,
    windows: Sequence[np.random.Generator],
    device: torch.device | str = "cpu",
) -> Batch:
    """The training batch of prompts and samples.

    Args:
        sequences: prompt and sample of each sequence, as token ids.
        num_prompt: length of the prompt, which is only context unless `prompt_in_loss`.
        settings: `window`, `prompt_in_loss`.
        windows: a generator for each sequence, which draws its random block of `window` targets.
        device: where the tensors are.

    The first token of a sequence has no context and is never a target.
    """
    first_target = 1 if settings.prompt_in_loss else max(1, num_prompt)
    # A sequence that became shorter than its prompt through re-encoding keeps its last token as a target.
    rows = [
        _row(list(s), min(first_target, len(s) - 1), settings.window, g)
        for s, g in zip(sequences, windows, strict=True)
    ]
    longest = max(len(inputs) for inputs, _ in rows)
    inputs_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    targets_BT = torch.full((len(rows), longest), IGNORED)
    for b, (inputs, targets) in enumerate(rows):
        inputs_BT[b, : len(inputs)] = torch.tensor(inputs)
        targets_BT[b, : len(targets)] = torch.tensor(targets)
    return Batch(inputs_BT.to(device), targets_BT.to(device))


def _row(
    ids: list[int], first_target: int, window: int | None, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """(inputs, targets) of one sequence: all of it, or a block of `window` inputs, each with its next token."""
    first_input, num_targets = 0, len(ids) - first_target
    if window is not None and len(ids) - 1 > window:
        # If there are fewer targets than the block is long, it ends with them and begins in the prompt.
        places = num_targets - window + 1
        first_input = first_target - 1 + int(generator.integers(0, places)) if places > 0 else len(ids) - 1 - window
        ids = ids[first_input : first_input + window + 1]
    targets = [t if first_input + i + 1 >= first_target else IGNORED for i, t in enumerate(ids[1:])]
    return ids[:-1], targets


def make_optimizer(
    model: PreTrainedModel, settings: Optimizer, adapters: Adapters | None = None
) -> torch.optim.Optimizer:
    """The optimiser, of the adapters if there are some; weight decay acts on matrices only, as in nanoGPT."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if adapters is not None:
        parameters = list(adapters.parameters.values())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def update(
    optimizer: torch.optim.Optimizer,
    objective: Tensor,
    clip: float | None,
    rounded: RoundedModel | None = None,
    kernels: Any = None,
    adapters: Adapters | None = None,
) -> StepStats:
    """Takes one step down the gradient of `objective`, clipped to norm `clip`; in the C `kernels` where possible.

    With `adapters` the gradient is that of theirs, and the change that of the matrices they make.
    """
    objective.backward()
    if adapters is not None:
        gradients = adapters.gradients(None if rounded is None else rounded.gradients())
    elif rounded is not None:
        gradients = rounded.gradients()
    else:
        parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = {p: p.grad for p in parameters if p.grad is not None}
    if kernels is not None and can_step(optimizer):
        stats = StepStats(*adamw_step(kernels, optimizer, gradients, clip))
    else:
        stats = _step(optimizer, gradients, clip)
    optimizer.zero_grad(set_to_none=True)
    return stats if adapters is None else StepStats(stats.grad_norm, *adapters.apply())


def _step(optimizer: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor], clip: float | None) -> StepStats:
    for p, gradient in gradients.items():
        p.grad = gradient.to(p.dtype)
    grad_norm = torch.nn.utils.clip_grad_norm_(list(gradients), torch.inf if clip is None else clip)
    before = [p.detach().clone() for p in gradients]
    optimizer.step()
    with torch.no_grad():
        changes = [p - old for p, old in zip(gradients, before, strict=True)]
        update_norm, weight_norm = (torch.nn.utils.get_total_norm(t) for t in (changes, before))
    return StepStats(float(grad_norm), float(update_norm), float(weight_norm))
