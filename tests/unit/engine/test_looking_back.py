"""Decoding rules beyond temperature, top-k, top-p and min-p: by hand, and equal to those of transformers."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from collapselab.config.schema import RunConfig, Sampling
from collapselab.engine.choose import make_engines
from collapselab.engine.decoding import generate
from collapselab.engine.sampling import distribution, penalised
from collapselab.metrics.repetition import seq_rep
from collapselab.randomness import rng
from collapselab.testing import tiny_model


def test_top_n_sigma_keeps_logits_near_the_highest() -> None:
    """Logits 4, 2, 0, 0, 0, 0 have mean 1 and standard deviation √(14/6) ≈ 1.53."""
    logits_BV = torch.tensor([[4.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    for n, kept in ((1.0, 1), (1.4, 2), (2.7, 6)):
        q_BV = distribution(logits_BV, Sampling(temperature=1.0, top_k=None, top_n_sigma=n))
        assert int((q_BV > 0).sum()) == kept
    whole = distribution(logits_BV, Sampling(temperature=0.5, top_k=None, top_n_sigma=1.4))
    assert int((whole > 0).sum()) == 2, "whatever the temperature"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 4), st.floats(0.5, 2.0))
def test_penalties_are_those_of_transformers(history: list[int], n: int, penalty: float) -> None:
    logits_BV = torch.randn(1, 6, generator=torch.Generator().manual_seed(len(history)))
    ids = cast(Any, torch.tensor([history]))
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits_BV.clone())
    expected = NoRepeatNGramLogitsProcessor(n)(ids, cast(Any, expected))
    made = penalised(logits_BV, [history], Sampling(repetition_penalty=penalty, no_repeat_ngram=n))
    if expected.isinf().all():
        assert not made.isinf().any(), "one token must be left"
    else:
        assert torch.equal(made, expected)


@pytest.mark.parametrize("name", ["plain", "native"])
@pytest.mark.parametrize("speculate", [False, True])
def test_no_4_gram_occurs_twice_with_any_engine(name: Any, speculate: bool, native: None) -> None:
    loaded = tiny_model(3, layers=1)
    engine, _ = make_engines(loaded.model, name, write="float32", score="float32")

    def written(rule: Sampling) -> list[int]:
        noise = [rng(0, "sample", 0)]
        made = generate(
            engine, [[0]], rule, noise, vocab_size=257, max_new_tokens=120, context=256, speculate=speculate
        )
        return made.token_ids[0]

    narrow = Sampling(greedy=True)
    assert (seq_rep(written(narrow), 4) or 0) > 0.5
    assert seq_rep(written(narrow.model_copy(update={"no_repeat_ngram": 4})), 4) == 0
    penalised_ids = written(narrow.model_copy(update={"repetition_penalty": 5.0}))
    assert len(set(penalised_ids)) > len(set(written(narrow)))


def test_only_such_rules_look_back() -> None:
    assert not RunConfig().sampling.looks_back
    assert Sampling(repetition_penalty=1.1).looks_back and Sampling(no_repeat_ngram=4).looks_back
