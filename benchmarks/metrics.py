"""What the metrics of a step cost, group by group, and their share of a step with the default settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch

from benchmarks.measure import Spread, spread
from benchmarks.models import SHAPES, locate
from benchmarks.ours import configuration
from benchmarks.workload import Workload, seconds_by_phase
from collapselab.config.metrics import Metrics
from collapselab.config.overrides import override
from collapselab.engine.choose import make_engines
from collapselab.loop import online_loop
from collapselab.metrics import Needs, Window, repetition_metrics, window_metrics
from collapselab.randomness import rng
from collapselab.step.instruments import TokenTally
from collapselab.step.parts import Parts, build
from collapselab.step.sources import training_batch, training_text

SEED = 0


@dataclass(frozen=True)
class GroupCost:
    """Seconds of one computation of a group, and how many there are in a step with the default settings."""

    seconds: Spread
    per_step: float


@dataclass(frozen=True)
class MetricCosts:
    """The cost of each group; `step_s`: of a whole step, without compiling and loading."""

    model: str
    numerics: str
    step_s: Spread
    groups: dict[Needs, GroupCost]

    @property
    def default_share(self) -> float:
        """The share of a step that all default metrics take."""
        per_step = sum(group.seconds.median * group.per_step for group in self.groups.values())
        return per_step / self.step_s.median


def metric_costs(workload: Workload, numerics: str, n: int) -> MetricCosts:
    """Each group computed n times on the samples of a run of this workload, whose steps are timed too."""
    with TemporaryDirectory(prefix="collapselab-bench-") as folder:
        if workload.model in SHAPES:
            located = replace(workload, model=locate(workload.model, Path(folder), SEED))
        else:
            located = workload
        everything = {"metrics.contexts_every": 1, "metrics.first_model": True, "metrics.every": 0}
        parts = build(override(configuration(located, numerics), everything))
        plain = build(configuration(located, numerics))
    seconds = [sum(seconds_by_phase(record.values).values()) for record in islice(online_loop(plain), n + 1)]
    calls = _calls(parts, workload)
    defaults = Metrics()
    per_step: dict[Needs, float] = {
        "sample": workload.batch_size,
        "window": 1 / defaults.every if defaults.every else 0.0,
        "writing": workload.max_new_tokens * workload.batch_size,
        "evaluation": 1.0,
        "contexts": 1 / defaults.contexts_every if defaults.contexts_every else 0.0,
        "first model": float(defaults.first_model),
        "weights": 1.0,
    }
    groups: dict[Needs, GroupCost] = {name: GroupCost(_timed(call, n), per_step[name]) for name, call in calls.items()}
    return MetricCosts(workload.model, numerics, spread(seconds[1:]), groups)


def _calls(parts: Parts, workload: Workload) -> dict[Needs, Callable[[], object]]:
    """One computation of each group; a first step of writing makes what they look at."""
    learner, baseline = parts.learner, parts.baseline
    text = training_text(parts, 0)
    batch = training_batch(parts, text, 0)
    samples = [training_text(parts, step).samples[0] for step in range(1, Metrics().samples + 1)]
    window = Window(samples, baseline.reference, samples[:8])
    scored = torch.tensor(parts.encoded[workload.text].ids[: workload.evaluated_tokens])
    nll = torch.rand(len(scored))
    contexts, first_model = baseline.contexts, baseline.first_model
    assert contexts is not None and first_model is not None
    config, model = parts.config, cast(Any, learner.loaded.model)
    # The measures of writing are computed with the draws, so this is the whole draw: at most.
    engine, _ = make_engines(model, config.engine, write=config.numerics.write, score=config.numerics.evaluate)
    with torch.no_grad():
        logits_RV = model(input_ids=batch.inputs_BT[:1, :1]).logits[0].float().contiguous()
    noise = rng(SEED, "sample", 0).standard_exponential(tuple(logits_RV.shape), dtype=np.float32)
    noise_RV = torch.from_numpy(noise)
    return {
        "sample": lambda: repetition_metrics(samples[0]),
        "window": lambda: window_metrics(window),
        "writing": lambda: engine.draw(logits_RV, noise_RV, config.sampling),
        "evaluation": lambda: TokenTally(baseline.reference).add(scored, nll),
        "contexts": lambda: contexts.values(learner),
        "first model": lambda: first_model.nll_nats(batch),
        "weights": learner.start.displacement,
    }


def _timed(call: Callable[[], object], n: int) -> Spread:
    call()
    seconds: list[float] = []
    for _ in range(n):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return spread(seconds)
