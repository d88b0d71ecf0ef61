"""The sweeps of safeguards: each of them is there, at its defaults and over its grid, with paired seeds."""

from __future__ import annotations

import pytest

from collapselab.config.safeguards import by_id, shown
from collapselab.config.safeguards.by_settings import BY_OTHER_SETTINGS
from collapselab.sweep.grid import expand
from collapselab.sweep.presets import load
from collapselab.sweep.safeguards import HORIZON, RATE, SEEDS

NAMES = ("safeguards", "safeguards-recovery", "safeguards-silent", "safeguards-dose")


@pytest.mark.parametrize("name", NAMES)
def test_each_arm_has_the_same_seeds(name: str) -> None:
    runs = expand(load(name))
    arms = {run.name.partition("-")[2].partition("-")[2] for run in runs}
    assert len(runs) == len(SEEDS) * len(arms) and len(SEEDS) >= 5
    assert {run.config.seed for run in runs} == set(SEEDS)
    assert {run.config.model for run in runs} == {"builtin:pico"}


def test_each_safeguard_is_compared_with_none_at_its_defaults_and_over_its_grid() -> None:
    configs = [run.config for run in expand(load("safeguards")) if run.config.seed == 0]
    texts = {shown(c.safeguards) for c in configs}
    expected = {str(kind.model_validate(values)) for kind in by_id().values() for values in ({}, *kind.grid)}
    assert texts == {"none", *expected}
    assert not any(s.is_off for c in configs for s in c.safeguards)
    pure = [c for c in configs if c.sampling.temperature == 1 and c.sampling.top_k is None]
    assert len(pure) == 1 and pure[0].stop.max_steps == HORIZON


def test_lower_rates_go_equally_far() -> None:
    lower = [run.config for run in expand(load("safeguards")) if run.config.optim.lr < RATE]
    assert len(lower) == 3 * len(SEEDS)
    assert all(c.stop.max_steps * c.optim.lr == pytest.approx(HORIZON * RATE, rel=0.01) for c in lower)


def test_only_what_is_in_a_sweep_of_its_own_is_left_out() -> None:
    changes = [run.changes for run in expand(load("safeguards"))]
    missing = {
        name
        for name, other in BY_OTHER_SETTINGS.items()
        if not any(other.changes.items() <= c.items() for c in changes)
    }
    assert missing == {"sgd"}
    assert any(run.config.optim.name == "sgd" for run in expand(load("safeguards-silent")))


def test_remedies_begin_at_several_times_past_onset_in_runs_that_go_on() -> None:
    configs = [run.config for run in expand(load("safeguards-recovery"))]
    assert all(not c.stop.on_collapse for c in configs)
    assert {shown(c.safeguards) for c in configs} >= {"none", "rollback", "rollback(remedy=real, past=60)"}
