"""Sweeps that ask what the sampler does (docs/sampler.md): each function returns one, and says what it is for.

The rates were chosen by short runs of the smallest model: at 3.2e-4, temperature 0.8 has its onset at step 40 or so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from collapselab.config import presets
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.sweep.grid import Sweep

Arm = dict[str, object]
TEMPERATURES = (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)
CUTS: Mapping[str, Sequence[float]] = {
    "sampling.top_k": (10, 50, 200, 500, 1000),
    "sampling.top_p": (0.5, 0.8, 0.9, 0.95, 0.98),
    "sampling.min_p": (0.2, 0.1, 0.05, 0.02, 0.005),
}
RATE = 3.2e-4
# Rates, and steps in which a pure run exceeds ten times the onset of temperature 0.8.
LINE = {8e-5: 2500, 1.6e-4: 1300, 3.2e-4: 800, 6.4e-4: 800, 1.28e-3: 400}
STEEP = {9e-4: 800, 1.8e-3: 300}  # without a partner: the slope of pure onsets needs rates at which there are some
# By model: the temperature at which it sharpens by 0.08 nats per token, nothing cut off, before its first update, and
# the rates at which its updates are then as large as the first model's at 1.6e-4 and 3.2e-4.
# From python tools/equal_sharpening.py builtin:pico … builtin:mini --nats 0.08 --rates 1.6e-4 3.2e-4
EQUAL_SHARPENING = {
    "builtin:pico": (0.812, (1.6e-4, 3.2e-4)),  # 0.0806 ± 0.0003 nats
    "builtin:nano": (0.804, (1.3e-4, 2.6e-4)),  # 0.0806 ± 0.0004 nats
    "builtin:micro": (0.797, (1.11e-4, 2.23e-4)),  # 0.0796 ± 0.0005 nats
    "builtin:mini": (0.789, (1.0e-4, 2.01e-4)),  # 0.0796 ± 0.0004 nats
}


def sampler_map(
    temperatures: Sequence[float] = TEMPERATURES, cuts: Mapping[str, Sequence[float]] = CUTS, num_seeds: int = 5
) -> Sweep:
    """Temperature × top-k, × top-p, × min-p, and temperature alone: where the smallest model freezes, drifts, melts.

    Command: `collapselab sweep sampler-map`.
    """
    entries: list[Arm] = [{}, *({name: value} for name, values in cuts.items() for value in values)]
    base = _base({"optim.lr": RATE, "stop.max_steps": 400})
    return Sweep(base, {"seed": tuple(range(num_seeds)), "sampling.temperature": tuple(temperatures)}, listed=entries)


def sampler_coarse() -> Sweep:
    """The same for two larger models: four temperatures alone, with top-k 50 and with top-p 0.9, two seeds.

    Command: `collapselab sweep sampler-coarse`.
    """
    grid = {"seed": (0, 1), "model": ("builtin:micro", "builtin:mini"), "sampling.temperature": (0.8, 0.9, 1.0, 1.1)}
    entries: tuple[Arm, ...] = ({}, {"sampling.top_k": 50}, {"sampling.top_p": 0.9})
    return Sweep(_base({"optim.lr": 1.6e-4, "stop.max_steps": 250}), grid, listed=entries)


def sampler_line() -> Sweep:
    """Pure sampling beside temperatures 0.8 and 0.9 (S1, S2, S5): rates, batch sizes, optimisers.

    Pure runs have ten seeds, and ten times the steps that their partners at temperature 0.8 with the same seed need.

    Command: `collapselab sweep sampler-line`.
    """
    arms: Sequence[Arm] = [
        *_arms({}, 1.0, LINE | STEEP, 10),
        *_arms({}, 0.8, dict.fromkeys(LINE, 400), 10),
        *_arms({}, 0.9, dict.fromkeys(LINE, 600), 5),
        *_arms({"generate.batch_size": 16}, 0.8, {1.6e-4: 200, 3.2e-4: 200}, 10),
        *_arms({"generate.batch_size": 16}, 1.0, {3.2e-4: 200}, 10),
        *_arms({"optim.weight_decay": 0.0}, 0.8, {3.2e-4: 400}, 5),
        *_arms({"optim.weight_decay": 0.0}, 1.0, {3.2e-4: 800}, 5),
        *_arms({"optim.name": "sgd"}, 0.8, {0.01: 400, 0.03: 400}, 5),
        *_arms({"optim.name": "sgd"}, 1.0, {0.01: 2000, 0.03: 700}, 5),
        *_arms({"model": "builtin:nano"}, 0.8, dict.fromkeys((8e-5, 1.6e-4, 3.2e-4), 400), 5),
        *_arms({"model": "builtin:nano"}, 1.0, {8e-5: 1500, 1.6e-4: 800, 3.2e-4: 500}, 5),
    ]
    return Sweep(_base({}), listed=sorted(arms, key=lambda arm: cast(int, arm["seed"])))


def sampler_sizes() -> Sweep:
    """Four sizes at equal learning rate and at equal updates, each at temperature 0.8 and at equal sharpening (S4).

    Command: `collapselab sweep sampler-sizes`.
    """
    arms: Sequence[Arm] = [
        {"model": model, "sampling.temperature": temperature, "optim.lr": rate}
        for model, (equal, rates) in EQUAL_SHARPENING.items()
        for temperature in (0.8, equal)
        for rate in dict.fromkeys((1.6e-4, *rates))
    ]
    return Sweep(_base({"stop.max_steps": 400}), {"seed": tuple(range(5))}, listed=arms)


def sampler_sgd() -> Sweep:
    """Plain SGD without clipping, with and without weight decay: the theory without AdamW (L1 to L3, M1 to M3).

    0.0058 is `sampler_line`'s 0.01 over the mean norm of the gradients clipped there, 1.73; at 0.042, gradients move
    the weights as far per step as AdamW does at 3.2e-4.

    Command: `collapselab sweep sampler-sgd`.
    """
    free: Arm = {"optim.weight_decay": 0.0}
    large: Arm = {"generate.batch_size": 16}
    fast = 0.042
    arms: Sequence[Arm] = [
        *_arms({}, 0.8, {0.0058: 400}, 5),
        *_arms({}, 1.0, {0.0058: 1000}, 5),
        *_arms(large, 0.8, {0.0058: 300}, 5),
        *_arms(large, 1.0, {0.0058: 500}, 5),
        *_arms(free, 0.8, {0.0058: 400, fast: 100}, 10),
        *_arms(free, 1.0, {0.0058: 1000, fast: 500}, 10),
        *_arms(free | large, 0.8, {0.0058: 300}, 10),
    ]
    return Sweep(_base({"optim.name": "sgd", "optim.clip": None}), listed=arms)


def sampler_smollm2() -> Sweep:
    """SmolLM2 on WikiText-2 (S6): pure sampling beside the paper's sampler, a cross of temperature and top-k, prompts.

    Command: `collapselab sweep sampler-smollm2 --device cuda`.
    """
    cross: Sequence[Arm] = [
        *({"sampling.temperature": temperature} for temperature in (0.7, 0.8, 0.9, 0.95, 1.05, 1.1)),
        *({"sampling.temperature": 1.0, "sampling.top_k": k} for k in (20, 50, 200, 500)),
    ]
    paper: Arm = {"sampling.temperature": 0.8, "sampling.top_k": 500, "stop.after_collapse": 30}
    newline: list[Arm] = [{"generate.prompt": prompt, "optim.lr": 1e-4} for prompt in ("", "\n")]
    arms: Sequence[Arm] = [
        *_seeded([{**paper, "optim.lr": rate} for rate in (8e-5, 2e-5)], 8, 400),
        *_seeded([{"sampling.temperature": 1.0, "optim.lr": 8e-5}], 3, 300),
        *_seeded([{**arm, "optim.lr": 8e-5} for arm in cross], 2, 200),
        *_seeded([{**paper, **arm} for arm in newline], 3, 100),
        *_seeded([{"sampling.temperature": 1.0, "optim.lr": 2e-5}], 3, 500),
        # Six pairs cannot bear out S6: with these there are eleven.
        *_seeded([{"sampling.temperature": 1.0, "optim.lr": 8e-5}], 8, 200)[3:],
    ]
    return Sweep(_smollm2({}), listed=arms)


def _base(changes: Arm) -> RunConfig:
    """The smallest model, nothing cut off. Losses every 20 steps: more would take longer than the steps."""
    usual: Arm = {"model": "builtin:pico", "data": "austen,moby-dick", "sampling.top_k": None, "eval.every": 20}
    return override(presets.paper(), {**usual, "eval.full_every": 0, "keep_checkpoints": False, **changes})


def _smollm2(changes: Arm) -> RunConfig:
    usual: Arm = {"model": "smollm2-135m", "numerics": "fast", "sampling.top_k": None, "data": ("wikitext-2", "ptb")}
    return override(
        presets.paper(), usual | {"eval.every": 10, "eval.full_every": 0, "keep_checkpoints": False} | changes
    )


def _arms(changes: Arm, temperature: float, rates: Mapping[float, int], num_seeds: int) -> list[Arm]:
    """An arm for each rate, of so many steps at most, and a run for each seed."""
    arms: list[Arm] = [changes | {"sampling.temperature": temperature, "optim.lr": rate} for rate in rates]
    return [run for arm, steps in zip(arms, rates.values(), strict=True) for run in _seeded([arm], num_seeds, steps)]


def _seeded(arms: Sequence[Arm], num_seeds: int, max_steps: int) -> list[Arm]:
    return [{**arm, "seed": seed, "stop.max_steps": max_steps} for arm in arms for seed in range(num_seeds)]
