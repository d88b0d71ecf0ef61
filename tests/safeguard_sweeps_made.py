"""Runs made up for tests of recovery, of what the paper leaves open, and of doses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from collapselab.rundir.frames import Runs
from made_worlds import Made, frames
from safeguard_worlds import RATE, run

GOES_ON = {"stop.on_collapse": False}
REMEDIES = {"restore": 60, "negate": -1, "real": 30}  # heals up to so many steps past onset
PAST = (0, 10, 30, 60)
OPEN: dict[str, tuple[dict[str, Any], float]] = {
    "train.window 100": ({"train.window": 100}, 2.0),
    "train.steps_per_sequence 2": ({"train.steps_per_sequence": 2}, 0.5),
    "train.retokenise true": ({"train.retokenise": True}, 1.0),
    "optim.clip none": ({"optim.clip": None}, 1.0),
    "optim.weight_decay 0": ({"optim.weight_decay": 0.0}, 1.0),
    "generate.prompt 'She said '": ({"generate.prompt": "She said "}, math.inf),
    "optim.name sgd, optim.lr 0.03": ({"optim.name": "sgd", "optim.lr": 0.03}, 1.5),
}


def recovery(num_seeds: int = 5) -> Runs:
    """Onset at step 47 in every run, and remedies that heal until so many steps past it."""
    made: list[Made] = []
    healed: list[bool] = []
    for seed in range(num_seeds):
        arms: list[tuple[str, bool]] = [("none", False)]
        for remedy, until in REMEDIES.items():
            for past in PAST:
                values = [f"remedy={remedy}"] * (remedy != "restore") + [f"past={past}"] * (past > 0)
                arms.append((f"rollback({', '.join(values)})" if values else "rollback", past <= until))
        for arm, heals in arms:
            changes = GOES_ON | ({} if arm == "none" else {"safeguards": arm})
            made.append(replace(run(changes, seed, (1.0, 1.0, 1e-3 if heals else 4e-3), 180), last_step=180))
            healed.append(heals)
    runs = frames(made)
    steps, names = cast(Any, runs.steps), [f"run-{i}" for i, heals in enumerate(healed) if heals]
    is_healthy = steps["run"].isin(names) & (steps["step"] > 140)
    return Runs(runs.runs, steps.assign(degenerate=steps["degenerate"] & ~is_healthy), runs.samples)


def left_open(num_seeds: int = 5) -> list[Made]:
    """An arm without changes, and arms that change one thing each."""
    arms: list[tuple[dict[str, Any], float]] = [
        ({}, 1.0),
        *OPEN.values(),
        ({"optim.lr": RATE / 2}, 2.0),
        ({"sampling.temperature": 0.9}, 2.0),
    ]
    return [run(changes, seed, (factor, 1.0, 1e-3), 150) for changes, factor in arms for seed in range(num_seeds)]


def doses(num_seeds: int = 5) -> list[Made]:
    """Below temperature 1 the loss rises with the dose, above it falls; with neon the other way round."""
    made: list[Made] = []
    for seed in range(num_seeds):
        for temperature in (0.8, 1.0, 1.2):
            slope = 2e-3 * (1 - temperature) * 5
            for lr in (4e-5, 1.6e-4):
                changes: dict[str, Any] = {
                    **GOES_ON,
                    "sampling.temperature": temperature,
                    "optim.lr": lr,
                    "eval.every": 5,
                }
                made.append(run(changes, seed, (math.inf, 1.0, slope * lr / 4e-5), 60))
            neon: dict[str, Any] = {**GOES_ON, "sampling.temperature": temperature, "optim.lr": 4e-5, "eval.every": 5}
            made.append(run(neon | {"safeguards": "neon"}, seed, (math.inf, 1.0, -slope), 60))
    return made
