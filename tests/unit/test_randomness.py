"""Generators by (seed, stream, step, index): equal arguments, equal draws; anything else, another stream."""

from __future__ import annotations

import itertools

import numpy as np

from collapselab.randomness import STREAMS, rng


def test_equal_arguments_give_equal_draws() -> None:
    assert (rng(3, "sample", 7, 1).random(100) == rng(3, "sample", 7, 1).random(100)).all()


def test_draws_are_the_same_on_every_machine() -> None:
    """Values of numpy's Philox under SeedSequence, whose streams numpy keeps stable."""
    expected = np.random.Generator(np.random.Philox(np.random.SeedSequence((1, 2, 2, 0)))).random(3)
    assert rng(1, "probe", 2).random(3).tolist() == expected.tolist()
    # A stream's number is part of its draws: a new stream gets a new number.
    assert STREAMS == {
        "sample": 0,
        "window": 1,
        "probe": 2,
        "data": 3,
        "evaluation": 5,
        "start": 6,
        "safeguard": 7,
        "adapters": 8,
    }


def test_any_other_argument_gives_other_draws() -> None:
    keys = list(itertools.product((0, 1), STREAMS, (0, 1, 2**20), (0, 1)))
    draws = {rng(seed, stream, step, index).integers(2**63) for seed, stream, step, index in keys}
    # Two of n fair 63-bit draws meet by chance with probability below n² / 2^64, about 1e-15.
    assert len(draws) == len(keys)


def test_streams_are_uncorrelated() -> None:
    count = 4000
    columns = np.array([rng(0, "sample", step).standard_normal(count) for step in range(8)])
    correlations = np.corrcoef(columns)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(count), "fixed generators: passes or fails for ever"
