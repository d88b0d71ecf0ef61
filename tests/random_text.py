"""Samples that no rule calls degenerate."""

from __future__ import annotations

import random


def random_ids(seed: int, length: int = 200, vocab_size: int = 3000) -> tuple[int, ...]:
    draw = random.Random(seed)
    return tuple(draw.randrange(vocab_size) for _ in range(length))
