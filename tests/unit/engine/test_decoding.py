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
from collapselab.engine.interface import Draw, Precision
from collapselab.engine.native import NativeEngine
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
    assert made.mean("nll_nats") == pytest.approx(nll, abs=1e-5)
    assert made.mean("entropy_nats") == pytest.approx(entropy, abs=1e-5)


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
    assert made.mean("entropy_nats") == pytest.approx(math.log(BYTE_VOCAB), abs=1e-5)
    assert made.mean("nll_nats") == pytest.approx(math.log(BYTE_VOCAB), abs=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_generation_stops_after_the_stop_token_and_keeps_it(name: str) -> None:
    loaded, rule = tiny_model(3), Sampling(temperature=1.0, top_k=None)
    free = write(loaded, name, prompts=[[0]] * 2, rule=rule, max_new_tokens=30)
    stop = free.token_ids[0][7]
    cut = write(loaded, name, prompts=[[0]] * 2, rule=rule, max_new_tokens=30, stop_token=stop)
    for ids, whole in zip(cut.token_ids, free.token_ids, strict=True):
        assert ids == (whole[: whole.index(stop) + 1] if stop in whole else whole)
    assert len(cut.token_ids[0]) < 30


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("context", [20, 256])
@pytest.mark.parametrize(
    "rule",
    [Sampling(), Sampling(temperature=1.0, top_k=None), Sampling(greedy=True), Sampling(min_p=0.1)],
    ids=["temperature", "pure", "greedy", "min-p"],
)
def test_small_models_write_the_same_bits_in_one_call(
    rule: Sampling, context: int, precision: Precision, monkeypatch: pytest.MonkeyPatch, native: None
) -> None:
    loaded = tiny_model(3)
    settings = {"rule": rule, "max_new_tokens": 70, "context": context, "precision": precision}
    calls: list[int] = []
    original = NativeEngine.write
    monkeypatch.setattr(NativeEngine, "write", lambda *given: calls.append(1) or original(*given))
    stop = write(loaded, "native", **settings).token_ids[0][60]
    in_one = write(loaded, "native", stop_token=stop, **settings)
    assert calls
    monkeypatch.setattr("collapselab.engine.native.FEW_WEIGHTS", 0)
    one_by_one = write(loaded, "native", stop_token=stop, **settings)
    assert in_one.token_ids == one_by_one.token_ids
    assert in_one.draws == one_by_one.draws


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
    make: Callable[[], LoadedModel],
    num_sequences: int,
    precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
    native: None,
) -> None:
    monkeypatch.setattr("collapselab.engine.native.FEW_WEIGHTS", 0)
    loaded, prompts = make(), [[0]] * num_sequences
    settings = {"prompts": prompts, "rule": Sampling(), "max_new_tokens": 150, "context": 256, "precision": precision}
    plain = write(loaded, "native", speculate=False, **settings)
    speculative = write(loaded, "native", **settings)
    assert speculative.token_ids == plain.token_ids
    assert speculative.draws == plain.draws  # bit for bit: a row's sums do not depend on the other rows
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
    assert [d.token for d in made] == [d.token for d in expected]
    for ours, plain_one in zip(made, expected, strict=True):
        assert ours[1:] == pytest.approx(plain_one[1:], abs=2e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_measures_of_a_draw_by_hand(name: str) -> None:
    """p = (1/2, 1/4, 1/4); at temperature 1/2 q ∝ p² = (2/3, 1/6, 1/6); with the likeliest alone q = (1, 0, 0)."""
    logits_RV, noise_RV = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[1e3, 1e-3, 1.0]])
    engine = engine_of(tiny_model(0).model, name, "float32")

    def drawn(rule: Sampling) -> Draw:
        (draw,) = engine.draw(logits_RV, noise_RV, rule)
        return draw

    entropy = 1.5 * math.log(2)
    pure = drawn(Sampling(temperature=1.0, top_k=None))
    assert pure == (1, pytest.approx(math.log(4)), pytest.approx(entropy), 0.0, 0.0, pytest.approx(0.5), 3.0)
    divergence = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    sharpened = drawn(Sampling(temperature=0.5, top_k=None))
    assert sharpened == (1, *map(pytest.approx, (math.log(4), entropy, divergence, math.log(2 / 3), 0.5, 3)))
    for rule in (Sampling(top_k=1), Sampling(greedy=True), Sampling(min_p=0.9), Sampling(top_p=0.1)):
        assert drawn(rule) == (0, *map(pytest.approx, (math.log(2), entropy, math.log(2), math.log(2), 0.5, 3))), rule


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("probs", "size"),
    [
        ([0.92, 0.05, 0.03], 1),
        ([0.88, 0.05, 0.05, 0.02], 2),  # of the two that tie at the border, one is enough
        ([1 / 11] * 11, 10),  # 0.9 · 11 = 9.9
        ([1 / 2048] * 2048, 1844),  # 0.9 · 2048 = 1843.2
        ([0.05, 0.03, 0.92], 1),
    ],
)
def test_the_nucleus_by_hand(name: str, probs: list[float], size: int) -> None:
    logits_RV = torch.tensor([probs]).log() - 7
    (draw,) = engine_of(tiny_model(0).model, name, "float32").draw(logits_RV, torch.ones_like(logits_RV), Sampling())
    assert draw.nucleus_size == size
    assert draw.top_probability == pytest.approx(max(probs))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 50, 1500, 5000]), st.floats(0, 8))
