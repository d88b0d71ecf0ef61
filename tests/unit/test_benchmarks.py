"""The bench: baselines that compute what we compute, fair timing, ratios and floors by hand, the table and the JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import operator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from rich.console import Console

from collapselab.benchmarks import authors, growth, models, ours, plain, suite
from collapselab.benchmarks.costs import (
    Ceilings,
    Rates,
    Size,
    decode_bytes,
    evaluate_flops,
    floors,
    generate_floor_s,
    rates_for,
    size_of,
    typical,
    update_floor_s,
)
from collapselab.benchmarks.growth_figure import growth_figure
from collapselab.benchmarks.measure import Timed, alternate, peak_rss_bytes, ratios, spread
from collapselab.benchmarks.models import SHAPES, Shape, locate, make_model, skeleton
from collapselab.benchmarks.probe import machine, make_probe
from collapselab.benchmarks.results import BenchResult, VariantResult, headline, median_floors, to_json, variant_results
from collapselab.benchmarks.workload import Arm, Workload, seconds_by_phase, update_sequence
from collapselab.cli import benching
from collapselab.config.overrides import override
from collapselab.config.protocols import Protocol, Window
from collapselab.config.schema import Sampling
from collapselab.engine.sampling import distribution
from collapselab.errors import InputError
from collapselab.inputs.models import GPT2_PARAMETERS, load_model
from collapselab.records import loads
from collapselab.step.evaluate import Plan
from collapselab.step.parts import build
from collapselab.testing import BYTE_VOCAB, tiny_model

CEILINGS = Ceilings(1e9, 1e10, 4e10, {})


@pytest.fixture
def workload(tiny_folder: Path, text_file: Path) -> Workload:
    """A turn of milliseconds."""
    return Workload(
        str(tiny_folder),
        threads=1,
        text=str(text_file),
        max_new_tokens=30,
        authors_context=16,
        window_tokens=20,
        num_windows=5,
        lr=1e-3,
    )


def silent(message: str) -> None:
    pass


# The baselines compute what the package computes.


@torch.no_grad()
def greedy(model, ids: list[int], count: int, context: int) -> list[int]:
    """The slow definition: every token the likeliest after the last `context` tokens."""
    for _ in range(count):
        ids = [*ids, int(model(torch.tensor([ids[-context:]])).logits[0, -1].argmax())]
    return ids


@torch.no_grad()
def lively_model(scale: float = 10.0):
    """A tiny model with larger weights than fresh ones: its probabilities differ, its greedy text goes on changing."""
    model = tiny_model(3, context=64).model
    for parameter in model.parameters():
        parameter.mul_(scale)
    return model


def test_the_authors_way_crops_its_context() -> None:
    model = lively_model()
    made = authors.generate(
        model,
        torch.tensor([[0, 5]]),
        max_new_tokens=40,
        context=16,
        temperature=0.8,
        top_k=1,
        generator=torch.Generator().manual_seed(1),
    )
    assert made[0].tolist() == greedy(model, [0, 5], 40, 16)
    assert made[0].tolist() != greedy(model, [0, 5], 40, 64), "otherwise cropping is not seen"


def test_transformers_generate_writes_the_greedy_text_at_top_k_1() -> None:
    model = lively_model()
    made = plain.generate(model, torch.tensor([[0, 5]]), max_new_tokens=40, temperature=0.8, top_k=1)
    assert made[0].tolist() == greedy(model, [0, 5], 40, 64)


def test_transformers_generate_goes_on_after_the_end_of_text_token(workload: Workload) -> None:
    """Id 0, drawn once in 257 at so high a temperature; a sample that ended there would be filled up with it."""
    uniform = replace(workload, temperature=100.0, max_new_tokens=200, batch_size=16)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        written = plain.arm(uniform).decode()
    assert [len(ids) for ids in written] == [200] * 16
    after = [ids[ids.index(0) + 1 :] for ids in written if 0 in ids[:150]]
    assert after, "otherwise going on is not seen"
    assert all(set(ids) != {0} for ids in after)


def chi_square_p(tokens: list[int], probs: torch.Tensor) -> float:
    """How likely counts at least as uneven are, if the tokens were drawn from these probabilities."""
    counts = np.bincount(tokens, minlength=len(probs)).astype(float)
    kept = (probs > 0).numpy()
    assert counts[~kept].sum() == 0, "an excluded token was drawn"
    expected = len(tokens) * probs.double().numpy()[kept]
    return float(scipy.stats.chisquare(counts[kept], expected * (counts.sum() / expected.sum())).pvalue)


def test_both_baselines_draw_from_our_distribution() -> None:
    """Chi-square on 8,000 draws; the generators are fixed. With free ones it would fail twice in a thousand."""
    model, draws = lively_model(4.0), 8_000
    with torch.no_grad():
        logits_BV = model(torch.tensor([[0]])).logits[:, -1]
    probs = distribution(logits_BV, Sampling(temperature=0.8, top_k=20))[0]
    theirs = authors.next_token(logits_BV.expand(draws, -1), 0.8, 20, torch.Generator().manual_seed(1))
    assert chi_square_p(theirs[:, 0].tolist(), probs) > 1e-3
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = plain.generate(
            model, torch.zeros(draws, 1, dtype=torch.long), max_new_tokens=1, temperature=0.8, top_k=20
        )
    assert chi_square_p(made[:, 1].tolist(), probs) > 1e-3


def test_the_authors_estimate_is_our_loss_on_the_same_windows(workload: Workload) -> None:
    setup, block, count = build(ours.configuration(workload, "exact")), 24, 7
    (ids,) = (text.ids for text in setup.encoded.values())
    estimate = authors.estimate_loss(
        setup.learner.loaded.model,
        torch.tensor(ids),
        block=block,
        num_windows=count,
        generator=torch.Generator().manual_seed(5),
    )
    again = torch.Generator().manual_seed(5)
    starts = [int(torch.randint(len(ids) - block, (1,), generator=again)) for _ in range(count)]
    windows = [Window(s, s + block + 1, s + 1) for s in starts]
    plans = {"text": Plan(Protocol("windows", block + 1, count), ids, windows, 1, 1)}
    loss = replace(setup, plans=plans).losses(0)["text"]
    assert loss.num_tokens == block * count
    assert estimate == pytest.approx(loss.nll_nats, abs=1e-5)


@pytest.mark.parametrize("windows_per_pass", [1, 2])
def test_the_plain_loss_is_our_loss(workload: Workload, windows_per_pass: int) -> None:
    loaded, our_arm = load_model(workload.model), ours.arm(workload, "exact")
    windows = plain.windows(loaded, workload)
    assert windows.shape == (5, 20)
    loss = plain.mean_loss(loaded.model, windows, windows_per_pass)
    assert loss == pytest.approx(our_arm.evaluate(), abs=1e-5)
    assert loss == pytest.approx(plain.arm(workload).evaluate(), abs=1e-5)


def test_the_updates_of_all_ways_are_on_one_loss(workload: Workload) -> None:
    """The authors' later losses equal ours too: their update, with nanoGPT's settings, is ours.

    The second loss does not depend on Adam's moments yet, the fourth does.
    """
    theirs, library, own = authors.arm(workload), plain.arm(workload), ours.arm(workload, "exact")
    losses = [own.update() for _ in range(4)]
    assert [theirs.update() for _ in range(4)] == pytest.approx(losses, abs=1e-5)
    assert library.update() == pytest.approx(losses[0], abs=1e-5)
    assert losses[1] < losses[0] - 0.01, "otherwise no update is seen"


def test_our_numerics_are_settings_of_a_run(workload: Workload) -> None:
    exact, fast = (ours.configuration(workload, numerics) for numerics in ours.NUMERICS)
    assert exact == override(exact, {"numerics": "exact"})
    assert fast == override(exact, {"numerics": "fast"}) != exact


def test_the_baselines_use_the_default_adamw() -> None:
    """Neither fused nor batched, which PyTorch leaves off on a CPU unless asked."""
    model = tiny_model(1).model
    for group in authors.make_optimizer(model, 1e-3).param_groups:
        assert not group["fused"]
        assert not group["foreach"]


def test_a_text_shorter_than_a_block_is_taken_whole() -> None:
    inputs, targets = authors.random_block(torch.tensor([3, 1, 4]), 16, torch.Generator().manual_seed(1))
    assert (inputs.tolist(), targets.tolist()) == ([[3, 1]], [[1, 4]])


@pytest.mark.parametrize("name", ["authors", "transformers", "exact", "fast"])
def test_every_way_does_the_whole_turn(workload: Workload, name: str) -> None:
    arm = suite.make_arm(name, replace(workload, batch_size=2))
    phases = arm.iteration()
    assert set(phases) - {"measure"} == {"evaluate", "generate", "update"}
    assert all(seconds > 0 for seconds in phases.values())
    written = arm.decode()
    assert [len(ids) for ids in written] == [30, 30]


def test_the_authors_turn_evaluates_twice_and_trains_on_one_block(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates, shapes = [], []
    monkeypatch.setattr(authors, "estimate_loss", lambda *_, **__: estimates.append(1))
    monkeypatch.setattr(authors, "update", lambda model, optimizer, inputs, targets, clip: shapes.append(inputs.shape))
    authors.arm(workload).iteration()
    assert len(estimates) == 2
    assert shapes == [(1, 16)]


# Models by shape.


GPT2_SHAPES = ("gpt2-shape", "gpt2-medium-shape", "gpt2-large-shape", "gpt2-xl-shape")


@pytest.mark.parametrize(("shape", "name"), list(zip(GPT2_SHAPES, GPT2_PARAMETERS, strict=True)))
def test_shapes_have_the_parameters_of_gpt2(shape: str, name: str) -> None:
    assert size_of(skeleton(SHAPES[shape])).parameters == GPT2_PARAMETERS[name]


def test_the_llama_shape_is_that_of_smollm2() -> None:
    size = size_of(skeleton(SHAPES["smollm2-shape"]))
    assert size.parameters == 134_515_008
    assert (size.kv_width, size.attention_width) == (192, 576)


SMALL = {
    "gpt2": Shape(1, 16, 2, 300, context=64),
    "llama": Shape(1, 16, 2, 300, context=64, family="llama", mlp_width=24, kv_heads=1),
}


@pytest.mark.parametrize("family", SMALL)
def test_a_shape_is_a_model_folder_with_seeded_weights(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL[family])
    loaded = load_model(locate("small-shape", tmp_path, 1))
    same, other = make_model(SMALL[family], 1).model, make_model(SMALL[family], 2).model
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in same.state_dict().items())
    assert not all(torch.equal(state[name], tensor) for name, tensor in other.state_dict().items())
    assert loaded.vocab_size == loaded.tokenizer.vocab_size == 300
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("één walvis\n")) == "één walvis\n"
    assert all(loaded.tokenizer.decode([token]) for token in range(300)), "every id has a text"
    assert locate("builtin:nano", tmp_path, 1) == "builtin:nano"


# Costs.

# One parameter read, ten in the layers, four for the logits, and so on: small enough to count by hand.
SIZE = Size(
    parameters=100,
    read_parameters=50,
    body_parameters=10,
    head_parameters=4,
    layers=2,
    attention_width=3,
    kv_width=1,
)
WORK = Workload("any", max_new_tokens=3, window_tokens=4, num_windows=5)
SLOW_READS, SLOW_PRODUCTS = Rates(8.0, 1e12, 4), Rates(1e12, 2.0, 4)


def test_size_of_gpt2_by_hand() -> None:
    size = size_of(skeleton(SHAPES["gpt2-shape"]))
    assert size.body_parameters == 12 * 12 * 768**2
    assert size.head_parameters == 50257 * 768
    assert size.read_parameters == size.parameters - 1024 * 768, "positions are looked up by row"
    assert size.training_bytes == 16 * size.parameters


def test_untied_embeddings_are_not_read() -> None:
    untied = size_of(skeleton(SHAPES["smollm2-shape"]))
    assert untied.read_parameters == untied.parameters, "tied: the table is the output layer too"
    config = skeleton(SHAPES["smollm2-shape"]).config
    config.tie_word_embeddings = False
    with torch.device("meta"):
        size = size_of(type(skeleton(SHAPES["smollm2-shape"]))(config))
    assert size.read_parameters == size.parameters - 49152 * 576
    assert size.head_parameters == 49152 * 576


def test_bytes_of_decoding_by_hand() -> None:
    """Weights 50 × 4 a token; keys and values of 1, 2 and 3 positions: 2 × 2 layers × 1 × 4 bytes a position."""
    assert decode_bytes(SIZE, WORK, 4) == 3 * 200 + 16 * (1 + 2 + 3)
    assert decode_bytes(SIZE, replace(WORK, batch_size=2), 4) == 3 * 200 + 2 * 16 * (1 + 2 + 3)
    assert generate_floor_s(SIZE, WORK, SLOW_READS) == pytest.approx((3 * 200 + 16 * 6) / 8)


def test_operations_of_decoding_by_hand() -> None:
    """A token is 2 × 14 operations and, for each position read, 4 × 2 layers × 3; cropped ones are whole windows."""
    assert generate_floor_s(SIZE, WORK, SLOW_PRODUCTS) == pytest.approx((3 * 28 + 24 * (1 + 2 + 3)) / 2)
    crop = replace(WORK, context=2, context_mode="crop")  # the third token reads two positions: 2 × 10 each, 3 pairs
    assert generate_floor_s(SIZE, crop, SLOW_PRODUCTS) == pytest.approx((2 * 28 + 24 * 3 + 2 * (20 + 4) + 24 * 3) / 2)


def test_operations_of_evaluation_and_update_by_hand() -> None:
    window = 2 * 14 * 4 + 24 * 10  # four positions, ten pairs
    assert evaluate_flops(SIZE, WORK) == 5 * window
    sequence = 2 * 14 * 3 + 24 * 6
    assert update_floor_s(SIZE, WORK, Rates(7.0, 2.0, 4)) == pytest.approx(3 * sequence / 2 + 28 * 100 / 7)
    assert floors(SIZE, WORK, SLOW_PRODUCTS)["evaluate"] == 5 * window / 2


def test_the_floor_of_gpt2_is_that_of_the_specification() -> None:
    """30 GB/s, 0.25 and 2.0 TFLOP/s: 3.3 s and 1.7 s to write, 1.3 s to evaluate, 0.1 + 0.1 s to update."""
    size, work = size_of(skeleton(SHAPES["gpt2-shape"])), Workload("gpt2-shape")
    ceilings = Ceilings(30e9, 0.25e12, 2.0e12, {})
    exact, fast = (floors(size, work, rates_for(dtype, ceilings)) for dtype in ("float32", "bfloat16"))
    assert exact["generate"] == pytest.approx(3.3, abs=0.1)
    assert fast == pytest.approx({"generate": 1.7, "evaluate": 1.3, "update": 0.2}, abs=0.1)


def test_typical_ceilings_are_medians() -> None:
    several = [Ceilings(b, f, 2 * f, {}) for b, f in ((1.0, 9.0), (3.0, 7.0), (2.0, 8.0))]
    assert typical(several) == Ceilings(2.0, 8.0, 16.0, {})


# Timing.


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_runs_alternate_and_warm_up_runs_do_not_count() -> None:
    clock, order, rounds = Clock(), [], []

    def task(name: str, seconds: float):
        def run() -> int:
            order.append(name)
            clock.now += seconds + len(order)
            return len(order)

        return run

    found = alternate({"a": task("a", 10.0), "b": task("b", 20.0)}, 2, warmups=1, clock=clock, on_round=rounds.append)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [Timed(14.0, 4), Timed(15.0, 5)], "b": [Timed(23.0, 3), Timed(26.0, 6)]}
    assert rounds == [1, 2, 3]


def test_spread_by_hand() -> None:
    found = spread([4.0, 1.0, 3.0, 2.0, 9.0])
    assert (found.median, found.least, found.greatest) == (3.0, 1.0, 9.0)
    assert (found.lower_quartile, found.upper_quartile) == (2.0, 4.0)
    assert found.coverage == 0.9375
    assert found.values == (4.0, 1.0, 3.0, 2.0, 9.0), "in the order of measurement"
    assert spread([2.0]).coverage == 0.0


def test_the_extremes_hold_the_median_as_often_as_stated() -> None:
    """5 draws of a skewed distribution with median ln 2, 4,000 times: the share is within 5 standard errors."""
    draws = np.random.default_rng(1).exponential(size=(4_000, 5))
    held = np.mean((draws.min(1) < math.log(2)) & (draws.max(1) > math.log(2)))
    assert held == pytest.approx(spread([0.0] * 5).coverage, abs=5 * math.sqrt(0.9375 * 0.0625 / 4_000))


def test_ratios_are_of_pairs() -> None:
    found = ratios([10.0, 30.0, 20.0], [5.0, 10.0, 2.0])
    assert found.values == (2.0, 3.0, 10.0)
    assert found.median == 3.0, "not the ratio of the medians, which is 4"


def test_peak_memory_is_that_of_the_child_alone() -> None:
    here = b"x" * 600_000_000
    peak = peak_rss_bytes(operator.mul, b"x", 200_000_000)
    assert len(here) == 600_000_000
    assert 200_000_000 < peak < 500_000_000


# The probe.


def test_rates_are_amounts_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second a kernel: 4 kB twice a second, and the operations of the largest product."""
    ticks = iter(range(10_000))
    found = make_probe(2, 4096, clock=lambda: next(ticks) / 2)()
    assert found.read_bytes_per_s == 2 * 4096
    assert found.float32_flops_per_s == found.bfloat16_flops_per_s == 2 * 2 * 2048**3
    assert {len(rate.values) for rate in found.rates.values()} == {2}
    assert [name for name in found.rates if name.startswith("read")] == ["read sum", "read dot", "read matrix-vector"]
    assert "bfloat16 1024x768x3072" in found.rates


