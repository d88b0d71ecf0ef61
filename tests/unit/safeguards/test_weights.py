"""What safeguards do to weights, learning rate and temperature, by hand on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from collapselab.collapse.course import CollapseState
from collapselab.config.overrides import override
from collapselab.config.safeguards import on_weights as settings
from collapselab.config.schema import RunConfig
from collapselab.safeguards.base import Safeguard, Shared
from collapselab.safeguards.ema import Ema
from collapselab.safeguards.rollback import Rollback
from collapselab.safeguards.steering import Regulate, Thermostat
from collapselab.safeguards.trust_stop import TrustStop
from collapselab.safeguards.weight_anchor import Neon, WeightAnchor, gradient_rms
from collapselab.step.learner import Learner
from collapselab.step.parts import build
from collapselab.step.sources import TrainingText

NOTHING: Any = None
STATE = CollapseState(257, degenerate_share=0.0)


@pytest.fixture
def shared(tiny_config: RunConfig, text_file: Path) -> Shared:
    return Shared(build(override(tiny_config, {"train.real_text": str(text_file)})), 0)


def moved(learner: Learner, by: float) -> dict[str, Tensor]:
    """The weights after they were moved by a number each; returns those."""
    learner.assign({name: p + by for name, p in learner.weights().items()})
    return learner.snapshot()


def same(learner: Learner, expected: dict[str, Tensor]) -> bool:
    return all(torch.allclose(p, expected[name], atol=1e-6) for name, p in learner.weights().items())


def after_step(safeguard: Safeguard, shared: Shared, step: int = 0, state: CollapseState = STATE) -> None:
    safeguard.after_step(step, shared.parts.learner, state)


def test_weight_anchor_pulls_by_its_strength(shared: Shared) -> None:
    learner = shared.parts.learner
    start = learner.snapshot()
    anchor = WeightAnchor(settings.WeightAnchor(strength=0.25, importance="equal"), shared)
    moved(learner, 1.0)
    after_step(anchor, shared)
    assert same(learner, {name: p + 0.75 for name, p in start.items()})


def test_weight_anchor_pulls_important_weights_more_but_not_past_the_start(shared: Shared) -> None:
    learner = shared.parts.learner
    start, rms = learner.snapshot(), gradient_rms(learner, shared)
    mean = torch.cat([r.flatten() for r in rms.values()]).mean()
    anchor = WeightAnchor(settings.WeightAnchor(strength=0.5), shared)
    moved(learner, 1.0)
    after_step(anchor, shared)
    expected = {name: p + 1 - (0.5 * rms[name] / mean).clamp_max(1.0) for name, p in start.items()}
    assert same(learner, expected)
    assert any((0.5 * r / mean > 1).any() for r in rms.values()), "the bound 1/λ is met"


def test_rms_is_that_of_gradients_of_single_windows(shared: Shared) -> None:
    learner = shared.parts.learner
    name, squares = "transformer.wpe.weight", []
    for i in range(16):
        learner.loaded.model.zero_grad()
        learner.nll(shared.real_batch(i, 1)).mean.backward()
        squares.append(dict(learner.loaded.model.named_parameters())[name].grad.clone() ** 2)  # pyright: ignore
    learner.loaded.model.zero_grad()
    assert torch.allclose(gradient_rms(learner, shared)[name], torch.stack(squares).mean(0).sqrt(), atol=1e-7)


def test_neon_goes_as_far_the_other_way_at_its_steps(shared: Shared) -> None:
    learner = shared.parts.learner
    start, neon = learner.snapshot(), Neon(settings.Neon(w=0.5, every=3), shared)
    there = moved(learner, 1.0)
    after_step(neon, shared, step=1)
    assert same(learner, there)
    after_step(neon, shared, step=2)
    assert same(learner, {name: p - 0.5 for name, p in start.items()})


def test_ema_resets_to_the_mean(shared: Shared) -> None:
    learner = shared.parts.learner
    start, ema = learner.snapshot(), Ema(settings.Ema(decay=0.75, mode="reset", every=2), shared)
    moved(learner, 1.0)
    after_step(ema, shared, step=0)  # mean: 0.25
    moved(learner, 1.0)
    after_step(ema, shared, step=1)  # mean: 0.75 · 0.25 + 0.25 · 2
    assert same(learner, {name: p + 0.6875 for name, p in start.items()})


@pytest.mark.parametrize(("action", "delta"), [("shrink", 1e-4), ("skip", 1e-4), ("shrink", 1e-12), ("shrink", 1e9)])
def test_trust_stop_keeps_its_bound(shared: Shared, action: Any, delta: float) -> None:
    learner = shared.parts.learner
    start = learner.snapshot()
    direction = {name: torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) for name, p in start.items()}
    trust = TrustStop(settings.TrustStop(delta=delta, action=action), shared)
    trust.objective(0, learner, NOTHING, NOTHING)
    learner.assign({name: p + 0.02 * direction[name] for name, p in start.items()})
    after_step(trust, shared)
    share, kl = trust.values()["step_share"], trust.values()["kl_start_nats"]
    assert isinstance(share, float) and isinstance(kl, float)
    assert kl <= delta
    if delta == 1e9:
        assert share == 1.0
    elif action == "skip" or delta == 1e-12:
        assert share == 0.0
    else:
        assert 0 < share < 1 and (1 / share).is_integer()
    assert same(learner, {name: p + share * 0.02 * direction[name] for name, p in start.items()})


def with_entropy(entropy: float) -> TrainingText:
    return TrainingText([[0]], [[1]], {"entropy_nats": entropy})


def test_regulate_follows_the_entropy_down_and_stops_at_the_alarm(shared: Shared) -> None:
    learner = shared.parts.learner
    regulate = Regulate(settings.Regulate(power=2.0, alarm=0.5), shared)
    for entropy, factor in ((4.0, 1.0), (3.0, 0.5625), (5.0, 1.0), (1.9, 0.0), (4.0, 0.0)):
        regulate.text(0, learner, with_entropy(entropy))
        after_step(regulate, shared)
        assert learner.lr_factor == pytest.approx(factor)
    before = learner.snapshot()
    learner.update(learner.nll(shared.real_batch(0, 1)).mean)
    assert same(learner, before), "a rate of 0 moves nothing"


def test_the_rate_is_multiplied(shared: Shared) -> None:
    learner = shared.parts.learner
    learner.lr_factor = 0.5
    half = learner.update(learner.nll(shared.real_batch(0, 1)).mean).update_norm
    other = build(shared.parts.config).learner
    whole = other.update(other.nll(Shared(shared.parts, 0).real_batch(0, 1)).mean).update_norm
    assert half == pytest.approx(whole / 2, rel=1e-4)


def test_thermostat_integrates_the_lost_entropy_within_its_bounds(shared: Shared) -> None:
    learner = shared.parts.learner
    thermostat = Thermostat(settings.Thermostat(gain=0.1), shared)
    for entropy, temperature in ((4.0, 0.8), (3.0, 0.9), (3.0, 1.0), (0.0, 1.3), (9.0, 0.8), (9.0, 0.7)):
        thermostat.text(0, learner, with_entropy(entropy))
        after_step(thermostat, shared)
        assert learner.rule.temperature == pytest.approx(temperature)


def test_rollback_restores_the_last_healthy_weights_once(shared: Shared) -> None:
    learner = shared.parts.learner
    rollback = Rollback(settings.Rollback(every=2, past=1), shared)
    healthy = moved(learner, 1.0)
    after_step(rollback, shared, 2)
    moved(learner, 1.0)
    after_step(rollback, shared, 3)  # no copy at this step
    sick = replace(STATE, degenerate_share=1.0)
    after_step(rollback, shared, 4, sick)  # nor of this
    there = moved(learner, 1.0)
    after_step(rollback, shared, 5, replace(sick, onset_step=4))
    assert same(learner, there), "onset is known, one step more was asked for"
    after_step(rollback, shared, 6, replace(sick, onset_step=4))
    assert same(learner, healthy) and rollback.values() == {"rolled_back": True}
    there = moved(learner, 1.0)
    after_step(rollback, shared, 30, replace(sick, onset_step=4))
    assert same(learner, there)


def test_rollback_repeats_if_asked_to(shared: Shared) -> None:
    learner = shared.parts.learner
    start, rollback = learner.snapshot(), Rollback(settings.Rollback(repeat=True), shared)
    sick = replace(STATE, degenerate_share=1.0, onset_step=4)
    for step, is_back in ((6, True), (13, False), (14, True)):  # a window of 8 steps must pass
        moved(learner, 1.0)
        after_step(rollback, shared, step, sick)
        assert same(learner, start) == is_back


def test_rollback_negates_updates(shared: Shared) -> None:
    learner = shared.parts.learner
    start = learner.snapshot()
    rollback = Rollback(settings.Rollback(remedy="negate", steps=1, alpha=2.0), shared)
    after_step(rollback, shared, 5, replace(STATE, onset_step=4))
    for step, expected in ((6, -2.0), (7, -1.0)):
        rollback.text(step, learner, with_entropy(1.0))
        rollback.objective(step, learner, NOTHING, NOTHING)
        moved(learner, 1.0)
        after_step(rollback, shared, step)
        assert same(learner, {name: p + expected for name, p in start.items()})