def test_the_nucleus_is_what_sorting_finds(seed: int, vocab: int, spread: float) -> None:
    """A share of the rows' mass within 1e-5 of 0.9 may be counted either way: sums are rounded."""
    logits_RV = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, vocab)).astype(np.float32)) * spread
    sorted_RV = logits_RV.double().softmax(-1).sort(descending=True).values.cumsum(-1)
    for name in ("native", "plain"):
        engine = engine_of(tiny_model(0).model, name, "float32")
        made = engine.draw(logits_RV, torch.ones_like(logits_RV), Sampling())
        for row, drawn in zip(sorted_RV, made, strict=True):
            k = int(drawn.nucleus_size)
            assert row[k - 1] >= 0.9 - 1e-5, name
            assert k == 1 or row[k - 2] < 0.9 + 1e-5, name


@pytest.mark.parametrize("name", ENGINES)
def test_pure_sampling_has_no_pull(name: str) -> None:
    made = write(tiny_model(3), name, rule=Sampling(temperature=1.0, top_k=None))
    pulls = [(draw.sharpening_nats, draw.sampler_gap_nats) for draw in made.draws[0]]
    assert max(abs(value) for pull in pulls for value in pull) <= (0 if name == "native" else 1e-6)


def test_top_k_keeps_what_ties_and_no_more(native: None) -> None:
    """Bisection against sorting, at every k, with values that tie, are huge, equal or one step apart."""
    step = np.spacing(np.float32(80))
    rows = [[0, 0, 0, 0], [1e30, -1e30, 5, 5], [-80, -80 + step, -80, -80 + 2 * step], [3, 1, 2, 2], [7, 7, 7, 8]]
    native_one, plain_one = (engine_of(tiny_model(0).model, name, "float32") for name in ("native", "plain"))
    for row in rows:
        logits_RV = torch.tensor([row], dtype=torch.float32)
        for k in range(1, 5):
            noise_RV = torch.tensor([[1.0, 0.9, 0.8, 0.7]])
            made, expected = (e.draw(logits_RV, noise_RV, Sampling(top_k=k))[0] for e in (native_one, plain_one))
            assert made == (expected.token, *(pytest.approx(m, abs=1e-5) for m in expected[1:])), (row, k)


def test_a_draw_from_nan_is_a_token_and_its_loss_is_nan(native: None) -> None:
    made = engine_of(tiny_model(0).model, "native", "float32").draw(
        torch.full((1, 50), torch.nan), torch.ones(1, 50), Sampling(top_k=5)
    )
    assert 0 <= made[0].token < 50
    assert math.isnan(made[0].nll_nats)
    assert math.isnan(made[0].entropy_nats)
    assert math.isnan(made[0].nucleus_size)
