"""One update against a hand-written reference, and what the training settings put into a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from collapselab.config.schema import Optimizer, Training
from collapselab.randomness import rng
from collapselab.step.batches import IGNORED, Batch, make_batch, make_optimizer, update
from collapselab.step.learner import TokenLosses
from collapselab.testing import tiny_model

SEQUENCE = [0, *range(10, 60)]


def batch_of(sequences: Sequence[Sequence[int]], num_prompt: int = 1, **settings: object):
    windows = [rng(1, "window", 0, i) for i in range(len(sequences))]
    return make_batch(sequences, num_prompt, Training.model_validate(settings), windows)


def batch_nll(model, batch: Batch) -> torch.Tensor:
    return TokenLosses(model(input_ids=batch.inputs_BT).logits, batch.targets_BT, batch.inputs_BT).mean


def reference_nll(model, ids: list[int], first_target: int) -> torch.Tensor:
    """Mean NLL of the tokens starting at `first_target`, by one forward pass and a sum over positions."""
    logp_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(logp_TV[t - 1, ids[t]] for t in range(first_target, len(ids))) / (len(ids) - first_target)


def test_one_adamw_update_equals_the_reference() -> None:
    """Forward, cross-entropy on the generated tokens, clip, AdamW with decay on tensors of two or more dimensions."""
    settings = Optimizer(lr=1e-3, weight_decay=0.1, clip=0.5)
    learner, mirror = tiny_model(2).model, tiny_model(2).model
    optimizer = make_optimizer(learner, settings)
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in mirror.named_parameters()}
    for t in (1, 2, 3):
        ids = [0, *range(10 * t, 10 * t + 40)]
        loss = batch_nll(learner, batch_of([ids]))
        expected = reference_nll(mirror, ids, 1)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
        stats = update(optimizer, loss, settings.clip)
        mirror.zero_grad()
        expected.backward()
        norm = math.sqrt(sum((p.grad**2).sum().item() for p in mirror.parameters()))
        assert stats.grad_norm == pytest.approx(norm, rel=1e-5)
        assert norm > 0.5, "the clip must be at work"
        change = 0.0
        with torch.no_grad():
            for name, p in mirror.named_parameters():
                gradient = p.grad * min(1.0, 0.5 / (norm + 1e-6))
                first, second = moments[name]
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.95).add_(gradient**2, alpha=0.05)
                decay = 1e-3 * 0.1 * p if p.dim() >= 2 else 0.0
                step = 1e-3 * (first / (1 - 0.9**t)) / ((second / (1 - 0.95**t)).sqrt() + 1e-8)
                change += ((decay + step) ** 2).sum().item()
                p -= decay + step
        assert stats.update_norm == pytest.approx(math.sqrt(change), rel=1e-4)
        for (name, ours), theirs in zip(learner.named_parameters(), mirror.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0, msg=name)


def test_one_sgd_update_equals_the_reference() -> None:
    settings = Optimizer(name="sgd", lr=0.1, weight_decay=0.0, clip=None, momentum=0.5)
    learner, mirror = tiny_model(2).model, tiny_model(2).model
    optimizer = make_optimizer(learner, settings)
    velocity = [torch.zeros_like(p) for p in mirror.parameters()]
    for _ in range(2):
        update(optimizer, batch_nll(learner, batch_of([SEQUENCE])), None)
        mirror.zero_grad()
        reference_nll(mirror, SEQUENCE, 1).backward()
        with torch.no_grad():
            for p, v in zip(mirror.parameters(), velocity, strict=True):
                v.mul_(0.5).add_(p.grad)
                p -= 0.1 * v
    for ours, theirs in zip(learner.parameters(), mirror.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_the_prompt_is_context_and_no_target() -> None:
    batch = batch_of([[1, 2, 3, 4, 5]], num_prompt=3)
    assert batch.inputs_BT.tolist() == [[1, 2, 3, 4]]
    assert batch.targets_BT.tolist() == [[IGNORED, IGNORED, 4, 5]]


def test_prompt_in_loss_scores_all_but_the_first_token() -> None:
    batch = batch_of([[1, 2, 3, 4, 5]], num_prompt=3, prompt_in_loss=True)
    assert batch.targets_BT.tolist() == [[2, 3, 4, 5]]


def test_window_is_one_random_block_that_moves_with_the_step() -> None:
    starts = set()
    for step in range(200):
        batch = make_batch([SEQUENCE], 1, Training(window=10, prompt_in_loss=True), [rng(1, "window", step)])
        inputs, targets = batch.inputs_BT[0].tolist(), batch.targets_BT[0].tolist()
        start = SEQUENCE.index(inputs[0])
        assert inputs == SEQUENCE[start : start + 10]
        assert targets == SEQUENCE[start + 1 : start + 11]
        starts.add(start)
    # 41 places; a given one is missed by 200 draws with probability 0.7 %.
    assert {0, 40} <= starts
    assert len(starts) > 35


def test_window_never_covers_prompt_targets_unless_asked() -> None:
    targets = {
        t
        for step in range(100)
        for t in make_batch([SEQUENCE], 30, Training(window=5), [rng(1, "window", step)]).targets_BT[0].tolist()
    }
    assert targets <= set(SEQUENCE[30:])


def test_a_window_longer_than_the_targets_ends_with_them_and_begins_in_the_prompt() -> None:
    batch = batch_of([SEQUENCE], num_prompt=46, window=20)
    assert batch.inputs_BT[0].tolist() == SEQUENCE[-21:-1]
    assert batch.targets_BT[0].tolist() == [IGNORED] * 15 + SEQUENCE[46:]
    exact = batch_of([SEQUENCE], num_prompt=41, window=10)
    assert exact.targets_BT[0].tolist() == SEQUENCE[41:]


def test_a_sequence_no_longer_than_its_prompt_keeps_one_target() -> None:
    assert batch_of([[1, 2, 3]], num_prompt=5).targets_BT.tolist() == [[IGNORED, 3]]


def test_padding_is_not_trained_on_and_the_mean_is_over_tokens() -> None:
    """A batch of 4 and 30 tokens: the mean over 34 tokens, not of two means, and not over the padding."""
    model = tiny_model(2).model
    short, long = SEQUENCE[:5], SEQUENCE[:31]
    loss = batch_nll(model, batch_of([short, long]))
    expected = (4 * reference_nll(model, short, 1) + 30 * reference_nll(model, long, 1)) / 34
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
