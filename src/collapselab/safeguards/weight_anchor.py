"""`weight-anchor` and `neon`: the weights relative to the first ones."""

from __future__ import annotations

import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.on_weights import Neon as NeonSettings
from collapselab.config.safeguards.on_weights import WeightAnchor as Settings
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner

NUM_BATCHES = 16


def gradient_rms(learner: Learner, shared: Shared) -> dict[str, Tensor]:
    """RMS_j of the gradients of 16 windows of real text under the current weights, by the name of the parameter."""
    parameters = dict(learner.loaded.model.named_parameters())
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for i in range(NUM_BATCHES):
        loss = learner.nll_again(shared.real_batch(i, 1)).mean
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        for square, gradient in zip(squares.values(), gradients, strict=True):
            square += gradient**2 / NUM_BATCHES
    return {name: square.sqrt() for name, square in squares.items()}


class WeightAnchor(Safeguard):
    """θ ← θ + λ·min(r_j, 1/λ)·(θ_0 − θ) after each update, with r_j = RMS_j / the mean RMS over all weights.

    RMS_j is measured once, before the run, by `gradient_rms` (16 forward and backward passes, not in the records);
    `equal` puts r = 1, which is decay to the start. Costs nothing at a step.

    Source: the decay of dynamic evaluation, Krause 2018. Their update is SGD divided by RMS + ε; beside AdamW it is
    another method, with the same pull back. They measured loss on the text that is read, not on one's own.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        learner, strength = shared.parts.learner, settings.strength
        self._start = learner.snapshot()
        relative = {name: torch.ones_like(p) for name, p in self._start.items()}
        if settings.importance == "rms":
            rms = gradient_rms(learner, shared)
            mean = sum(float(r.double().sum()) for r in rms.values()) / sum(r.numel() for r in rms.values())
            relative = {name: r / mean for name, r in rms.items()}
        self._pull = {name: strength * r.clamp_max(1 / strength) for name, r in relative.items()}

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        learner.assign({name: p + self._pull[name] * (self._start[name] - p) for name, p in learner.weights().items()})


class Neon(Safeguard):
    """Every m steps θ ← θ_0 − w·(θ_t − θ_0): a step away from what self-training does. Costs nothing.

    Source: Neon (2510.03597) does it once, after training an image model on its own samples; predicted to improve the
    loss on human text where sampling sharpens, and to harm where it flattens. To repeat it and train on is ours.
    """

    def __init__(self, settings: NeonSettings, shared: Shared) -> None:
        assert settings.every is not None
        self._w, self._every = settings.w, settings.every
        self._start = shared.parts.learner.snapshot()

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        if (step + 1) % self._every == 0:
            now = learner.weights()
            learner.assign({name: start - self._w * (now[name] - start) for name, start in self._start.items()})
