"""`kl-anchor`: predictions stay near those of the untouched model."""

from __future__ import annotations

from torch import Tensor

from collapselab.config.safeguards.on_objective import KlAnchor as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner, TokenLosses


def kl_nats(logits_NV: Tensor, other_NV: Tensor) -> Tensor:
    """The mean of KL(p‖q) over positions, in nats, of the softmax p of one and q of other logits; a scalar."""
    logp_NV, logq_NV = logits_NV.log_softmax(-1), other_NV.log_softmax(-1)
    return (logp_NV.exp() * (logp_NV - logq_NV)).sum(-1).mean()


class KlAnchor(Safeguard):
    """L + β·mean KL(p_t‖p_0), or KL(p_0‖p_t), over the whole vocabulary at each position of fixed contexts.

    Contexts: the training batch's own, or fresh windows of real text. Costs a forward pass of θ_0 for each sequence,
    and one of θ_t with its backward pass on real contexts.

    Source: the on-policy form of GKD (Agarwal 2024), with θ_0 for the teacher and without a gradient through the
    sampling; they distil, and do not measure collapse. The KL reached is recorded as `kl_start_nats`.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._start = shared.parts.learner.copy()
        self._kl_nats: float | None = None

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        if self._settings.contexts == "real":
            losses = learner.nll_again(self._shared.real_batch(step, len(losses.targets_BT)))
        start_NV = self._start.logits(losses.inputs_BT)[losses.is_target_BT]
        now_NV = losses.logits_NV
        pair = (now_NV, start_NV) if self._settings.direction == "now-start" else (start_NV, now_NV)
        kl = kl_nats(*pair)
        self._kl_nats = kl.item()
        return objective + self._settings.beta * kl

    def values(self) -> dict[str, Value]:
        return {"kl_start_nats": self._kl_nats}
