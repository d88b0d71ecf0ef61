"""`ema` and `ema-teacher`: the mean of the weights, as writer, as refuge, as teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.safeguards.on_objective import EmaTeacher as TeacherSettings
from collapselab.config.safeguards.on_weights import Ema as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.safeguards.kl_anchor import kl_nats
from collapselab.step.learner import Learner, TokenLosses
from collapselab.step.sources import TrainingText, write


class _WithMean(Safeguard):
    """Keeps a model with the mean θ̄ ← (1 − rate)·θ̄ + rate·θ of the weights after each update, from θ̄ = θ_0."""

    def __init__(self, shared: Shared, rate: float) -> None:
        self._shared, self._rate = shared, rate
        self._mean = shared.parts.learner.copy()

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        self._mean.follow(learner.weights(), self._rate)

    def tensors(self) -> dict[str, Tensor]:
        return self._mean.weights()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._mean.follow(tensors, 1.0)


class Ema(_WithMean):
    """`write`: θ̄ writes the training text, with the noise of the sample; θ_t is still judged by its own sample.

    `reset`: every m steps θ ← θ̄. Costs a sample at each step, or nothing.

    Source: Polyak 1992 and Izmailov 2018 average weights for a better test loss; on self-written text it is ours.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        super().__init__(shared, 1 - settings.decay)
        self._settings = settings

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        if self._settings.mode != "write":
            return text
        parts = self._shared.parts
        self._mean.rule = learner.rule
        length = parts.config.generate.max_new_tokens
        return replace(text, samples=write(parts, self._mean, text.prompts, "sample", step, length).token_ids)

    def after_step(self, step: int, learner: Learner, state: CollapseState) -> None:
        super().after_step(step, learner, state)
        if self._settings.mode == "reset" and (step + 1) % self._settings.every == 0:
            learner.assign(self._mean.weights())


class EmaTeacher(_WithMean):
    """(1 − w)·L + w·mean KL(p̄‖p_t) over the targets, p̄ of the mean weights. Costs a forward pass per sequence.

    With w 1 the term has no gradient at the start, where θ̄ is θ_0: only AdamW's amplified rounding errors would move θ.

    Source: the teacher of SDFT and SDPO, which learn from demonstrations and rewards; here there is neither.
    """

    def __init__(self, settings: TeacherSettings, shared: Shared) -> None:
        super().__init__(shared, settings.rate)
        self._weight = settings.weight
        self._kl_nats: float | None = None

    def objective(self, step: int, learner: Learner, losses: TokenLosses, objective: Tensor) -> Tensor:
        kl = kl_nats(self._mean.logits(losses.inputs_BT)[losses.is_target_BT], losses.logits_NV)
        self._kl_nats = kl.item()
        return (1 - self._weight) * objective + self._weight * kl

    def values(self) -> dict[str, Value]:
        return {"kl_teacher_nats": self._kl_nats}