def test_the_machine_has_a_fingerprint_of_its_hardware() -> None:
    found = machine()
    assert found["fingerprint"] == machine()["fingerprint"]
    assert set(found) >= {"cpu", "cores", "threads", "memory_bytes", "caches", "instruction_sets", "packages", "git"}


# Results.


def timed(*seconds: float, **phases: tuple[float, ...]) -> list[Timed[dict[str, float]]]:
    return [Timed(s, {name: values[i] for name, values in phases.items()}) for i, s in enumerate(seconds)]


def result_by_hand() -> BenchResult:
    phases = ("evaluate", "generate", "update")
    runs = {
        "authors": timed(40.0, 60.0, **dict.fromkeys(phases, (20.0, 30.0))),
        "transformers": timed(10.0, 30.0, **dict.fromkeys(phases, (2.0, 3.0))),
        "fast": timed(5.0, 6.0, **dict.fromkeys((*phases, "measure"), (1.0, 2.0))),
    }
    ceilings = [CEILINGS, replace(CEILINGS, read_bytes_per_s=2e9, bfloat16_flops_per_s=1e10)]
    return BenchResult(
        task="iteration",
        model="any",
        n=2,
        date="2026-01-31T00:00:00+00:00",
        workload=WORK,
        size=SIZE,
        machine={"cpu": "a cpu", "cores": 2, "threads": 1, "fingerprint": "abc"},
        ceilings={
            "read_bytes_per_s": spread([30e9]),
            "float32_flops_per_s": spread([0.25e12]),
            "bfloat16_flops_per_s": spread([2e12]),
        },
        probes=ceilings,
        floor_s=median_floors("iteration", SIZE, WORK, ceilings),
        variants=variant_results("iteration", WORK, SIZE, runs, ceilings, {"fast": 3_000_000_000}),
    )


