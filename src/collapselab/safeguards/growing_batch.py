"""`growing-batch`: more and more samples for each update."""

from __future__ import annotations

from dataclasses import replace

from collapselab.config.safeguards.on_text import GrowingBatch as Settings
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner
from collapselab.step.sources import TrainingText


class GrowingBatch(Safeguard):
    """Trains on n_t = B·min(most, (1 + t/τ)^(1 + ε)) sequences, rounded.

    Costs n_t − B samples.

    Source: bounds on the error of models trained on their own text in generations need samples that grow faster than
    the number of generations; ours takes steps for generations, and ends the growth at `most`.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        s = self._settings
        count = round(len(text.samples) * min(s.most, (1 + step / s.tau) ** (1 + s.epsilon))) - len(text.samples)
        prompts = [text.prompts[i % len(text.prompts)] for i in range(count)]
        if not prompts:
            return text
        return replace(text, prompts=text.prompts + prompts, samples=text.samples + self._shared.written(step, prompts))
