"""The loop on every engine: its losses on human text are those of the plain engine, and follow every update."""

from __future__ import annotations

import copy

import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.schema import RunConfig
from collapselab.engine.choose import make_engines
from collapselab.loop import online_loop
from collapselab.records import Record
from collapselab.step.parts import Parts, build

CLOSE_NATS = 0.0044  # results/precision: the largest difference that evaluation in bfloat16 makes


def losses(records: list[Record]) -> list[float]:
    return [r.number("val_nll_nats") for r in records]


def fast(config: RunConfig, **changes: object) -> RunConfig:
    """Updates so large that a loss of old weights is off by a multiple of the tolerance."""
    return override(config, {"optim.lr": 1e-2, "stop.max_steps": 4, "eval.full_every": 0} | changes)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("updates", [1, 3])
def test_every_engine_sees_every_update(tiny_config: RunConfig, native: None, optimiser: str, updates: int) -> None:
    rate = 1e-2 if optimiser == "adamw" else 0.5
    config = fast(tiny_config, **{"optim.name": optimiser, "optim.lr": rate, "train.steps_per_sequence": updates})
    expected = losses(list(online_loop(build(override(config, {"engine": "plain"})))))
    assert max(abs(nats - expected[0]) for nats in expected) > 4 * CLOSE_NATS, "too small to test anything"
    for engine in ("static", "native"):
        records = list(online_loop(build(override(config, {"engine": engine}))))
        assert losses(records) == pytest.approx(expected, abs=CLOSE_NATS), engine


@pytest.mark.parametrize("engine", ["static", "native"])
@pytest.mark.parametrize("update", ["float32", "bfloat16"])
def test_after_each_step_the_engines_are_as_if_made_anew(
    tiny_config: RunConfig, native: None, engine: str, update: str
) -> None:
    """Bit for bit, in writing too."""
    changes = {"engine": engine, "numerics.write": "bfloat16", "numerics.update": update}
    setup = build(fast(tiny_config, **changes))
    ids = torch.tensor([setup.encoded[tiny_config.data[0]].ids[:60]])
    for _ in online_loop(setup):
        fresh, fresh_scorer = make_engines(
            copy.deepcopy(setup.learner.loaded.model), engine, write="bfloat16", score="bfloat16"
        )
        assert torch.equal(setup.learner.score(ids, 1), fresh_scorer.score(ids, 1))
        assert torch.equal(setup.learner._engine.reread(ids.tolist()), fresh.reread(ids.tolist()))


@pytest.mark.parametrize("engine", ["static", "native"])
def test_restored_weights_are_seen(tiny_config: RunConfig, native: None, engine: str) -> None:
    """As after a resume: the weights of parts that were already used are replaced in place."""

    def first_loss(setup: Parts) -> float | None:
        return next(online_loop(setup)).number("val_nll_nats")

    trained, config = build(fast(tiny_config)), fast(tiny_config, engine=engine)
    list(online_loop(trained))
    used, unused = build(config), build(config)
    first = used.losses(0)[tiny_config.data[0]].nll_nats
    for setup in (used, unused):
        with torch.no_grad():
            for mine, theirs in zip(
                setup.learner.loaded.model.parameters(), trained.learner.loaded.model.parameters(), strict=True
            ):
                mine.copy_(theirs)
    assert first_loss(used) == first_loss(unused) != first