def test_figures_of_a_series_by_hand() -> None:
    variants = result_by_hand().variants
    fast, slow = variants["fast"], variants["authors"]
    assert fast.ratio_vs["authors"].values == (8.0, 10.0)
    assert fast.ratio_vs["transformers"].values == (2.0, 5.0)
    assert slow.ratio_vs == {}
    assert fast.tokens_per_s is not None
    assert fast.tokens_per_s.values == (3.0, 1.5)
    assert fast.decode_bandwidth_share is not None
    bytes_read = 3 * 50 * 2 + 8 * 6  # in two bytes a weight
    assert fast.decode_bandwidth_share.values == pytest.approx((bytes_read / 1e9, bytes_read / 2 / 2e9))
    assert fast.evaluate_peak_share is not None
    assert slow.evaluate_peak_share is not None
    flops = 5 * (2 * 14 * 4 + 24 * 10)
    assert fast.evaluate_peak_share.values == pytest.approx((flops / 4e10, flops / 2 / 1e10))
    assert slow.evaluate_peak_share.values == pytest.approx((2 * flops / 20 / 1e10, 2 * flops / 30 / 1e10))


def test_a_task_of_one_phase_has_the_figures_of_that_phase() -> None:
    found = variant_results("decode", WORK, SIZE, {"exact": timed(2.0)}, [CEILINGS], {})["exact"]
    assert list(found.seconds_by_phase) == ["generate"]
    assert found.tokens_per_s is not None
    assert found.tokens_per_s.median == 1.5
    assert found.evaluate_peak_share is None, "unknown, not 0"
    assert found.peak_rss_bytes is None
    assert list(median_floors("decode", SIZE, WORK, [CEILINGS])["float32"]) == ["generate"]


