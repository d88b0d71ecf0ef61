"""The static engine on a GPU, where a decoding step is a captured graph. Not run where there is none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from collapselab.config.schema import Optimizer, Sampling
from collapselab.engine.choose import make_engines
from collapselab.engine.decoding import generate
from collapselab.engine.plain import PlainEngine
from collapselab.randomness import rng
from collapselab.step.batches import Batch, make_optimizer, update
from collapselab.testing import BYTE_VOCAB, tiny_model
from engines import batch_nll

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def noises(count: int) -> list[np.random.Generator]:
    return [rng(1, "sample", 0, i) for i in range(count)]


@pytest.mark.parametrize("num_sequences", [1, 3])
def test_the_graph_writes_what_the_module_writes(num_sequences: int) -> None:
    loaded = tiny_model(3, context=64)
    on_gpu = copy.deepcopy(loaded.model).to("cuda")
    engine, _ = make_engines(on_gpu, "auto", write="float32", score="float32")
    assert engine.name == "static"
    settings = {"vocab_size": BYTE_VOCAB, "max_new_tokens": 40, "context": 64}
    for _ in range(2):  # the second time the graph is there already
        made = generate(engine, [[0, 5]] * num_sequences, Sampling(), noises(num_sequences), **settings)
        expected = generate(
            PlainEngine(loaded.model), [[0, 5]] * num_sequences, Sampling(), noises(num_sequences), **settings
        )
        assert made.token_ids == expected.token_ids


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_graph_sees_changed_weights(precision: str) -> None:
    model = tiny_model(3, context=64).model.to("cuda")
    engine, scorer = make_engines(model, "auto", write=precision, score=precision)
    engine.begin(1, 16)
    engine.read([[0]], [0])
    before = engine.read([[5]], [1])
    optimizer = make_optimizer(model, Optimizer(lr=1e-2))  # torch's fused one: it does not count up the version
    ids = torch.randint(0, BYTE_VOCAB, (1, 40), device="cuda")
    for _ in range(3):
        update(optimizer, batch_nll(model, Batch(ids[:, :-1], ids[:, 1:])), 1.0)
    for told in (engine, scorer):
        told.weights_changed()
    engine.begin(1, 16)
    engine.read([[0]], [0])
    after = engine.read([[5]], [1])
    assert not torch.equal(before, after)
    exact = PlainEngine(model).reread([[0, 5]])
    torch.testing.assert_close(after, exact, atol=1e-4 if precision == "float32" else 0.05, rtol=0)
    scored, plain = scorer.score(ids.cpu(), 1).mean(), PlainEngine(model).score(ids.cpu(), 1).mean()
    torch.testing.assert_close(scored, plain, atol=1e-4 if precision == "float32" else 0.01, rtol=0)
