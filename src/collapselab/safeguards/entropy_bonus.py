"""`entropy-bonus`: a reward for predictions that are spread."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.on_objective import EntropyBonus as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner, TokenLosses

ADAPTED_BY = 0.005


class EntropyBonus(Safeguard):
    """L − η·mean H(p_t) over the targets; adaptive: after each step η ± 0.005 within [0, 1].

    η rises while the mean entropy is below `target` times that of step 0, and falls while it is above. Costs nothing.

    Source: Skywork-OR1 (2505.22312) keeps the entropy of a policy above a target in nats while it learns from rewards;
    TRL's default target is 0.2 nats, and off. A target relative to the start is ours.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings = settings
        self._eta: float = settings.eta
        self._entropy_at_0: float | None = None
        self._entropy: float | None = None

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        logp_NV = losses.logits_NV.log_softmax(-1)
        entropy = -(logp_NV.exp() * logp_NV).sum(-1).mean()
        self._entropy = entropy.item()
        if self._entropy_at_0 is None:
            self._entropy_at_0 = self._entropy
        return objective - self._eta * entropy

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        if self._settings.adaptive:
            assert self._entropy is not None and self._entropy_at_0 is not None
            is_low = self._entropy < self._settings.target * self._entropy_at_0
            self._eta = min(1.0, max(0.0, self._eta + (ADAPTED_BY if is_low else -ADAPTED_BY)))

    def values(self) -> dict[str, Value]:
        return {"model_entropy_nats": self._entropy, "entropy_weight": self._eta}

    def tensors(self) -> dict[str, Tensor]:
        return {"state": torch.tensor([self._eta, self._entropy_at_0 or 0.0], dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._eta, self._entropy_at_0 = (float(value) for value in tensors["state"])