def test_plain_numbers_of_the_json() -> None:
    tree = loads(json.dumps(to_json(result_by_hand())))
    assert tree["ratio_vs_authors"] == 9.0
    assert tree["ratio_vs_transformers"] == 3.5
    assert tree["tokens_per_s"] == 2.25
    assert tree["seconds_by_phase"] == {"evaluate": 1.5, "generate": 1.5, "update": 1.5, "measure": 1.5}
    assert tree["peak_rss_bytes"] == 3_000_000_000
    assert tree["evaluate_peak_share"] == pytest.approx((1760 / 4e10 + 1760 / 2e10) / 2)
    assert tree["decode_bandwidth_share"] is None, "that of exact, which was not measured"
    assert tree["headline"]["decode_bandwidth_share"] == "exact"
    assert tree["variants"]["authors"]["seconds"]["values"] == [40.0, 60.0]
    assert tree["probes"][1]["read_bytes_per_s"] == 2e9
    assert headline({}) == dict.fromkeys(tree["headline"])


def table_of(result: BenchResult) -> list[str]:
    stream = io.StringIO()
    benching.print_bench(result, Console(file=stream, width=140, color_system=None))
    return stream.getvalue().splitlines()


def test_the_table_has_the_floor_beside_each_figure() -> None:
    lines = table_of(result_by_hand())
    assert lines[0] == "iteration, any (100 parameters), 2026-01-31T00:00:00+00:00"
    assert lines[1] == "a cpu, 2 cores, threads: 1, machine abc"
    assert lines[2] == "ceilings: reads 30.0 GB/s, matrix products 0.25 TFLOP/s in float32, 2 in bfloat16"
    assert lines[3].split() == ["authors", "transformers", "fast", "floor", "fp32", "floor", "bf16"]
    rows = {line[:26].strip(): line[26:].split() for line in lines[4:-1]}
    # 696 bytes at 1.5 GB/s; operations stay below: 3 × 28 + 24 × 6 at 10 GFLOP/s; the median ceilings.
    assert rows["generate 3 tokens, s"] == ["25", "(20–30)", "2.5", "(2–3)", "1.5", "(1–2)", "4.6e-07", "2.3e-07"]
    assert rows["evaluate 20 tokens, s"] == ["25", "(20–30)", "2.5", "(2–3)", "1.5", "(1–2)", "1.8e-07", "7.0e-08"]
    assert rows["metrics, s"] == ["–", "–", "1.5", "(1–2)", "–", "–"]
    assert rows["whole step, s"][:6] == ["50", "(40–60)", "20", "(10–30)", "5.5", "(5–6)"]
    assert rows["× faster than authors"] == ["–", "3", "(2–4)", "9", "(8–10)", "–", "–"]
    assert rows["× faster than transformers"] == ["–", "–", "3.5", "(2–5)", "–", "–"]
    assert rows["peak memory, GB"] == ["–", "–", "3.00", "0.00", "–"]
    assert "on two texts" in lines[-1]
    assert "a figure to publish takes 5 runs" in lines[-1]
    published = replace(result_by_hand(), n=5)
    assert "publish" not in table_of(published)[-1]


