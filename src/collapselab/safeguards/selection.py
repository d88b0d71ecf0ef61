"""`filter` and `verify`: draw several samples, train on the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from collapselab.collapse.rules import judge_sample, unspaced
from collapselab.config.safeguards.on_text import Filter as FilterSettings
from collapselab.config.safeguards.on_text import Verify as VerifySettings
from collapselab.errors import InputError
from collapselab.inputs.models import load_model
from collapselab.metrics.repetition import match_entropy_nats, seq_rep
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner, Writer
from collapselab.step.sources import TrainingText

MAX_REP_4 = 0.6


def mean_nll(model: Writer, prompt: Sequence[int], sample: Sequence[int]) -> float:
    """The model's loss on a sample after its prompt, in nats per token; the last tokens of one beyond the context."""
    cut = max(0, len(prompt) + len(sample) - model.context_length)
    tokens_1T = torch.tensor([[*prompt, *sample][cut:]])
    return float(model.score(tokens_1T, max(1, len(prompt) - cut)).mean())


def is_degenerate(shared: Shared, ids: list[int]) -> bool:
    """Whether a sample breaks the rules of a sample (docs/collapse.md), by the settings of the run."""
    tokenizer = shared.parts.learner.tokenizer
    verdict = judge_sample(
        ids,
        shared.parts.config.collapse,
        tokenizer.count_visible(ids),
        text=tokenizer.decode(ids),
        unspaced=unspaced(ids, tokenizer.decode),
    )
    return verdict.degenerate is True


def candidates(shared: Shared, step: int, text: TrainingText, draws: int) -> TrainingText:
    """The text with draws − 1 further samples after each prompt, those of the model itself first."""
    prompts = text.prompts * (draws - 1)
    return replace(text, prompts=text.prompts + prompts, samples=text.samples + shared.written(step, prompts))


def kept(text: TrainingText, places: Sequence[int]) -> TrainingText:
    """The samples at these places."""
    return replace(text, prompts=[text.prompts[i] for i in places], samples=[text.samples[i] for i in places])


class Filter(Safeguard):
    """Draws K samples for each one and keeps the m of least score; of equal ones those drawn first.

    Scores: `healthy` 0, or 1 + rep-4 if degenerate by our rules; `low-rep-4` max(rep-4, 0.6); `match-entropy` its
    negative; `highest-loss` and `lowest-loss` −/+ the model's own loss. Costs K − 1 samples, and K scores by loss.

    Source: 2410.12341v4 find the least surprising text worst to train on, in generations: `lowest-loss` is the negative
    control. Judged is what the model writes, not what is kept.
    """

    def __init__(self, settings: FilterSettings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        pool = candidates(self._shared, step, text, self._settings.draws)
        scores = [self._score(learner, *pair) for pair in zip(pool.prompts, pool.samples, strict=True)]
        ranked = sorted(range(len(scores)), key=scores.__getitem__)
        return kept(pool, sorted(ranked[: len(text.samples) * self._settings.keep]))

    def _score(self, learner: Learner, prompt: list[int], sample: list[int]) -> float:
        match self._settings.rule:
            case "healthy":
                return 1 + (seq_rep(sample, 4) or 0.0) if is_degenerate(self._shared, sample) else 0.0
            case "low-rep-4":
                return max(seq_rep(sample, 4) or 0.0, MAX_REP_4)
            case "match-entropy":
                return -(match_entropy_nats(sample) or 0.0)
            case "highest-loss":
                return -mean_nll(learner, prompt, sample)
            case "lowest-loss":
                return mean_nll(learner, prompt, sample)


class Verify(Safeguard):
    """Draws K samples for each one and keeps the best by a judge that never changes.

    `start`, `model`: the least loss under θ_0, or under another model. `detector`: c is a sample's rep-4; round(1.5 n)
    of the samples are drawn by the weights (1 − c)^10, each at most three times. Costs K − 1 samples and K scores.

    Source: Feng 2024 keep text that a verifier finds right; Drayson 2025 draw again by a detector of machine text; ours
    detects repetition. By 2510.16657 the gain may reverse over generations; a biased judge (θ_0 likes what is likely)
    speeds collapse.

    Raises:
        InputError: the judge has another tokenizer.
    """

    def __init__(self, settings: VerifySettings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._judge: Writer | None = None
        learner = shared.parts.learner
        if settings.judge == "start":
            self._judge = learner.copy()
        elif settings.model is not None:
            self._judge = Writer(load_model(settings.model, device=learner.config.device), learner.config, learner.work)
            if not self._judge.tokenizer.same_as(learner.tokenizer):
                raise InputError(
                    f"the judge {settings.model!r} has another tokenizer than {learner.name!r}",
                    "name a model with the same tokenizer",
                )

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        pool = candidates(self._shared, step, text, self._settings.draws)
        if self._judge is None:
            return kept(pool, self._drawn_again(step, pool, len(text.samples)))
        losses = [mean_nll(self._judge, *pair) for pair in zip(pool.prompts, pool.samples, strict=True)]
        return kept(pool, sorted(sorted(range(len(losses)), key=losses.__getitem__)[: len(text.samples)]))

    def _drawn_again(self, step: int, pool: TrainingText, num_samples: int) -> list[int]:
        weights = [(1 - (seq_rep(ids, 4) or 0.0)) ** self._settings.power for ids in pool.samples]
        wanted = max(1, round(self._settings.upsampling * num_samples))
        left, places = [self._settings.repeats] * len(weights), list[int]()
        for u in self._shared.uniform(step, wanted):
            open_weights = torch.tensor([w if n else 0.0 for w, n in zip(weights, left, strict=True)]).double()
            if not open_weights.sum() > 0:
                break
            bounds = open_weights.cumsum(0)
            place = min(int((bounds <= u * bounds[-1]).sum()), len(weights) - 1)
            left[place] -= 1
            places.append(place)
        return sorted(places) or [0]
