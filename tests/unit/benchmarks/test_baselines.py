"""The baselines compute what the package computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from benchmarks import authors, ours, plain, suite
from benchmarks.workload import Workload
from collapselab.config.overrides import override
from collapselab.config.protocols import Protocol, Window
from collapselab.config.schema import Sampling
from collapselab.engine.sampling import distribution
from collapselab.inputs.models import load_model
from collapselab.step.evaluate import Plan
from collapselab.step.parts import build
from collapselab.testing import tiny_model


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
    plans = {"text": Plan(Protocol("windows", block + 1, count), ids, windows, 1, 1, 1)}
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
