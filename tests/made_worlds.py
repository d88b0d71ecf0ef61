"""Runs made up for tests of verdicts: worlds whose onsets and losses are chosen."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from collapselab.analysis.hypotheses import PAPER_CLAIMS, Hypothesis, judge
from collapselab.config.overrides import override
from collapselab.config.safeguards import shown
from collapselab.config.schema import RunConfig
from collapselab.records import flatten
from collapselab.rundir.frames import Runs

MODELS = ("builtin:nano", "builtin:micro", "builtin:mini", "smollm2-135m", "gpt2-medium")
DOUBLINGS = (0.0, 2.0, 3.46, 7.92, 9.32)  # of their parameters, from the first one's
RATES = (2e-5, 4e-5, 8e-5)
TEXTS = ("austen", "moby-dick")
KEYS = ("H1", "H2", "H3", "H3b", "H4", "H4b", "H5", "H6", "H6b")
SAMPLER_KEYS = ("S1", "S2a", "S2b", "S3", "S4", "S5a", "S5b", "S6")
BUDGET = 400


@dataclass(frozen=True)
class Made:
    """A run that was made up: its settings, when it collapses (infinity: never), and how its losses go.

    `kind` is that at onset. `lines` are further columns of the steps: the value at step 0, and its change per step.
    """

    settings: dict[str, Any]
    onset: float
    last_step: int
    slopes: tuple[float, float] = (0.02, 0.01)
    losses: tuple[float, float] = (3.0, 3.5)
    final_share: float = 0.02
    update: float | None = None
    kind: str = "loop"
    lines: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])


def made(model: str, lr: float, seed: int, onset: float, **others: Any) -> Made:
    """A run on its own text, to four steps past its onset or to the end of the budget."""
    settings = {"model": model, "optim.lr": lr, "seed": seed}
    onset = math.floor(onset) if onset + 4 <= BUDGET else math.inf
    return Made(settings, onset, int(min(onset + 4, BUDGET)), **others)


def control(run: Made, source: str, onset: float = math.inf, last_step: int = BUDGET) -> Made:
    """The same run on text that is `real`, of an `other` model, or of a `frozen` copy of its own."""
    text = {
        "real": {"train.real_text": "austen"},
        "other": {"train.other_model": "builtin:mini"},
        "frozen": {"train.other_model": run.settings["model"]},
    }
    settings = run.settings | {"train.source": "real" if source == "real" else "other"} | text[source]
    return replace(run, settings=settings, onset=onset, last_step=last_step)


def frames(world: Sequence[Made]) -> Runs:
    """The frames that `load_runs` would give."""
    rows, steps = zip(*(frame(run, f"run-{i}") for i, run in enumerate(world)), strict=True)
    runs = pd.DataFrame(rows).astype({"onset_step": "Int64", "total_collapse_step": "Int64", "last_step": "Int64"})
    joined = pd.concat(steps, ignore_index=True).astype({"step": "Int64", "degenerate": "boolean"})
    return Runs(runs, joined, pd.DataFrame())


@functools.cache
def settings_of(changes: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """The settings as `load_runs` names them."""
    config = override(RunConfig(data=TEXTS), dict(changes))
    row = dict(flatten(config.model_dump(mode="json")))
    return row | {"data": ",".join(row["data"]), "lr": row.pop("optim.lr"), "safeguards": shown(config.safeguards)}


def frame(run: Made, name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    row = dict(settings_of(tuple(run.settings.items())))
    texts = row["data"].split(",")
    collapses = math.isfinite(run.onset)
    row |= {
        "run": name,
        "ended_by": "collapse" if collapses else "budget",
        "onset_step": run.onset if collapses else None,
        "total_collapse_step": run.onset + 4 if collapses else None,
        "kind_at_onset": run.kind if collapses else None,
        "fate": ("melted" if run.kind == "melted" else "total-collapse") if collapses else "healthy",
        "last_step": run.last_step,
        "train_nll_first": 2.5,
        "train_nll_last": 2.5 * run.final_share * (1 + 0.1 * math.sin(run.settings["seed"])),
    }
    step = np.arange(run.last_step + 1)
    noise = np.random.default_rng(run.settings["seed"]).normal(0, 1e-3, (2, len(step)))
    loss = np.array(run.losses)[:, None] + np.outer(run.slopes, step) + np.where(step > 0, noise, 0)
    degenerate = step >= run.onset
    share = np.clip((step - run.onset + 1) / 8, 0, 1)
    values = {"run": name, "step": step, "val_nll_nats": loss[0], "degenerate_share": share, "degenerate": degenerate}
    values |= {f"val_nll_nats[{text}]": loss[TEXTS.index(text)] for text in texts}
    if run.update is not None:
        values["relative_update_norm"] = run.update
    values |= {name: start + slope * step for name, (start, slope) in run.lines.items()}
    return row, pd.DataFrame(values)


def verdicts(world: Sequence[Made]) -> dict[str, Hypothesis]:
    """Of the paper's claims."""
    return {hypothesis.key: hypothesis for hypothesis in judge(frames(world), PAPER_CLAIMS)}


def spread(*seeds: int) -> float:
    """About 1, by seed and arm."""
    return math.exp(0.2 * np.random.default_rng(seeds).normal())


def by_seed(slopes: tuple[float, float], seed: int) -> tuple[float, float]:
    """Seeds in one order on both texts."""
    return slopes[0] * (1 + 0.1 * seed), slopes[1] * (1 + 0.1 * seed)


def sweep(
    onset: Callable[[int, int], float],
    slopes: Callable[[int], tuple[float, float]] = lambda r: (0.02 * 2**r, 0.01 * 2**r),
    num_seeds: int = 5,
    **others: Any,
) -> list[Made]:
    """Models times learning rates times seeds; onset by the model's and the rate's number, losses by the rate's."""
    return [
        made(model, lr, seed, onset(m, r) * spread(seed, m, r), slopes=by_seed(slopes(r), seed), **others)
        for (m, model), (r, lr), seed in itertools.product(enumerate(MODELS), enumerate(RATES), range(num_seeds))
    ]


def with_controls(world: list[Made], onset: float = math.inf, last_step: int = BUDGET) -> list[Made]:
    middle = [run for run in world if run.settings["model"] == MODELS[1] and run.settings["optim.lr"] in RATES[1:]]
    kinds = ("real", "other", "frozen")
    return [*world, *(control(run, kind, onset, last_step) for run in middle for kind in kinds)]


def past_collapse(world: Sequence[Made], steps: int = 20, final_share: float = 0.02) -> list[Made]:
    """The same trajectories, which went on past total collapse."""
    further = [run for run in world if math.isfinite(run.onset)]
    return [
        replace(
            run,
            settings=run.settings | {"stop.on_collapse": False},
            last_step=run.last_step + steps,
            final_share=final_share,
        )
        for run in further
    ]


def true_world(num_seeds: int = 5) -> list[Made]:
    """Larger models and higher rates collapse sooner, relative updates go with the rate, controls never collapse."""
    world = sweep(lambda m, r: 320 / 2**r * 0.85 ** DOUBLINGS[m], num_seeds=num_seeds)
    world = [replace(run, update=run.settings["optim.lr"] * 1e3) for run in world]
    return [*with_controls(world), *past_collapse(world[num_seeds : 2 * num_seeds])]
