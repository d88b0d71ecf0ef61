"""This package's variant, through its public code: the only benchmark module that calls the package."""

from __future__ import annotations

import itertools

from benchmarks.workload import Arm, Workload, seconds_by_phase, update_sequence
from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.loop import online_loop
from collapselab.randomness import rng
from collapselab.step.batches import make_batch
from collapselab.step.parts import build
from collapselab.step.sources import training_text

NUMERICS = ("exact", "fast")


def configuration(workload: Workload, numerics: str) -> RunConfig:
    """The run whose turns are timed: the defaults except for the workload, without a stop rule."""
    return override(
        RunConfig(),
        {
            "model": workload.model,
            "data": (workload.text,),
            "threads": workload.threads,
            "sampling.temperature": workload.temperature,
            "sampling.top_k": workload.top_k,
            "generate.max_new_tokens": workload.max_new_tokens,
            "generate.batch_size": workload.batch_size,
            "generate.context": workload.context,
            "generate.context_mode": workload.context_mode,
            "optim.lr": workload.lr,
            "optim.clip": workload.clip,
            "eval.protocol": f"windows[{workload.window_tokens},{workload.num_windows}]",
            "eval.full_every": 0,
            "stop.on_collapse": False,
            "stop.on_divergence": False,
            "stop.max_steps": 10**9,
            "numerics": numerics,
        },
    )


def arm(workload: Workload, numerics: str) -> Arm:
    """Our variant, with `numerics` exact or fast."""
    setup = build(configuration(workload, numerics))
    config, turns, steps = setup.config, online_loop(setup), itertools.count()
    sequence = update_sequence(workload, setup.learner.vocab_size, setup.learner.tokenizer.end_of_text_id)
    batch = make_batch([sequence], 1, config.train, [rng(config.seed, "window", 0)], config.device)

    def update() -> float:
        loss = setup.learner.nll(batch).mean
        setup.learner.update(loss)
        return loss.item()

    return Arm(
        decode=lambda: training_text(setup, next(steps)).samples,
        evaluate=lambda: next(iter(setup.losses(next(steps)).values())).nll_nats,
        update=update,
        iteration=lambda: seconds_by_phase(next(turns).values),
    )
