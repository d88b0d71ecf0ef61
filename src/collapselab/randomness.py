"""Counter-based randomness: every generator is made from (seed, stream, step), so nothing about it needs saving."""

from __future__ import annotations

from typing import Literal

import numpy as np

Stream = Literal["sample", "window", "probe", "data", "evaluation", "start", "safeguard", "adapters"]
# Part of every draw: a number is never given away again (4 was of a stream that nothing drew from).
STREAMS: dict[Stream, int] = {
    "sample": 0,
    "window": 1,
    "probe": 2,
    "data": 3,
    "evaluation": 5,
    "start": 6,
    "safeguard": 7,
    "adapters": 8,
}


def rng(seed: int, stream: Stream, step: int, index: int = 0) -> np.random.Generator:
    """The generator of one stream at one step; `index` numbers the sequences of a batch.

    Two calls with equal arguments give equal draws, on every machine; any other argument gives an independent stream.
    Evaluation and probes therefore cannot disturb training, a resumed run is bit-equal, and two arms that differ in
    one setting see the same noise at the same step.

    Reference: Salmon et al. 2011 (Philox).
    """
    entropy = (seed, STREAMS[stream], step, index)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
