"""`trust-stop`: no update may lead far from the untouched model."""

from __future__ import annotations

import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.on_weights import TrustStop as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.safeguards.kl_anchor import kl_nats
from collapselab.step.learner import Learner, TokenLosses

NUM_CONTEXTS, MAX_TOKENS = 4, 128
MAX_HALVINGS = 8


class TrustStop(Safeguard):
    """Shrinks or skips an update after which KL(p_0‖p_t) exceeds δ, or δ·(t + 1)/n.

    The KL is the mean over four fixed windows of real text (128 tokens, or the context). `shrink`: the update is halved
    until the bound holds, up to eight times, and then undone; `skip`: undone at once. The optimiser keeps its state.
    Costs four forward passes, and as many for each halving.

    Source: ours; the bound is that of TRPO (Schulman 2015), for a policy and its last update.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        assert settings.delta is not None
        self._settings, self._delta = settings, settings.delta
        learner = shared.parts.learner
        windows = shared.real(0, NUM_CONTEXTS, min(MAX_TOKENS, learner.context_length))
        self._contexts_BT = torch.tensor(windows, device=learner.loaded.model.device)
        self._start_BTV = learner.logits(self._contexts_BT)
        self._before: dict[str, Tensor] = {}
        self._share, self._kl_nats = 1.0, 0.0

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        if not self._before:  # the first of the step's updates
            self._before = learner.snapshot()
        return objective

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        before, after = self._before, learner.snapshot()
        self._before = {}
        bound = self._delta if self._settings.steps is None else self._delta * (step + 1) / self._settings.steps
        halvings = MAX_HALVINGS if self._settings.action == "shrink" else 0
        for share in (*(0.5**i for i in range(halvings + 1)), 0.0):
            if share < 1:
                learner.assign({name: p + share * (after[name] - p) for name, p in before.items()})
            self._share, self._kl_nats = share, self._kl(learner)
            if self._kl_nats <= bound:
                return

    def _kl(self, learner: Learner) -> float:
        return kl_nats(self._start_BTV, learner.logits(self._contexts_BT)).item()

    def values(self) -> dict[str, Value]:
        return {"kl_start_nats": self._kl_nats, "step_share": self._share}
