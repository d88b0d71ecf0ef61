"""Runs made up for tests of the sampler's figures: true files with samples, and frames with a pull that is chosen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pandas as pd

from collapselab.rundir.frames import Runs, load_runs
from synthetic_runs import judged_run, make_config

LR = 8e-5
# By temperature and top-k: onset, H(p) − H(q), KL(q‖p).
SAMPLERS: dict[tuple[float, int | None], tuple[float, float, float]] = {
    (0.8, None): (10, 0.9, 0.1),
    (0.8, 50): (6, 1.5, 0.3),
    (1.0, None): (math.inf, 0.05, 0.0),  # its pull is noise
    (1.0, 50): (16, 0.4, 0.2),
    (1.2, None): (12, -1.2, 0.15),  # melts
    (1.2, 50): (math.inf, -0.1, 0.25),
}
STEADY = {1.6e-4: 5}  # onset of temperature 0.8 at a further rate


def write_samplers(folder: Path) -> Runs:
    """Two seeds of each sampler at one rate, of temperature 0.8 and 1 at another, and of a larger model at 0.8."""
    arms = [("nano", LR, sampler, onset) for sampler, (onset, _, _) in SAMPLERS.items()]
    arms += [("nano", lr, (0.8, None), onset) for lr, onset in STEADY.items()]
    arms += [("nano", lr, (1.0, None), math.inf) for lr in STEADY]
    arms += [("micro", LR, (0.8, None), 8)]
    for model, lr, (temperature, top_k), onset in arms:
        for seed in (0, 1):
            sampler = {"sampling__temperature": temperature, "sampling__top_k": top_k}
            config = make_config(model=f"builtin:{model}", optim__lr=lr, seed=seed, **sampler)
            name = f"{model}-lr-{lr:g}-temperature-{temperature:g}-top_k-{top_k}-seed-{seed}"
            judged_run(folder / name, config, onset + seed)
    return with_pulls(load_runs(folder))


def with_pulls(runs: Runs) -> Runs:
    """The runs with the entropy, loss and sharpening of their samplers; pure temperature 1.2 melts."""
    rows, steps = cast(Any, runs.runs.copy()), cast(Any, runs.steps.copy())
    settings = zip(rows["sampling.temperature"], rows["sampling.top_k"], strict=True)
    samplers = [SAMPLERS[temperature, None if pd.isna(k) else int(k)] for temperature, k in settings]
    gap, sharpening = (
        steps["run"].map(dict(zip(rows["run"], (sampler[i] for sampler in samplers), strict=True))) for i in (1, 2)
    )
    steps["entropy_nats"] = 4.0 - 0.1 * steps["step"].astype(float) * gap
    steps["sharpening_nats"] = sharpening
    steps["train_nll_nats"] = steps["entropy_nats"] - gap + sharpening
    melts = [sampler == SAMPLERS[1.2, None] for sampler in samplers]
    rows.loc[melts, ["fate", "kind_at_onset", "kind_at_end"]] = "melted"
    return Runs(rows, steps, runs.samples)