def test_the_table_of_one_phase_has_no_rows_without_figures() -> None:
    result = result_by_hand()
    variants = variant_results("update", WORK, SIZE, {"exact": timed(2.0)}, [CEILINGS], {})
    floor = median_floors("update", SIZE, WORK, [CEILINGS])
    lines = table_of(replace(result, task="update", variants=variants, floor_s=floor))
    assert [line.split("  ")[0] for line in lines[4:-1]] == ["one update, s"]


# The series.


@pytest.mark.parametrize("task", ["iteration", "decode", "evaluate", "update"])
def test_a_series_measures_every_variant(workload: Workload, task) -> None:
    notes: list[str] = []
    result = suite.bench(
        task,
        workload,
        n=2,
        variants=("fast", "authors", "transformers", "exact"),
        with_memory=False,
        note=notes.append,
        probe=lambda: CEILINGS,
    )
    assert list(result.variants) == ["authors", "transformers", "exact", "fast"]
    assert {len(v.seconds.values) for v in result.variants.values()} == {2}
    assert list(result.variants["fast"].ratio_vs) == ["authors", "transformers", "exact"]
    assert len(result.probes) == 2, "the warm-up's does not count"
    assert notes[-1] == "round 3 of 3 done"
    assert to_json(result)["ratio_vs_authors"] == result.variants["fast"].ratio_vs["authors"].median


