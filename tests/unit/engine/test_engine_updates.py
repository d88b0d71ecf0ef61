"""Updates, and engines after them: torch's fused AdamW changes weights without incrementing their version."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from collapselab.config.schema import Optimizer
from collapselab.engine.adamw import adamw_step, can_step
from collapselab.engine.interface import Precision
from collapselab.engine.library import library
from collapselab.engine.rounded import RoundedModel
from collapselab.inputs.models import LoadedModel
from collapselab.step.batches import Batch, make_optimizer, update
from collapselab.testing import BYTE_VOCAB, tiny_model
from engines import ENGINES, MODELS, batch_nll, engine_of, engines_of, llama, tokens

OPTIMISERS = {
    "fused AdamW": (Optimizer(lr=1e-2), False),
    "AdamW by the kernels": (Optimizer(lr=1e-2), True),
    "SGD": (Optimizer(name="sgd", lr=0.3), False),
}
KINDS = [(name, precision) for name in ENGINES for precision in ("float32", "bfloat16")]
KINDS.remove(("plain", "bfloat16"))  # the plain engine knows float32 only


@pytest.mark.parametrize(("settings", "by_kernels"), OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize(("name", "precision"), KINDS)
@pytest.mark.parametrize("make", [lambda: tiny_model(3, context=64), llama], ids=["gpt2", "llama"])
def test_engines_read_the_weights_of_the_last_update(
    make: Callable[[], LoadedModel], name: str, precision: Precision, settings: Optimizer, by_kernels: bool
) -> None:
    """An engine made before the update equals one made afterwards, bit for bit, in writing and in scoring."""
    model = make().model
    engine, scorer = engines_of(model, name, precision)
    kernels = library() if by_kernels else None
    if by_kernels and kernels is None:
        pytest.skip("no kernels on this machine")
    optimizer = make_optimizer(model, settings)
    assert can_step(optimizer) or not by_kernels
    ids = torch.randint(0, BYTE_VOCAB, (2, 30), generator=torch.Generator().manual_seed(0))
    first, first_written = scorer.score(ids, 1), engine.reread(ids.tolist())
    for _ in range(3):
        update(optimizer, batch_nll(model, Batch(ids[:, :-1], ids[:, 1:])), 1.0, kernels=kernels)
        for told in (engine, scorer):
            told.weights_changed()
        scored, written = scorer.score(ids, 1), engine.reread(ids.tolist())
        fresh, fresh_scorer = engines_of(model, name, precision)
        assert torch.equal(scored, fresh_scorer.score(ids, 1))
        assert torch.equal(written, fresh.reread(ids.tolist()))
    assert scored.mean() < first.mean() - 0.1
    assert (written - first_written).abs().max() > 0.1
    plain = engine_of(model, "plain")
    # bfloat16 has 8 bits: a few thousandths of a logit.
    torch.testing.assert_close(
        scored.mean(), plain.score(ids, 1).mean(), atol=1e-5 if precision == "float32" else 5e-3, rtol=0
    )
    tolerance = 1e-5 if precision == "float32" else 0.02 * written.abs().max().item()
    torch.testing.assert_close(written, plain.reread(ids.tolist()), atol=tolerance, rtol=0)


def test_the_kernels_step_is_that_of_adamw(native: None) -> None:
    """Six steps, clipped and not, with and without decay; the state is torch's, so either can continue."""
    for clip in (0.3, None):
        ours, theirs = tiny_model(1).model, tiny_model(1).model
        settings = Optimizer(lr=1e-2, weight_decay=0.1)
        mine, reference_optimizer = make_optimizer(ours, settings), make_optimizer(theirs, settings)
        assert can_step(mine)
        ids = torch.tensor([tokens(60)])
        for step in range(6):
            theirs(ids, labels=ids).loss.backward()
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                a.grad = b.grad.clone()
            before = [p.detach().clone() for p in theirs.parameters()]
            norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), torch.inf if clip is None else clip)
            reference_optimizer.step()
            if step == 3:  # torch takes a step in between
                torch.nn.utils.clip_grad_norm_(ours.parameters(), torch.inf if clip is None else clip)
                mine.step()
            else:
                grad_norm, update_norm, weight_norm = adamw_step(
                    library(), mine, {p: p.grad for p in ours.parameters()}, clip
                )
                changes = [(p - b).flatten() for p, b in zip(theirs.parameters(), before, strict=True)]
                assert grad_norm == pytest.approx(norm.item(), rel=1e-5)
                assert update_norm == pytest.approx(torch.cat(changes).norm().item(), rel=1e-5)
                assert weight_norm == pytest.approx(torch.cat([b.flatten() for b in before]).norm().item(), rel=1e-5)
            theirs.zero_grad()
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_sgd_is_left_to_torch() -> None:
    assert not can_step(make_optimizer(tiny_model(0).model, Optimizer(name="sgd")))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_gradients_of_rounded_copies_are_the_modules(
    make: Callable[[], LoadedModel], is_tied: bool, kernels: bool
) -> None:
    """Against float32, in norm: bfloat16 has 8 bits, so each product is about 0.4 % off."""
    model = make().model
    if not is_tied:
        head = torch.nn.Linear(model.lm_head.in_features, BYTE_VOCAB, bias=False)
        head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).contiguous())
        model.lm_head = head
    ids = torch.tensor([tokens(40), tokens(40, 1)])
    batch = Batch(ids[:, :-1], ids[:, 1:])
    expected_loss = batch_nll(model, batch)
    expected_loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    rounded = RoundedModel(model, library() if kernels else None)
    for _ in range(2):  # nothing is left over from the pass before
        loss = batch_nll(rounded, batch)
        loss.backward()
        gradients = rounded.gradients()
        assert loss.item() == pytest.approx(expected_loss.item(), abs=5e-3)
        assert {id(p) for p in gradients} == {id(p) for p in model.parameters()}
        for name, p in model.named_parameters():
            assert (gradients[p].float() - expected[name]).norm() < 0.03 * expected[name].norm(), name
        model.zero_grad()
