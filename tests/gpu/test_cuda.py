"""The static engine on a GPU, where a decoding step is a captured graph. Not run where there is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from collapselab.config.overrides import override
from collapselab.config.schema import Optimizer, RunConfig, Sampling
from collapselab.engine.choose import make_engines
from collapselab.engine.decoding import generate
from collapselab.engine.plain import PlainEngine
from collapselab.inputs.models import LoadedModel
from collapselab.randomness import rng
from collapselab.runner import run
from collapselab.step.batches import Batch, make_optimizer, update
from collapselab.testing import BYTE_VOCAB, tiny_model
from engines import MODELS, batch_nll

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def noises(count: int) -> list[np.random.Generator]:
    return [rng(1, "sample", 0, i) for i in range(count)]


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_graph_writes_what_the_module_writes(make: Callable[[], LoadedModel]) -> None:
    """The second time each graph is there already; samples and probes take turns."""
    loaded = make()
    on_gpu = copy.deepcopy(loaded.model).to("cuda")
    engine, _ = make_engines(on_gpu, "auto", write="float32", score="float32")
    assert engine.name == "static"
    settings = {"vocab_size": BYTE_VOCAB, "max_new_tokens": 40, "context": 64}
    for num_sequences in (1, 3, 1, 3):
        arguments = [[0, 5]] * num_sequences, Sampling()
        made = generate(engine, *arguments, noises(num_sequences), **settings)
        expected = generate(PlainEngine(loaded.model), *arguments, noises(num_sequences), **settings)
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


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_run_has_the_losses_of_the_cpu_and_can_be_resumed(
    tiny_config: RunConfig, tmp_path: Path, numerics: str
) -> None:
    """A checkpoint is written at every step, also while the graphs are captured."""
    changes = {"numerics": numerics, "stop.max_steps": 6, "checkpoint_every_s": 0.0, "stop.on_collapse": False}
    config = override(tiny_config, changes | {"eval.every": 1, "optim.lr": 1e-3})
    expected = run(config, tmp_path / "cpu").summary["losses"]
    on_gpu, out = override(config, {"device": "cuda", "keep_checkpoints": True}), tmp_path / "gpu"
    made = run(on_gpu, out).summary["losses"]
    assert made[0]["first"] == pytest.approx(expected[0]["first"], abs=0.0044)  # as results/precision
    (out / "summary.json").unlink()
    again = run(on_gpu, out, resume=True).summary
    assert (again["last_step"], again["losses"][0]["first"]) == (6, made[0]["first"])
    assert json.loads((out / "env.json").read_text())["gpu"] == torch.cuda.get_device_name()
