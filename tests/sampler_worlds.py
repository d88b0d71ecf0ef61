"""Runs made up for tests of S1 to S6: worlds with a known pull."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from collapselab.analysis.hypotheses import SAMPLER_CLAIMS, Hypothesis, judge
from made_worlds import DOUBLINGS, Made, frames, spread

PULL = {0.7: 0.2, 0.8: 0.1, 0.9: 0.03, 1.0: 0.0}  # sharpening by temperature
C = 4e-3
SIZES = ("builtin:pico", "builtin:nano", "builtin:micro", "builtin:mini")
SMOLLM2: dict[str, Any] = {"model": "smollm2-135m", "generate__prompt": "x"}
RATES = (8e-5, 1.6e-4, 3.2e-4)


def run(
    lr: float,
    temperature: float,
    seed: int,
    onset: float,
    last_step: int = 400,
    *,
    kind: str = "loop",
    slope: float | None = None,
    rise: float = 1.0,
    **settings: Any,
) -> Made:
    """A run of the smallest model, nothing cut off, to four steps past its onset or to the last step.

    Its relative updates are 3 times the rate. `slope` is that of the entropy, `rise` that of the validation loss per
    unit of the path.
    """
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    noise = 1 + 0.02 * np.random.default_rng([seed, round(lr * 1e7), changes.get("generate.batch_size", 1)]).normal()
    usual = {"model": "builtin:pico", "optim.lr": lr, "seed": seed, "sampling.temperature": temperature}
    onset = math.floor(onset) if onset + 4 <= last_step else math.inf
    slope = slope if slope is not None else -0.02 if temperature < 1 else 0.001
    lines = {
        "entropy_nats": (4.0, noise * slope),
        "sharpening_nats": (PULL.get(temperature, 0.1), 0.0),
        "path_length": (3 * lr, 3 * lr),
        "val_nll_nats": (4.0, noise * rise * 3 * lr),
    }
    last = int(min(onset + 4, last_step))
    return Made(usual | {"sampling.top_k": None} | changes, onset, last, update=3 * lr, kind=kind, lines=lines)


def world(
    num_seeds: int = 6,
    *,
    pure_onset: float = math.inf,
    slope: float = -1.0,
    pure_slope: float = -2.0,
    scatter: float = 0.05,
    size_ratio: float = 1.0,
    batch_ratio: float = 1.0,
    batch_rise: float = 0.2,
) -> list[Made]:
    """The law of onset holds, and pure runs drift, unless something else is asked for.

    `pure_onset`: of pure runs, in multiples of their partners'. `slope`, `pure_slope`: of log onset on log rate.
    `scatter`: of the logarithm of the arms' onsets about the law. `size_ratio`: per doubling of parameters.
    `batch_ratio`: of the onsets. `batch_rise`: of the rise in validation loss.
    """
    made: list[Made] = []
    for seed in range(num_seeds):

        def law(lr: float, temperature: float, seed: int = seed) -> float:
            arm = np.random.default_rng([round(lr * 1e7), round(temperature * 10)]).normal()
            by_rate = (lr / RATES[1]) ** (slope + 1)
            return C / (3 * lr * PULL[temperature]) * by_rate * math.exp(scatter * arm) * spread(seed, 3) ** 0.3

        for lr in RATES:
            made += [run(lr, t, seed, law(lr, t), 2000) for t in PULL if t < 1]
            pure = pure_onset * law(lr, 0.8)
            made += [run(lr, 1.0, seed, pure, 3000), run(lr, 1.0, seed, pure, 3000, **SMOLLM2)]
            made += [run(lr, 0.8, seed, law(lr, 0.8), **SMOLLM2)]
            made += [run(lr, 0.8, seed, law(lr, 0.8) * batch_ratio * spread(seed, 4) ** 0.2, generate__batch_size=16)]
        for lr in (1e-3, 2e-3):
            made += [run(lr, 1.0, seed, 200 * (lr / 1e-3) ** pure_slope * spread(seed, 5) ** 0.3, 900, train__window=9)]
        made += [run(RATES[1], 1.0, seed, math.inf, 700, generate__batch_size=16, rise=batch_rise)]
        made += [
            sized(seed, m, C / (3e-4 * PULL[0.8]) * size_ratio ** DOUBLINGS_OF[m] * spread(m, 6) ** 0.1)
            for m in range(len(SIZES))
        ]
    return made


DOUBLINGS_OF = (0.0, *(1.9 + doublings for doublings in DOUBLINGS[:3]))  # of the parameters, from the smallest model's


def sized(seed: int, number: int, onset: float) -> Made:
    """A model at a rate and a temperature of its own, with updates and sharpening like the others'."""
    made = run(1e-4, 0.8, seed, onset, 3000, model=SIZES[number], collapse__patience=2)
    own = {"optim.lr": 1e-4 / (1 + number), "sampling.temperature": 0.8 - 0.01 * number}
    return replace(made, settings=made.settings | own)


def verdicts(made: list[Made]) -> dict[str, Hypothesis]:
    return {hypothesis.key: hypothesis for hypothesis in judge(frames(made), SAMPLER_CLAIMS)}
