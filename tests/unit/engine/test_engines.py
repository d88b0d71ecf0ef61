"""Engines against the `transformers` module they run."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaForCausalLM

from collapselab.config.schema import Optimizer, Sampling
from collapselab.engine.adamw import adamw_step
from collapselab.engine.choose import make_engines
from collapselab.engine.families import read_decoder
from collapselab.engine.library import CLinear, library
from collapselab.engine.numerics import round_at_random
from collapselab.errors import InputError
from collapselab.inputs.models import LoadedModel
from collapselab.step.batches import make_optimizer
from collapselab.testing import BYTE_VOCAB, tiny_model
from engines import ENGINES, MODELS, engine_of, engines_of, llama, tokens


@torch.no_grad()
def reference(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    """Logits (T, V) in float64: the module's own float32 logits are themselves about 4e-7 off."""
    double = copy.deepcopy(loaded.model).double()
    return double(torch.tensor([ids])).logits[0].float()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_logits_are_those_of_transformers(make: Callable[[], LoadedModel], name: str) -> None:
    """All at once, token by token, and a forgotten end read again: float32, to 1e-5."""
    loaded, ids = make(), tokens(50)
    expected, engine = reference(loaded, ids), engine_of(loaded.model, name)
    engine.begin(1, 64)
    torch.testing.assert_close(engine.read([ids], [0]), expected, atol=1e-5, rtol=0)
    engine.begin(1, 64)
    one_by_one = [engine.read([[t]], [i])[0] for i, t in enumerate(ids)]
    torch.testing.assert_close(torch.stack(one_by_one), expected, atol=1e-5, rtol=0)
    if engine.is_ragged:  # goes back
        torch.testing.assert_close(engine.read([ids[30:]], [30], last_only=True), expected[-1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(engine.reread([ids]), expected[-1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_sequences", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_step_that_a_gpu_captures_is_a_step(
    make: Callable[[], LoadedModel], precision: str, num_sequences: int
) -> None:
    """Its position is data; and neither another shape in between nor a NaN that an earlier sequence left matters."""
    engine, rows = engine_of(make().model, "static", precision), [tokens(30, seed) for seed in range(num_sequences)]
    engine.begin(num_sequences, 64)
    expected = [engine.read([[row[i]] for row in rows], [i] * num_sequences) for i in range(30)]
    engine._cache.values.fill_(torch.nan)
    engine.begin(5, 64)
    engine.read([[1]] * 5, [0] * 5)
    engine.begin(num_sequences, 64)
    with torch.no_grad():
        made = [engine.one_token(torch.tensor([[row[i]] for row in rows]), torch.tensor([i])) for i in range(30)]
    torch.testing.assert_close(torch.stack(made), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_scores_are_those_of_transformers(make: Callable[[], LoadedModel], name: str) -> None:
    loaded, rows = make(), [tokens(40, seed) for seed in range(3)]
    _, scorer = engines_of(loaded.model, name)
    expected = [
        torch.nn.functional.cross_entropy(reference(loaded, r)[4:-1], torch.tensor(r[5:]), reduction="none")
        for r in rows
    ]
    torch.testing.assert_close(scorer.score(torch.tensor(rows), 5), torch.stack(expected), atol=1e-5, rtol=0)


def test_native_rows_do_not_depend_on_each_other(native: None) -> None:
    """Bit for bit, in both precisions: several different sequences against one token at a time.

    The wide model has more columns than the kernels work on at once.
    """
    for make in (*MODELS.values(), lambda: tiny_model(3, context=64, width=140)):
        for precision in ("float32", "bfloat16"):
            loaded, ids = make(), [tokens(30, seed) for seed in range(3)]
            engine = engine_of(loaded.model, "native", precision)
            singles = []
            for row in ids:
                engine.begin(1, 64)
                singles.append([engine.read([[t]], [i])[0] for i, t in enumerate(row)])
            engine.begin(3, 64)
            engine.read([ids[0][:7], ids[1][:20], ids[2][:1]], [0, 0, 0])
            together = engine.read([ids[0][7:9], [], ids[2][1:21]], [7, 20, 1])
            expected = torch.stack([*singles[0][7:9], *singles[2][1:21]])
            assert torch.equal(together, expected)


def test_native_sums_do_not_depend_on_the_number_of_threads(native: None) -> None:
    loaded, ids = tiny_model(3, context=64, width=48), tokens(40)
    for precision in ("float32", "bfloat16"):
        engine, scorer = engines_of(loaded.model, "native", precision)
        made = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            engine.begin(1, 64)
            made.append((engine.read([ids], [0]), scorer.score(torch.tensor([ids]), 1)))
        torch.set_num_threads(1)
        assert all(torch.equal(m[0], made[0][0]) for m in made)
        if precision == "bfloat16":  # in float32 torch evaluates
            assert all(torch.equal(m[1], made[0][1]) for m in made)


@pytest.mark.parametrize("name", ["static", "native"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_bfloat16_is_the_module_with_rounded_matrices(make: Callable[[], LoadedModel], name: str) -> None:
    """What is left is the rounding of activations: a few thousandths of these logits."""
    loaded, ids = make(), tokens(50)
    engine, scorer = engines_of(loaded.model, name, "bfloat16")
    rounded = copy.deepcopy(loaded)
    matrices = [linear.weight for linear in read_decoder(rounded.model).linears]
    embedding = read_decoder(rounded.model).embedding.clone()
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(round_at_random(matrix))
        # The embedding is read in float32, though the tied head is rounded.
        rounded.model.get_input_embeddings().weight = torch.nn.Parameter(embedding)
    expected = reference(rounded, ids)
    engine.begin(1, 64)
    error = (engine.read([ids], [0]) - expected).abs()
    assert error.max() < 0.02 * expected.abs().max()
    assert error.mean() < 0.003 * expected.abs().max()
    nll = torch.nn.functional.cross_entropy(expected[:-1], torch.tensor(ids[1:]))
    assert scorer.score(torch.tensor([ids]), 1).mean() == pytest.approx(nll.item(), abs=2e-3)


def test_rounding_at_random_keeps_the_mean_and_the_change() -> None:
    """A change of a tenth of a unit in the last place survives in the mean; rounding to nearest loses it."""
    weight = torch.full((1000, 1000), 1.0)
    change = 2.0**-7 / 10
    rounded = (round_at_random(weight + change).double() - 1).mean().item()
    assert rounded == pytest.approx(change, rel=0.02)  # standard error: 0.3 %
    assert ((weight + change).bfloat16().double() - 1).mean().item() == 0
    assert torch.equal(round_at_random(weight), weight.bfloat16())
    special = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, -1.5])
    assert torch.equal(round_at_random(special).float().nan_to_num(7), special.nan_to_num(7))


@pytest.mark.parametrize(("num_in", "num_out"), [(64, 48), (70, 90), (1, 17)])
@pytest.mark.parametrize("is_in_out", [False, True])
def test_packed_weights_are_the_rounded_ones(num_in: int, num_out: int, is_in_out: bool, native: None) -> None:
    weight = torch.randn(num_in, num_out, generator=torch.Generator().manual_seed(0))
    weight = weight if is_in_out else weight.T.contiguous()
    tiles_in, tiles_out = -(-num_in // 32), -(-num_out // 16)
    packed = torch.empty(tiles_in * tiles_out * 512, dtype=torch.bfloat16)
    described = CLinear(weight.data_ptr(), None, None, num_in, num_out, is_in_out)
    library().pack_weights(ctypes.byref(described), packed.data_ptr(), 1)
    laid_out = packed.view(tiles_out, tiles_in, 16, 16, 2).permute(1, 2, 4, 0, 3).reshape(tiles_in * 32, tiles_out * 16)
    rounded = round_at_random(weight)
    expected = torch.zeros_like(laid_out)
    expected[:num_in, :num_out] = rounded if is_in_out else rounded.T
    assert torch.equal(laid_out, expected)


def test_unusual_models_are_served_plainly() -> None:
    """Another family, and members of the known ones with settings the engines do not compute."""
    neox = GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    )
    small = {"vocab_size": 50, "n_embd": 32, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    relu = GPT2LMHeadModel(GPT2Config(activation_function="relu", **small))
    inverse = GPT2LMHeadModel(GPT2Config(scale_attn_by_inverse_layer_idx=True, **small))
    double = GPT2LMHeadModel(GPT2Config(**small)).double()
    for model in (neox, relu, inverse, double):
        assert read_decoder(model) is None
        assert [e.name for e in make_engines(model, "auto", write="float32", score="float32")] == ["plain", "plain"]
        with pytest.raises(InputError, match="runs only the GPT-2 and Llama families"):
            make_engines(model, "native", write="float32", score="float32")


def test_scaled_rotary_positions(native: None) -> None:
    """Linear scaling is a table like the default; scaling that depends on the text's length is left to the module."""
    plain_config = llama().model.config
    for kind, is_known in (("linear", True), ("dynamic", False)):
        config = copy.deepcopy(plain_config)
        config.rope_parameters = {"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0}
        loaded = llama()
        model = LlamaForCausalLM(config).eval()
        model.load_state_dict(loaded.model.state_dict())
        assert (read_decoder(model) is not None) == is_known
        if is_known:
            ids = tokens(40)
            engine = engine_of(model, "native")
            engine.begin(1, 64)
            expected = model(torch.tensor([ids])).logits[0].detach()
            torch.testing.assert_close(engine.read([ids], [0]), expected, atol=1e-5, rtol=0)
            assert (expected - reference(loaded, ids)).abs().max() > 1e-3


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_kernels_read_nothing_outside_their_tables(make: Callable[[], LoadedModel], native: None) -> None:
    """A bad token, position or target is an error with its value, wherever it is; nothing is read first."""
    loaded = make()
    for precision in ("float32", "bfloat16"):
        engine, scorer = engines_of(loaded.model, "native", precision)
        for bad in (-1, BYTE_VOCAB, 2**31 - 1):
            for ids in ([[bad]], [[1, 2, bad]], [[*tokens(40), bad]]):
                engine.begin(1, 64)
                with pytest.raises(IndexError, match=str(bad)):
                    engine.read(ids, [0])
                with pytest.raises(IndexError):
                    scorer.score(torch.tensor([[*ids[0], 1]]), 1)
            with pytest.raises(IndexError):
                scorer.score(torch.tensor([[1, bad]]), 1)
            if precision == "bfloat16":
                with pytest.raises(IndexError, match=str(bad)):
                    scorer._nll(torch.zeros(2, read_decoder(loaded.model).width), torch.tensor([1, bad]))
        engine.begin(1, 64)
        with pytest.raises(IndexError, match="positions 60 to 64 of 64"):
            engine.read([tokens(5)], [60])
        with pytest.raises(IndexError, match="sequences 0 to 1 of 1"):
            engine.read([[1], [2]], [0, 0])
        assert engine.read([[1]], [0]).isfinite().all()  # still works afterwards


def test_the_kernels_refuse_noise_and_moments_of_another_size(native: None) -> None:
    loaded = tiny_model(0)
    with pytest.raises(AssertionError):
        engine_of(loaded.model, "native").draw(torch.zeros(1, BYTE_VOCAB), torch.ones(1, BYTE_VOCAB - 1), Sampling())
    optimizer = make_optimizer(loaded.model, Optimizer())
    parameter = next(loaded.model.parameters())
    optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    with pytest.raises(AssertionError):
        adamw_step(library(), optimizer, {parameter: torch.zeros_like(parameter)}, None)
