"""Generation: every engine against full recomputation, and every way of decoding against plain decoding."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collapselab.config.schema import Sampling
from collapselab.engine.decoding import Generated, generate
from collapselab.engine.interface import Precision
from collapselab.engine.sampling import distribution, draw
from collapselab.inputs.models import LoadedModel
from collapselab.randomness import rng
from collapselab.testing import BYTE_VOCAB, tiny_model, uniform_model
from engines import ENGINES, engine_of, llama


def noises(count: int, seed: int = 1) -> list[np.random.Generator]:
    return [rng(seed, "sample", 0, i) for i in range(count)]


def write(loaded: LoadedModel, name: str = "plain", *, precision: Precision = "float32", **changes) -> Generated:
    arguments = {"prompts": [[0, 5]], "rule": Sampling(top_k=20), "max_new_tokens": 40, "context": 64} | changes
    prompts = arguments.pop("prompts")
    noise = arguments.pop("noise", noises(len(prompts)))
    engine = engine_of(loaded.model, name, precision)
    return generate(engine, prompts, arguments.pop("rule"), noise, vocab_size=loaded.vocab_size, **arguments)


def recompute(model, prompt: list[int], tokens: list[int], context: int) -> tuple[float, float]:
    """Mean NLL and entropy, each token from a full forward pass over at most `context` tokens."""
    nll, entropy, ids = [], [], list(prompt)
    for token in tokens:
        with torch.no_grad():
            logp = model(torch.tensor([ids[-context:]])).logits[0, -1].log_softmax(-1)
        nll.append(-logp[token].item())
        entropy.append(-(logp.exp() * logp).sum().item())
        ids.append(token)
    return float(np.mean(nll)), float(np.mean(entropy))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("make", [lambda: tiny_model(3, context=64), llama], ids=["gpt2", "llama"])
@pytest.mark.parametrize("context", [16, 64])
def test_generation_equals_full_recomputation(make: Callable[[], LoadedModel], name: str, context: int) -> None:
    """In the cache (64) and past the context (16), where positions are renumbered at every token."""
    loaded = make()
    made = write(loaded, name, context=context)
    ids, generator = [0, 5], noises(1)[0]
    for token in made.token_ids[0]:
        with torch.no_grad():
            logits_BV = loaded.model(torch.tensor([ids[-context:]])).logits[:, -1]
        noise_BV = torch.from_numpy(generator.standard_exponential(BYTE_VOCAB, dtype=np.float32))[None]
        assert token == draw(distribution(logits_BV, Sampling(top_k=20)), noise_BV).item()
        ids.append(token)
    assert len(made.token_ids[0]) == 40
    nll, entropy = recompute(loaded.model, [0, 5], made.token_ids[0], context)
    assert made.nll_nats[0] == pytest.approx(nll, abs=1e-5)
    assert made.entropy_nats[0] == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("context", [16, 64])
def test_a_sequence_does_not_depend_on_its_batch(name: str, context: int) -> None:
    loaded = tiny_model(3, context=64)
    batch = write(loaded, name, prompts=[[0]] * 3, context=context)
    single = write(loaded, name, prompts=[[0]], noise=noises(3)[2:], context=context)
    assert batch.token_ids[2] == single.token_ids[0]
    assert batch.token_ids[0] != batch.token_ids[1]


@pytest.mark.parametrize("name", ENGINES)
def test_uniform_model_has_entropy_ln_v(name: str) -> None:
    made = write(uniform_model(), name, max_new_tokens=5)
    assert made.entropy_nats[0] == pytest.approx(math.log(BYTE_VOCAB), abs=1e-5)
    assert made.nll_nats[0] == pytest.approx(math.log(BYTE_VOCAB), abs=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_generation_stops_after_the_stop_token_and_keeps_it(name: str) -> None:
    loaded, rule = tiny_model(3), Sampling(temperature=1.0, top_k=None)
    free = write(loaded, name, prompts=[[0]] * 2, rule=rule, max_new_tokens=30)
    stop = free.token_ids[0][7]
    cut = write(loaded, name, prompts=[[0]] * 2, rule=rule, max_new_tokens=30, stop_token=stop)
    for ids, whole in zip(cut.token_ids, free.token_ids, strict=True):
        assert ids == (whole[: whole.index(stop) + 1] if stop in whole else whole)
    assert len(cut.token_ids[0]) < 30


def collapsed() -> LoadedModel:
    """A model trained on a short loop until it writes little else."""
    loaded = tiny_model(5)
    loop = torch.tensor([[0, *([7, 8, 9, 10, 11] * 51)]])
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    for _ in range(60):
        loaded.model(loop, labels=loop).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loaded


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_sequences", [1, 3])
@pytest.mark.parametrize("make", [lambda: tiny_model(3), collapsed], ids=["healthy", "collapsed"])
def test_speculation_changes_no_token(
    make: Callable[[], LoadedModel], num_sequences: int, precision: Precision, native: None
) -> None:
    loaded, prompts = make(), [[0]] * num_sequences
    settings = {"prompts": prompts, "rule": Sampling(), "max_new_tokens": 150, "context": 256, "precision": precision}
    plain = write(loaded, "native", speculate=False, **settings)
    speculative = write(loaded, "native", **settings)
    assert speculative.token_ids == plain.token_ids
    assert speculative.nll_nats == plain.nll_nats  # bit for bit: a row's sums do not depend on the other rows
    assert speculative.entropy_nats == plain.entropy_nats
    assert plain.num_passes == 150
    if make is collapsed:
        assert speculative.num_passes < 75
    else:
        assert speculative.num_passes <= 150


def test_speculation_ends_where_the_sample_and_the_context_end(native: None) -> None:
    loaded = collapsed()
    for length in (30, 61, 62, 63, 64, 90):
        settings = {"prompts": [[0]], "rule": Sampling(), "max_new_tokens": length, "context": 64}
        with_guesses, without = (write(loaded, "native", speculate=s, **settings) for s in (True, False))
        assert with_guesses.token_ids == without.token_ids
        assert len(with_guesses.token_ids[0]) == length


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.floats(0.3, 2.0),
    st.one_of(st.none(), st.integers(1, 60)),
    st.one_of(st.none(), st.floats(0.1, 0.95)),
    st.one_of(st.none(), st.floats(0.01, 0.5)),
    st.booleans(),
    st.booleans(),
)
def test_native_draws_are_the_definition(
    seed: int, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None, greedy: bool, ties: bool
) -> None:
    native, plain = (engine_of(tiny_model(0).model, name, "float32") for name in ("native", "plain"))
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(3, 50)) * 3 - 80
    logits_RV = torch.from_numpy((logits.round() if ties else logits).astype(np.float32))
    noise_RV = torch.from_numpy(generator.standard_exponential((3, 50), dtype=np.float32))
    rule = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, greedy=greedy)
    made, expected = native.draw(logits_RV, noise_RV, rule), plain.draw(logits_RV, noise_RV, rule)
    assert made.tokens == expected.tokens
    assert made.nll_nats == pytest.approx(expected.nll_nats, abs=1e-5)
    assert made.entropy_nats == pytest.approx(expected.entropy_nats, abs=1e-5)


def test_a_draw_from_nan_is_a_token_and_its_loss_is_nan(native: None) -> None:
    made = engine_of(tiny_model(0).model, "native", "float32").draw(
        torch.full((1, 50), torch.nan), torch.ones(1, 50), Sampling(top_k=5)
    )
    assert 0 <= made.tokens[0] < 50
    assert math.isnan(made.nll_nats[0])
    assert math.isnan(made.entropy_nats[0])
