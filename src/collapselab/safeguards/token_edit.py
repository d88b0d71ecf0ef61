"""`token-edit`: tokens that the model is sure of are drawn again."""

from __future__ import annotations

from dataclasses import replace

import torch

from collapselab.config.safeguards.on_text import TokenEdit as Settings
from collapselab.records import Value
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner
from collapselab.step.sources import TrainingText


class TokenEdit(Safeguard):
    """Replaces each token with p(x_i | x_<i) > threshold by a draw from the k likeliest, q ∝ p^(1/β).

    All positions at once, each given the unedited text before it. Costs a forward pass for each sequence.

    Source: ToEdit (2412.14689) edits *human* text once, before training; on own text, at every step, it is our
    extension. At β 1 a token above 0.99 is replaced by itself in 99 of 100 draws; β flattens.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._kept_share: float | None = None

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        samples: list[list[int]] = []
        uniform = self._shared.uniform(step, sum(map(len, text.samples)))
        for prompt, sample in zip(text.prompts, text.samples, strict=True):
            draws, uniform = uniform[: len(sample)], uniform[len(sample) :]
            samples.append(self._edited(learner, prompt, sample, draws))
        pairs = [(a, b) for old, new in zip(text.samples, samples, strict=True) for a, b in zip(old, new, strict=True)]
        self._kept_share = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
        return replace(text, samples=samples)

    def _edited(self, learner: Learner, prompt: list[int], sample: list[int], draws: list[float]) -> list[int]:
        # Of text beyond the context only the last tokens are read, and edited.
        num_read = (
            min(len(sample), learner.context_length - 1) if prompt else min(len(sample) - 1, learner.context_length)
        )
        tokens_T = torch.tensor([*prompt, *sample][-(num_read + 1) :], device=learner.loaded.model.device)
        probs_TV = learner.logits(tokens_T[None, :-1])[0].softmax(-1).cpu()
        targets_T = tokens_T[1:].cpu()
        is_sure_T = probs_TV.gather(1, targets_T[:, None])[:, 0] > self._settings.threshold
        top = probs_TV.topk(min(self._settings.top_k, probs_TV.shape[1]), dim=-1)
        bounds_TK = top.values.double().pow(1 / self._settings.beta).cumsum(1)
        u_T1 = torch.tensor(draws[len(sample) - num_read :], dtype=torch.float64)[:, None]
        places_T = (bounds_TK <= u_T1 * bounds_TK[:, -1:]).sum(1, keepdim=True).clamp_max(top.values.shape[1] - 1)
        new_T = torch.where(is_sure_T, top.indices.gather(1, places_T)[:, 0], targets_T)
        return sample[: len(sample) - num_read] + new_T.tolist()

    def values(self) -> dict[str, Value]:
        return {"kept_share": self._kept_share}
