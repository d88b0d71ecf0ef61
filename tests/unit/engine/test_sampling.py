"""Sampling rules against hand values and `transformers`; generation against full recomputation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from collapselab.config.schema import Sampling
from collapselab.engine.sampling import distribution, draw
from collapselab.randomness import rng

PLAIN = Sampling(temperature=1.0, top_k=None)
LOGITS_BV = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))


def noises(count: int, seed: int = 1) -> list[np.random.Generator]:
    return [rng(seed, "sample", 0, i) for i in range(count)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"min_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),
        ({"greedy": True}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3, 0.01 / 0.3]),
    ],
)
def test_distribution_by_hand(rule: dict[str, float], expected: list[float]) -> None:
    probs = distribution(LOGITS_BV, PLAIN.model_copy(update=rule))[0]
    assert probs.tolist() == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10_000),
    st.floats(0.3, 2.0),
    st.one_of(st.none(), st.integers(1, 40)),
    st.one_of(st.none(), st.floats(0.1, 0.95)),
    st.one_of(st.none(), st.floats(0.01, 0.5)),
)
def test_distribution_is_that_of_transformers(
    seed: int, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    logits_BV = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 30)).astype(np.float32)) * 3
    expected = TemperatureLogitsWarper(temperature)(None, logits_BV)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = TopPLogitsWarper(top_p)(None, expected)
    if min_p is not None:
        expected = MinPLogitsWarper(min_p)(None, expected)
    rule = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    torch.testing.assert_close(distribution(logits_BV, rule), expected.softmax(-1), atol=1e-5, rtol=1e-4)


def test_draws_follow_the_distribution() -> None:
    """Chi-square over 4 outcomes and 20,000 draws; the generator is fixed."""
    generator, counts, n = rng(5, "sample", 0), np.zeros(4), 20_000
    noise = torch.from_numpy(generator.standard_exponential((n, 4), dtype=np.float32))
    probs = torch.tensor([0.4, 0.3, 0.2, 0.1])
    drawn = draw(probs.expand(n, 4), noise)
    counts = np.bincount(drawn.numpy(), minlength=4)
    expected = n * np.array([0.4, 0.3, 0.2, 0.1])
    assert ((counts - expected) ** 2 / expected).sum() < 16.27  # 99.9 % point of 3 degrees of freedom


def test_noise_of_exactly_zero_never_draws_an_excluded_token() -> None:
    drawn = draw(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    assert drawn.tolist() == [1]
