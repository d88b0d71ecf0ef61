"""bfloat16 copies of weights that do not lose small updates."""

from __future__ import annotations

import torch
from torch import Tensor


def round_at_random(weight: Tensor) -> Tensor:
    """A float32 tensor in bfloat16, each value rounded up or down with the probabilities that make the mean exact.

    Rounding to nearest loses an update smaller than half a unit in the last place, and over a run of self-training
    this bias reaches hundredths of a nat of validation loss (docs/performance.md). The random bits are a hash of the
    position in the tensor, so equal weights are rounded alike at every step, on every machine, and by the C kernels.

    Reference: Forsythe 1950 (stochastic rounding); the hash follows Jenkins's finalisers.
    """
    bits = weight.contiguous().view(torch.int32)
    place = torch.arange(bits.numel(), device=weight.device, dtype=torch.int64).view_as(bits)
    h = (place * 0x9E3779B1) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x85EBCA77) & 0xFFFFFFFF
    noise = ((h ^ (h >> 13)) & 0xFFFF).to(torch.int32)
    noise = torch.where(weight.isfinite(), noise, 0)
    return ((bits + noise) >> 16).to(torch.int16).view(torch.bfloat16)