def test_a_result_names_the_shape_and_not_the_folder(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL["gpt2"])
    small = replace(workload, model="small-shape")
    result = suite.bench(
        "decode", small, n=1, variants=("exact",), with_memory=False, note=silent, probe=lambda: CEILINGS
    )
    assert "collapselab-bench" not in json.dumps(to_json(result))
    assert result.workload.model == result.model == "small-shape"


def test_each_way_keeps_its_own_number_of_threads(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that sets the number when it builds a run would else set that of the baselines too."""
    seen = []

    def make(name: str, workload: Workload) -> Arm:
        if name == "exact":
            torch.set_num_threads(2)
        return Arm(lambda: seen.append(torch.get_num_threads()) or [], lambda: 0.0, lambda: 0.0, dict)

    monkeypatch.setattr(suite, "make_arm", make)
    free = replace(workload, threads=None)
    try:
        calls = [suite.timed_call(name, "decode", free) for name in ("exact", "authors")]
        for call in calls:
            call()
    finally:
        torch.set_num_threads(1)
    assert seen == [2, 1]


def test_wrong_names_and_too_little_memory_are_told(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(model: str, *variants: str) -> None:
        work = replace(workload, model=model)
        suite.bench("iteration", work, n=1, variants=variants, with_memory=False, note=silent)

    with pytest.raises(InputError, match=r"unknown variant 'fats'(.|\n)*'fast'"):
        run("gpt2-shape", "fats")
    with pytest.raises(InputError, match="no variant"):
        run("gpt2-shape")
    with pytest.raises(InputError, match=r"unknown shape 'gpt-shape'(.|\n)*'gpt2-shape'"):
        run("gpt-shape", "exact")
    with pytest.raises(InputError, match="unknown model"):
        run("builtin:nan", "exact")
    monkeypatch.setattr(suite, "available_bytes", lambda: 3_000_000_000)
    with pytest.raises(InputError, match=r"2 variants of 124 M parameters need 4\.0 GB, 3\.0 GB are free"):
        run("gpt2-shape", "exact", "fast")


def test_values_that_are_no_seconds_are_not_phases() -> None:
    assert seconds_by_phase({"seconds_update": 0.5, "step": 3, "seconds_other": None}) == {"update": 0.5}


def test_the_training_sequence_begins_with_the_prompt(workload: Workload) -> None:
    sequence = update_sequence(workload, BYTE_VOCAB, 7)
    assert sequence[0] == 7
    assert len(sequence) == 31
    assert max(sequence) < BYTE_VOCAB


# The command.


def test_the_command_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def measure(task, workload, **options) -> BenchResult:
        asked.append((task, workload, options["n"], options["variants"], options["with_memory"]))
        return result_by_hand()

    monkeypatch.setattr(suite, "bench", measure)
    benching.bench("decode", model="builtin:nano", n=3, threads=2, variants="exact, fast", skip_memory=True, json=True)
    assert asked == [("decode", Workload("builtin:nano", threads=2), 3, ["exact", "fast"], False)]
    assert loads(capsys.readouterr().out)["ratio_vs_authors"] == 9.0
    benching.bench()
    assert asked[1] == ("iteration", Workload("gpt2-shape"), 5, ["authors", "transformers", "exact", "fast"], True)
    assert "× faster than authors" in capsys.readouterr().out
    with pytest.raises(InputError, match="n must be at least 1, received 0"):
        benching.bench(n=0)


# Growth.


def test_the_points_of_growth() -> None:
    found = growth.cases("gpt2-shape", sizes=("a", "b"), new_tokens=(100, 1023), batch_sizes=(1, 4), threads=2)
    assert [
        (c.panel, c.model, c.workload.context_mode, c.workload.max_new_tokens, c.workload.batch_size) for c in found
    ] == [
        ("parameters", "a", "cache", 200, 1),
        ("parameters", "b", "cache", 200, 1),
        ("new tokens", "gpt2-shape", "cache", 100, 1),
        ("new tokens", "gpt2-shape", "cache", 1023, 1),
        ("new tokens", "gpt2-shape", "crop", 100, 1),
        ("new tokens", "gpt2-shape", "crop", 1023, 1),
        ("batch size", "gpt2-shape", "cache", 200, 1),
        ("batch size", "gpt2-shape", "cache", 200, 4),
    ]
    assert {case.workload.threads for case in found} == {2}
    assert [case.workload.context for case in found] == [None] * 4 + [100] * 2 + [None] * 2


@pytest.fixture
def small_cases(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> list[growth.Case]:
    monkeypatch.setitem(models.SHAPES, "small-shape", SMALL["gpt2"])
    small = replace(workload, model="small-shape")
    crop = replace(small, context=10, context_mode="crop")
    return [
        growth.Case("parameters", "small-shape", small),
        growth.Case("new tokens", "small-shape", crop),
    ]


def test_growth_is_measured_written_and_drawn(small_cases: list[growth.Case], tmp_path: Path) -> None:
    points, ceilings = growth.grow(small_cases, ("exact", "fast"), n=2, note=silent, probe=lambda: CEILINGS)
    assert [(p.panel, p.numerics, p.x) for p in points] == [
        ("parameters", "exact", points[0].parameters),
        ("parameters", "fast", points[0].parameters),
        ("new tokens", "exact", 30),
        ("new tokens", "fast", 30),
    ]
    first = points[0]
    assert first.median_s is not None
    assert first.all_s is not None
    assert first.median_s == pytest.approx(sum(map(float, first.all_s.split())) / 2, rel=1e-4)
    size = suite.model_size("small-shape")
    assert first.floor_s == sum(floors(size, small_cases[0].workload, rates_for("float32", ceilings)).values())
    assert points[1].floor_s < first.floor_s, "bfloat16"
    table, tree = growth.save(points, ceilings, tmp_path)
    with table.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["median_s"]) for row in rows] == [point.median_s for point in points]
    assert loads(tree.read_text(encoding="utf-8"))["ceilings"]["read_bytes_per_s"] == 1e9
    figure = growth_figure(points).to_dict()
    assert len(figure["hconcat"]) == 2, "a panel without points is left out"
    drawn = [row for rows in figure["datasets"].values() for row in rows]
    assert {row["median"] for row in drawn} == {point.median_s for point in points}
    assert {row["series"] for row in drawn} == {"exact", "fast", "exact, crop", "fast, crop"}


def test_what_memory_does_not_hold_is_a_prediction(
    small_cases: list[growth.Case], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "available_bytes", lambda: growth.OVERHEAD_BYTES)
    notes: list[str] = []
    batch = growth.Case("batch size", "small-shape", replace(small_cases[0].workload, batch_size=2))
    cases = [small_cases[0], batch]
    points, ceilings = growth.grow(cases, ("exact",), n=2, note=notes.append, probe=lambda: CEILINGS)
    assert [(p.n, p.median_s, p.all_s) for p in points] == [(0, None, None)] * 2
    assert points[1].x == 2
    assert points[1].floor_s > points[0].floor_s > 0
    assert notes == ["small-shape needs more memory than is free: its floor alone is written"]
    table, _ = growth.save(points, ceilings, tmp_path)
    with table.open(encoding="utf-8") as handle:
        assert next(csv.DictReader(handle))["median_s"] == ""
    growth_figure(points).to_dict()


def test_growth_knows_our_numerics_only(small_cases: list[growth.Case]) -> None:
    with pytest.raises(InputError, match="unknown numerics 'authors'"):
        growth.grow(small_cases, ("authors",), n=1, note=silent, probe=lambda: CEILINGS)


def test_the_growth_command_writes_a_folder(
    small_cases: list[growth.Case],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def cases(model: str, **options: object) -> list[growth.Case]:
        asked.append((model, options))
        return small_cases[:1]

    monkeypatch.setattr(growth, "cases", cases)
    monkeypatch.setattr(growth, "make_probe", lambda: lambda: CEILINGS)
    out = tmp_path / "grown"
    benching.bench("growth", model="builtin:nano", n=1, variants="authors,exact", sizes="small-shape", out=out)
    assert asked == [("builtin:nano", {"sizes": ["small-shape"], "threads": None})]
    assert {path.name for path in out.iterdir()} == {f"growth.{ending}" for ending in ("csv", "json", "svg", "png")}
    assert capsys.readouterr().out.split()[0] == str(out / "growth.csv")


def test_a_variant_without_ratios_has_an_empty_cell() -> None:
    nothing = VariantResult(spread([1.0]), {}, {}, None, None, None, None)
    lines = table_of(replace(result_by_hand(), variants={"exact": nothing}))
    assert [line.split("  ")[0] for line in lines[4:-1]] == ["whole step, s"]
