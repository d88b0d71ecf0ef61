"""`replay`: earlier own text beside the new."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from collapselab.config.safeguards.on_text import Replay as Settings
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.step.learner import Learner
from collapselab.step.sources import TrainingText

_PADDING = -1


class Replay(Safeguard):
    """Adds earlier own sequences, drawn from a reservoir, so that they make up a share of the batch on average.

    With B new sequences there are B·share / (1 − share) old ones, rounded at random. The reservoir is an even sample
    of all sequences of earlier steps (Vitter 1985, algorithm R). With `real_seed` windows of real text are always
    kept beside them, and drawn like them. Costs longer batches.

    Source: Gerstgrasser 2024 and Kazdan 2024 accumulate the text of all generations and always keep the real text;
    ours with `real_seed` 0 has no real text at all.
    """

    def __init__(self, settings: Settings, shared: Shared) -> None:
        self._settings, self._shared = settings, shared
        self._own: list[list[int]] = []
        self._num_seen = 0
        length = shared.num_prompt + shared.parts.config.generate.max_new_tokens
        self._real = shared.real(0, settings.real_seed, length) if settings.real_seed else []

    def text(self, step: int, learner: Learner, text: TrainingText) -> TrainingText:
        new = [prompt + sample for prompt, sample in zip(text.prompts, text.samples, strict=True)]
        share, pool = self._settings.share, self._own + self._real
        wanted = len(new) * share / (1 - share)
        num_random = math.ceil(wanted)
        rounding, *places = self._shared.uniform(step, 1 + num_random + len(new))
        count = math.floor(wanted + rounding) if pool else 0
        old = [pool[int(place * len(pool))] for place in places[: min(count, num_random)]]
        self._keep(new, places[num_random:])
        n = text.num_prompt
        return replace(
            text,
            prompts=text.prompts + [ids[:n] for ids in old],
            samples=text.samples + [ids[n:] for ids in old],
        )

    def _keep(self, new: list[list[int]], places: list[float]) -> None:
        self._own = list(self._own)  # a checkpoint may be reading the former one
        for ids, place in zip(new, places, strict=True):
            self._num_seen += 1
            if len(self._own) < self._settings.capacity:
                self._own.append(ids)
            elif (index := int(place * self._num_seen)) < self._settings.capacity:
                self._own[index] = ids

    def tensors(self) -> dict[str, Tensor]:
        longest = max(map(len, self._own), default=0)
        rows = [ids + [_PADDING] * (longest - len(ids)) for ids in self._own]
        own = torch.tensor(rows, dtype=torch.long).reshape(len(rows), longest)
        return {"own": own, "num_seen": torch.tensor(self._num_seen)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        rows = cast(list[list[int]], tensors["own"].tolist())
        self._own = [[token for token in row if token != _PADDING] for row in rows]
        self._num_seen = int(tensors["num_seen"])
