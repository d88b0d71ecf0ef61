"""AdamW in the C kernels: gradient norm, clipping, moments, weights and the norm of their change in two passes."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor


def can_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `adamw_step` can take this optimiser's step: AdamW on float32 weights on the CPU."""
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    return type(optimizer) is torch.optim.AdamW and all(
        p.device.type == "cpu" and p.dtype == torch.float32 and p.is_contiguous() for p in tensors
    )


@torch.no_grad()
def adamw_step(
    library: Any, optimizer: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor], clip: float | None
) -> tuple[float, float, float]:
    """Takes the step of `clip_grad_norm_` and `optimizer.step()`; the norms of gradient, change and weights before it.

    Gradients are float32 or bfloat16. The optimiser's state is that of `torch.optim.AdamW`, whichever of the two took
    the earlier steps.
    """
    threads = torch.get_num_threads()
    squares: list[float] = []
    for g in gradients.values():
        assert g.is_contiguous(), g.stride()
        squares.append(library.sum_of_squares(g.data_ptr(), g.dtype == torch.bfloat16, g.numel(), threads))
    grad_norm = math.sqrt(math.fsum(squares))
    scale = 1.0 if clip is None or not clip / (grad_norm + 1e-6) < 1 else clip / (grad_norm + 1e-6)
    sums = (ctypes.c_double * 2)()
    for group, p in [(g, p) for g in optimizer.param_groups for p in g["params"] if p in gradients]:
        state, gradient = cast(dict[str, Any], optimizer.state[p]), gradients[p]
        if not state:
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for moment in (state["exp_avg"], state["exp_avg_sq"]):
            assert moment.shape == p.shape == gradient.shape, (moment.shape, p.shape, gradient.shape)
            assert moment.dtype == torch.float32 and moment.is_contiguous(), (moment.dtype, moment.stride())
        state["step"] += 1
        library.adamw(
            p.data_ptr(),
            gradient.data_ptr(),
            gradient.dtype == torch.bfloat16,
            state["exp_avg"].data_ptr(),
            state["exp_avg_sq"].data_ptr(),
            p.numel(),
            scale,
            group["lr"],
            *group["betas"],
            group["eps"],
            group["weight_decay"],
            state["step"].item(),
            sums,
            threads,
        )
    torch.autograd.graph.increment_version(list(gradients))  # so that autograd refuses graphs of the old weights
    return grad_norm, math.sqrt(sums[0]), math.sqrt(sums[1])
