"""`regulate` and `thermostat`: the entropy of own text steers the learning rate, or the temperature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.on_weights import Regulate as RegulateSettings
from collapselab.config.safeguards.on_weights import Thermostat as ThermostatSettings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner
from collapselab.step.sources import TrainingText


class _ByEntropy(Safeguard):
    """Watches `entropy_nats`, the mean entropy H_t of the predictions while the step's sample was written."""

    _entropy: float | None = None
    _entropy_at_0: float | None = None

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        self._entropy = text.measures["entropy_nats"]
        if self._entropy_at_0 is None:
            self._entropy_at_0 = self._entropy
        return text


class Regulate(_ByEntropy):
    """After each step, the learning rate is × min(1, H_t / H_0)^p; 0 for ever once H_t / H_0 is below the alarm.

    Unchanged where no model writes the text. Costs nothing.

    Source: in the spirit of 2605.14588, which slows learning while diversity falls. A lower rate alone delays onset:
    compare at equal path length.
    """

    def __init__(self, settings: RegulateSettings, shared: Shared) -> None:
        self._settings, self._learner = settings, shared.parts.learner

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        if self._entropy is None or not self._entropy_at_0 or learner.lr_factor == 0:
            return
        share = self._entropy / self._entropy_at_0
        learner.lr_factor = 0.0 if share < self._settings.alarm else min(1.0, share) ** self._settings.power

    def values(self) -> dict[str, Value]:
        return {"lr_factor": self._learner.lr_factor}

    def tensors(self) -> dict[str, Tensor]:
        state = [self._learner.lr_factor, *([] if self._entropy_at_0 is None else [self._entropy_at_0])]
        return {"state": torch.tensor(state, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._learner.lr_factor, *entropy_at_0 = map(float, tensors["state"])
        self._entropy_at_0 = entropy_at_0[0] if entropy_at_0 else None


class Thermostat(_ByEntropy):
    """Integral control: after each step T ← T + gain·(H_0 − H_t), within [least, most], from the run's temperature.

    The next sample is drawn at the new T. Costs nothing.

    Source: ours. By the score identity (docs/sampler.md) text drawn below temperature 1 pulls toward a sharper model,
    and above it toward a flatter one: the thermostat looks for the temperature at which the pull vanishes.
    """

    def __init__(self, settings: ThermostatSettings, shared: Shared) -> None:
        self._settings, self._learner = settings, shared.parts.learner
        self._now = self._learner.rule.temperature

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        self._now = learner.rule.temperature
        return super().text(step, learner, text)

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        if self._entropy is not None and self._entropy_at_0 is not None:
            self._put(self._now + self._settings.gain * (self._entropy_at_0 - self._entropy))

    def _put(self, temperature: float) -> None:
        bounded = min(self._settings.most, max(self._settings.least, temperature))
        self._learner.rule = self._learner.rule.model_copy(update={"temperature": bounded})

    def values(self) -> dict[str, Value]:
        return {"temperature": self._now}

    def tensors(self) -> dict[str, Tensor]:
        state = [self._learner.rule.temperature, *([] if self._entropy_at_0 is None else [self._entropy_at_0])]
        return {"state": torch.tensor(state, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        temperature, *entropy_at_0 = map(float, tensors["state"])
        self._put(temperature)
        self._entropy_at_0 = entropy_at_0[0] if entropy_at_0 else None
