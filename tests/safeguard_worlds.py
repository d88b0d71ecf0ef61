"""Runs made up for tests of safeguards: worlds in which it is known what each arm does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from made_worlds import Made

RATE, HORIZON, ONSET = 3.2e-4, 200, 47
BASE: dict[str, Any] = {"model": "builtin:pico", "train.real_text": "moby-dick", "eval.every": 20}
LOWER = (0.7, 0.5, 0.25)
PURE = {"sampling.temperature": 1.0, "sampling.top_k": None}
# By arm: onset in multiples of that of `none` (infinity: never), path per step in the same, rise of the loss per step.
Truth = tuple[float, float, float]
ARMS: Mapping[str, Truth] = {
    "none": (1.0, 1.0, 5e-3),
    "real-mix": (3.0, 1.0, 1e-3),  # delays, whatever its steps
    "trust-stop": (2.0, 0.5, 2.5e-3),  # takes half the steps, and nothing else
    "filter(rule=lowest-loss)": (0.5, 1.0, 6e-3),
    "focal": (1.0, 1.0, 5e-3),
    "entropy-bonus": (math.inf, 1.0, 1e-3),
    "kl-anchor": (math.inf, 1.0, 4e-3),
    "weight-anchor": (math.inf, 0.1, 1e-3),  # at a tenth of the steps none would have its onset at 470
}
SETTINGS: Mapping[str, tuple[dict[str, Any], Truth]] = {
    "pure-sampling": (PURE, (math.inf, 1.0, 2e-3)),
    "bigger-batch(batch_size=16)": ({"generate.batch_size": 16}, (0.6, 1.0, 4e-3)),
    "reset": ({"optim.reset_each_step": True}, (1.0, 1.0, 5e-3)),
}


def run(changes: Mapping[str, Any], seed: int, truth: Truth, last: int = HORIZON, scatter: float = 0.03) -> Made:
    """A run to ten steps past its onset or to its last step; arms of one seed share a half of its luck."""
    factor, steps, rise = truth
    arm = sum(ord(c) * (i + 1) for i, c in enumerate(str(sorted(changes.items(), key=str))))
    luck = 0.1 * np.random.default_rng(seed).normal() + scatter * np.random.default_rng([seed, arm]).normal()
    onset = round(ONSET * factor * math.exp(luck)) if math.isfinite(factor) else math.inf
    onset = onset if onset + 4 <= last else math.inf
    path = 3 * RATE * steps
    lines = {"path_length": (path, path), "entropy_nats": (4.0, -0.01), "num_tokens": (200.0, 0.0)}
    lines |= {"seconds_generate": (0.1, 0.0), "seconds_update": (0.1, 0.0)}
    settings = BASE | {"optim.lr": RATE, "seed": seed} | dict(changes)
    noise = 1 + 0.05 * np.random.default_rng([seed, 7, arm]).normal()
    return Made(settings, onset, int(min(onset + 10, last)), slopes=(rise * noise, rise), lines=lines)


def guarded(text: str) -> dict[str, Any]:
    return {} if text == "none" else {"safeguards": text}


def world(num_seeds: int = 5, arms: Mapping[str, Truth] = ARMS, **others: Any) -> list[Made]:
    """Arms with safeguards, arms by other settings, and three lower rates, whose onsets go as one over the rate."""
    made = [run(guarded(arm), seed, truth, **others) for arm, truth in arms.items() for seed in range(num_seeds)]
    for changes, truth in SETTINGS.values():
        made += [run(changes, seed, truth, **others) for seed in range(num_seeds)]
    for share in LOWER:
        lower = {"optim.lr": RATE * share, "stop.max_steps": round(HORIZON / share)}
        truth = (1 / share, share, 5e-3 * share)
        made += [run(lower, seed, truth, round(HORIZON / share), **others) for seed in range(num_seeds)]
    return made
