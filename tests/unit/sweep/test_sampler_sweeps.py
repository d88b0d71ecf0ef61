"""The sweeps of the sampler: every pure run has its partner, and is long enough to outlast it tenfold."""

from __future__ import annotations

import pytest

from collapselab.config.schema import RunConfig
from collapselab.sweep.grid import expand
from collapselab.sweep.presets import load


def test_the_map_has_every_temperature_with_every_cut() -> None:
    runs = [run.config for run in expand(load("sampler-map"))]
    arms = {(c.sampling.temperature, c.sampling.top_k, c.sampling.top_p, c.sampling.min_p) for c in runs}
    assert len(arms) == 9 * 16 and len(runs) == 5 * len(arms)
    assert all(sum(cut is not None for cut in arm[1:]) <= 1 for arm in arms)
    assert {c.optim.lr for c in runs} == {3.2e-4} and {c.model for c in runs} == {"builtin:pico"}


@pytest.mark.parametrize("name", ["sampler-line", "sampler-smollm2"])
def test_a_pure_run_stands_beside_a_sharpened_one_of_the_same_seed(name: str) -> None:
    configs = [run.config for run in expand(load(name))]

    def key(config: RunConfig) -> tuple[object, ...]:
        return (config.model, config.optim, config.generate, config.seed)

    sharp = {key(c) for c in configs if c.sampling.temperature == 0.8}
    pure = [c for c in configs if c.sampling.temperature == 1 and c.sampling.top_k is None]
    alone = {c.optim.lr for c in pure if key(c) not in sharp}
    assert alone == ({9e-4, 1.8e-3} if name == "sampler-line" else set())
    assert all(c.sampling.top_p is None and c.sampling.min_p is None for c in pure)
