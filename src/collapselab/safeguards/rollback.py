"""`rollback`: what can be done once a model has collapsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from collapselab.collapse.course import ONSET_SHARE, CollapseState
from collapselab.config.safeguards.on_weights import Rollback as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.sources import TrainingText


class Rollback(Safeguard):
    """Acts once, `past` steps after the step at which onset is known (it is found some steps earlier).

    `restore`: after that step the weights are again those of the last copy, one of which is made every `every` steps at
    which no sample of the window is degenerate (the first is θ_0); the optimiser forgets. `negate`: at each of the next
    `steps` steps θ ← θ_t − α·(θ_{t+1} − θ_t). `real`: the next `steps` steps train on windows of real text. `repeat`:
    again whenever 3/4 of the window are degenerate, `collapse.window` steps after the last time or later. Costs memory.

    Source: ours. Recovery against `past` shows hysteresis: whether what helps early still helps late.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._healthy = shared.parts.learner.snapshot() if settings.remedy == "restore" else {}
        self._known_at: int | None = None
        self._begun_at: int | None = None
        self._before: dict[str, Tensor] = {}
        self._acted = False

    def _acts(self, step: int) -> bool:
        """Whether this is one of the steps that are negated or train on real text."""
        return self._begun_at is not None and 0 < step - self._begun_at <= self._settings.steps

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        self._acted = self._acts(step) and self._settings.remedy != "restore"
        if not self._acted or self._settings.remedy != "real":
            return text
        n = text.num_prompt
        windows = self._shared.real(step, len(text.samples), n + self._shared.parts.config.generate.max_new_tokens)
        return replace(text, prompts=[ids[:n] for ids in windows], samples=[ids[n:] for ids in windows])

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        if self._acted and self._settings.remedy == "negate" and not self._before:
            self._before = learner.snapshot()
        return objective

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        if self._before:
            now, alpha = learner.weights(), self._settings.alpha
            learner.assign({name: p - alpha * (now[name] - p) for name, p in self._before.items()})
            self._before = {}
        if self._known_at is None and state.onset_step is not None:
            self._known_at = step
        if self._is_due(step, state):
            self._begun_at = step
            if self._settings.remedy == "restore":
                learner.assign(self._healthy)
                learner.forget()
                self._acted = True
        elif self._healthy and step % self._settings.every == 0 and not state.degenerate_share:
            self._healthy = learner.snapshot()

    def _is_due(self, step: int, state: CollapseState) -> bool:
        if self._known_at is None or step < self._known_at + self._settings.past:
            return False
        if self._begun_at is None:
            return True
        lasted = 0 if self._settings.remedy == "restore" else self._settings.steps
        rested = step >= self._begun_at + lasted + self._shared.parts.config.collapse.window
        return self._settings.repeat and rested and (state.degenerate_share or 0.0) >= ONSET_SHARE

    def values(self) -> dict[str, Value]:
        return {"rolled_back": self._acted}

    def tensors(self) -> dict[str, Tensor]:
        steps = {"known_at": self._known_at, "begun_at": self._begun_at}
        known = {name: torch.tensor(step) for name, step in steps.items() if step is not None}
        return known | {f"healthy|{name}": p for name, p in self._healthy.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._known_at, self._begun_at = (int(tensors[n]) if n in tensors else None for n in ("known_at", "begun_at"))
        self._healthy = {n.partition("|")[2]: p for n, p in tensors.items() if n.startswith("healthy|")}
